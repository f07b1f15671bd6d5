"""Training runs that differ in their seeds alone, in one pass: k networks as one of k times the
channels, whose layers are grouped.

A learner of the stack gives each network the same steps as a learner of its own, to rounding, with
few more operations than one network takes. Nothing trains this way yet: the GPU benchmark measures
whether grouped convolutions are as fast as packed training runs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.training.learner import Learner
from space.blocks import Dropout, PoolShortcut, Residual
from space.network import Network


class StackedLearner(Learner):
    """Takes training steps with `networks`, which have one architecture, at the same rate.

    Images are N × (k · C) × H × W, targets N × k classes, the loss is the sum over networks.
    `generators` draw what each network drops. Raises ValueError for a configuration that looks at
    all weights of a network at once.
    """

    def __init__(
        self, networks: Sequence[Network], config: TrainConfig, device: torch.device
    ) -> None:
        if config.clip_norm is not None:
            raise ValueError(
                "clip_norm must be None for stacked networks, whose gradients have one norm, but "
                f"got {config.clip_norm}"
            )
        super().__init__(_stacked(networks), config, device)
        self.generators = tuple(torch.Generator(device) for _ in networks)
        for module in self.network.modules():
            if isinstance(module, _StackedDropout):
                module.generators = self.generators

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        count = targets.shape[1]
        rows = logits.reshape(-1, logits.shape[1] // count)
        smoothing = self._config.label_smoothing
        return count * F.cross_entropy(rows, targets.flatten(), label_smoothing=smoothing)

    def weights(self, index: int) -> list[Tensor]:
        """Parameters and batch-norm statistics of a network, in the order of its state dict."""
        count = len(self.generators)
        tensors = [each for each in self.network.state_dict().values() if each.ndim]
        return [each.chunk(count)[index] for each in tensors]


def _stacked(networks: Sequence[Network]) -> Network:
    """One network that computes what `networks` do, each on its part of the channels."""
    count, whole = len(networks), copy.deepcopy(networks[0])
    for name, module in whole.named_modules():
        match module:
            case nn.Linear():
                module.__class__ = _GroupedLinear
                vars(module)["count"] = count
            case nn.Conv2d():
                module.groups *= count
                module.in_channels *= count
                module.out_channels *= count
            case nn.BatchNorm2d():
                module.num_features *= count
            case PoolShortcut():
                module.__class__ = _StackedPool
                vars(module)["count"] = count
            case Dropout():
                module.__class__ = _StackedDropout
        parts = [each.get_submodule(name) for each in networks]
        for own, parameter in module.named_parameters(recurse=False):
            joined = torch.cat([getattr(part, own).detach() for part in parts])
            setattr(module, own, nn.Parameter(joined, parameter.requires_grad))
        for own, buffer in module.named_buffers(recurse=False):
            if buffer.ndim:
                module.register_buffer(own, torch.cat([getattr(part, own) for part in parts]))
    blocks = [block for stage in whole.architecture.blocks() for block in stage]
    modules = (module for module in whole.modules() if isinstance(module, Residual))
    for block, residual in zip(blocks, modules, strict=True):
        residual.drop.channels = block.out_channels  # type: ignore[assignment]
    return whole


class _GroupedLinear(nn.Linear):
    """k linear layers, N × (k · C) → N × (k · C')."""

    count: int

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight[:, :, None, None]
        return F.conv2d(x[:, :, None, None], weight, self.bias, groups=self.count).flatten(1)


class _StackedPool(PoolShortcut):
    """Pools as `PoolShortcut`, which pads or cuts the channels of each network."""

    count: int

    def forward(self, x: Tensor) -> Tensor:
        images, _, *sides = x.shape
        pooled = super().forward(x.reshape(images * self.count, -1, *sides))
        return pooled.reshape(images, -1, *pooled.shape[2:])


class _StackedDropout(Dropout):
    """Drops what each network alone would; one value is for so many `channels` of its output."""

    generators: tuple[torch.Generator, ...]
    channels: int = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        own = max(1, x.shape[1] // len(self.generators))
        masks = [
            x.new_empty(len(x), own, *x.shape[2:]).bernoulli_(1 - self.p, generator=each)
            for each in self.generators
        ]
        mask = torch.cat(masks, 1).div_(1 - self.p)
        return x * mask.repeat_interleave(self.channels, 1)
