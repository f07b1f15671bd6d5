"""How many operations a training step launches on a GPU, as far as a CPU can count them.

`python -m experiments.benchmarks.operations` counts what torch dispatches in one step under
bfloat16 autocast with the layers that a GPU gets, leaves out what launches no kernel (views, empty
memory), prints the counts and writes `experiments/results/operations.json`. An operation over many
tensors (`_foreach`) counts as one, as a GPU launches it in one kernel or a few; so these are counts
of operations, and not of kernels that were measured. They are with each of the changes taken back,
with all of them taken back, with none, and with Triton's kernels in all layers that can have them:
how many of those a GPU uses, its measurements decide. Several seeds are counted too, each alone and
all in one pass (`stacked`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.benchmarks import stacked
from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.runs.environment import environment
from experiments.training import acceleration, augment, batches, learner
from experiments.training.acceleration import norms, squeeze, triton_calls
from experiments.training.readers import Kept
from space import presets
from space.convert import PixelStatistics
from space.files import write_file
from space.network import build

PRESETS = ("mnasnet_small", "mobilenet_v3_small", "efficientnet_b0", "resnet18")
RESOLUTION, BATCH, CLASSES, SEEDS = 32, 16, 10, 4
RESULT = Path(__file__).parents[1] / "results" / "operations.json"

#: Operations that launch nothing: memory, and other views of it.
_FREE = (
    *("empty", "new_empty", "detach", "alias", "view", "reshape", "permute", "transpose", "t."),
    *("expand", "slice", "select", "unsqueeze", "squeeze", "split", "unbind", "as_strided"),
    *("_unsafe_view", "lift_fresh"),
)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that launch a kernel."""

    count: int = 0

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).removeprefix("aten.")
        self.count += _kernels(name, args)
        return function(*args, **(kwargs or {}))


def _kernels(name: str, args: Sequence[Any]) -> int:
    """How many kernels an operation launches at least.

    A convolution with a bias adds it by another, and its backward pass has one for each gradient
    (torch's `cudnn_convolution` and `convolution_backward`).
    """
    if name.startswith(_FREE):
        return 0
    match name:
        case "convolution.default":
            return 1 + (args[2] is not None)
        case "convolution_backward.default":
            return sum(args[10])
    return 1


def _no_half_weights(_: torch.nn.Module) -> None:
    return None


def _new_line(x: torch.Tensor, statistics: PixelStatistics) -> torch.Tensor:
    """Normalises with constants that the step fills on the device."""
    mean, std = (
        torch.stack([x.new_full((), value, dtype=torch.float32) for value in values])
        for values in statistics.of(x.shape[1])
    )
    scale, shift = 1 / (255 * std), -mean / std
    x = x.to(torch.float32, memory_format=torch.channels_last, copy=True)
    return x.mul_(scale[:, None, None]).add_(shift[:, None, None])


def _unchanged(_: torch.nn.Module) -> int:
    return 0


#: What takes a change back: an object, its attribute, and what stands there instead.
_CHANGES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "weights in bfloat16 at once": (learner, "HalfWeights", _no_half_weights),
    "batch norm without counts": (norms, "stop_counting", _unchanged),
    "constants of normalisation once": (augment, "normalise", _new_line),
    "squeeze as mean and linear": (squeeze, "accelerate", _unchanged),
}


@contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """Inside, learners on the CPU have the layers and the precision of a GPU."""
    gpu = torch.device("cuda")

    def accelerate(network: torch.nn.Module, _: torch.device) -> tuple[str, ...]:
        return acceleration.accelerate(network, gpu)

    with (
        patch.object(learner, "mixes_precision", lambda _: True),
        patch.object(learner, "accelerate", accelerate),
        patch.object(triton_calls, "why_not", lambda: ""),
    ):
        yield


@contextmanager
def _triton_everywhere(counter: _Counter) -> Iterator[None]:
    """Inside, layers call Triton's kernels, which are counted, but not run."""

    def launch(*_: Any, **__: Any) -> None:
        counter.count += 1

    with (
        patch.object(triton_calls, "fits", lambda _: True),
        patch.object(triton_calls, "are_better", lambda *_: True),
        patch.object(triton_calls, "launch", launch),
    ):
        yield


def operations(
    preset: str, without: tuple[str, ...] = (), triton: bool = False, seeds: int = 1
) -> int:
    """Operations of the second step of `preset`, without some of the changes, with `triton`'s
    kernels or torch's, and of several seeds in one pass."""
    counter = _Counter()  # type: ignore[no-untyped-call]
    with ExitStack() as stack:
        stack.enter_context(_as_on_a_gpu())
        if triton:
            stack.enter_context(_triton_everywhere(counter))
        for name in without:
            stack.enter_context(patch.object(*_CHANGES[name]))
        torch.manual_seed(0)
        cpu = torch.device("cpu")
        architecture = presets.load(preset, num_classes=CLASSES)
        networks = [build(architecture).train() for _ in range(seeds)]
        config = TrainConfig(batch_size=BATCH)
        learns = (
            learner.Learner(networks[0], config, cpu)
            if seeds == 1
            else stacked.StackedLearner(networks, config, cpu)
        )
        pixels = np.zeros((BATCH, RESOLUTION, RESOLUTION, 3), np.uint8)
        images = DecodedImages(pixels, np.arange(BATCH), np.arange(BATCH) % CLASSES)
        opened = batches.Batches(images, CLASSES, config, RESOLUTION, cpu, Kept())
        (batch,) = opened.epoch(torch.Generator().manual_seed(0))

        def step() -> None:
            if seeds == 1:
                learns.step(*opened.inputs(batch))
                return
            inputs, targets = zip(*(opened.inputs(batch) for _ in range(seeds)), strict=True)
            learns.step(torch.cat(inputs, 1), torch.stack(targets, 1))

        learns.turn_to(0.01)
        step()
        counter.count = 0
        with counter:
            step()
    return int(counter.count)


def main() -> None:
    """Counts, prints and writes."""
    rows: dict[str, dict[str, int]] = {}
    for preset in PRESETS:
        counts = {"none of the changes": operations(preset, tuple(_CHANGES))}
        counts |= {f"all but {name}": operations(preset, (name,)) for name in _CHANGES}
        counts["all changes"] = operations(preset)
        counts["all changes, all by Triton"] = operations(preset, triton=True)
        counts[f"{SEEDS} seeds, each alone"] = SEEDS * counts["all changes"]
        rows[preset] = counts | {f"{SEEDS} seeds in one pass": operations(preset, seeds=SEEDS)}
    found = {
        "command": "python -m experiments.benchmarks.operations",
        "hardware": environment(),
        "setting": {"resolution": RESOLUTION, "batch": BATCH, "optimizer": "sgd"},
        "operations": rows,
    }
    write_file(RESULT, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for preset, counts in rows.items():
        print(preset)
        for name, count in counts.items():
            print(f"  {name:44} {count:6,}")


if __name__ == "__main__":
    main()
