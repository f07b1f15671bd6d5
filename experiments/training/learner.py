"""A network that learns: its weights, their running average and the optimiser's state."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.training.optimizers import make_optimizer


class Learner:
    """Takes training steps with `network`, on its device and channels last.

    `averaged` is what is measured: a copy whose weights and batch norm statistics are moving
    averages of the network's (or the network itself, where the configuration does not average).
    """

    def __init__(self, network: nn.Module, config: TrainConfig, device: torch.device) -> None:
        self.network = _on(network, device)
        self.averaged = copy.deepcopy(self.network) if config.ema_decay else self.network
        self.optimizer = make_optimizer(self.network, config)
        self.steps = 0
        self._config, self._device = config, device
        self._norms = [
            (module, module.momentum or 0.0)
            for module in self.network.modules()
            if isinstance(module, nn.BatchNorm2d)
        ]
        self._averages, self._average_counts = _by_type(self.averaged)
        self._values, self._counts = _by_type(self.network)

    def step(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """One step of the optimiser at learning rate `rate`; gives the mean loss, on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.steps += 1
        for norm, momentum in self._norms:
            norm.momentum = 1 - warm_decay(self.steps, 1 - momentum)
        with mixed_precision(self._device):
            logits = self.network(images)
        smoothing = self._config.label_smoothing
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._config.clip_norm)
        self.optimizer.step()
        self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        if not self._config.ema_decay:
            return
        decay = warm_decay(self.steps, self._config.ema_decay)
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        if self._counts:
            torch._foreach_copy_(self._average_counts, self._counts)

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on from here: tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes back to where `state` was taken."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def _on(network: nn.Module, device: torch.device) -> nn.Module:
    """The network moved to `device`, channels last in memory.

    In fp32 that trained 1.4 to 2.4 times as fast on a CPU as channels first (measured: Zen 5).
    """
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _by_type(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and statistics, and the integers beside them (batch norm's counts of batches)."""
    tensors = list(network.state_dict().values())
    return (
        [tensor for tensor in tensors if tensor.is_floating_point()],
        [tensor for tensor in tensors if not tensor.is_floating_point()],
    )


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where a GPU has it; on a CPU it halved the speed (measured: Zen 5, oneDNN)."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def warm_decay(step: int, most: float) -> float:
    """The decay of a moving average at step 1, 2 …: min(most, (1 + step) / (10 + step)).

    So an average reaches back over a part of the steps so far, and not to the initial weights.
    Source: TensorFlow's `ExponentialMovingAverage` with `num_updates`. Batch norm's statistics are
    such averages too: in 315 steps at momentum 0.01 they were still far from the images' (measured:
    0.03 more accuracy, and 0.07 to 0.22 after the first of five epochs, CIFAR-10).
    """
    return min(most, (1 + step) / (10 + step))
