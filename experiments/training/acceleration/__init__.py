"""Networks made faster to train: the same parameters, names and function, in other operations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from experiments.training.acceleration import depthwise, kernel_calls, norms, squeeze


class Accelerated(NamedTuple):
    """A network, and what was changed in it, one sentence for each kind of change."""

    network: nn.Module
    changes: tuple[str, ...]


def accelerate(network: nn.Module, device: torch.device) -> Accelerated:
    """`network` itself, changed in place to train faster on `device`, and what was changed.

    Parameters, buffers, their names and the function stay. Layers change their class, so the
    network can be copied and its state saved and loaded as before. What is used depends on the
    device and on torch's number of threads at the time of the call.
    """
    changes = [_change_layout(network), _work_in_place(network)]
    if device.type == "cpu":
        changes += [depthwise.accelerate(network), norms.accelerate(network)]
        if not kernel_calls.available():
            changes.append(f"no compiled loops: {kernel_calls.why_not()}")
    changes += [norms.stop_counting(network), squeeze.accelerate(network)]
    return Accelerated(network, tuple(change for change in changes if change))


def _change_layout(network: nn.Module) -> str:
    """Channels last.

    In float32 on a CPU it trained 1.4 to 2.4 times as fast as channels first (measured: Zen 5).
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return "channels last"


def _work_in_place(network: nn.Module) -> str:
    """ReLUs in place, which change no number and saved 1 to 4 % of a step (measured: Zen 4)."""
    found = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    for module in found:
        module.inplace = True
    return f"ReLU in place ({len(found)} layers)" if found else ""
