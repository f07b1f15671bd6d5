"""Networks in torch, built from architectures.

Parameters have plain names: `stem`, `stages.0.0.expand` … (stage, then block), `head`, `hidden`,
`classifier`; below them `conv.weight`, `norm.weight` and so on, as in `space.blocks`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.blocks import ACTIVATIONS, BLOCKS, ConvNorm, Dropout, MaxPool, Residual


class Hidden(nn.Sequential):
    """MobileNetV3's hidden layer: linear → activation."""

    def __init__(self, inputs: int, outputs: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(inputs, outputs)
        self.activation = activation()


class Network(nn.Module):
    """stem → stages → head → mean over space → hidden → dropout → classifier."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stem, head, numerics = architecture.stem, architecture.head, architecture.numerics
        channels, activation = architecture.out_channels, ACTIVATIONS[numerics.activation]
        self.architecture = architecture
        self.stem = ConvNorm(
            numerics, architecture.in_channels, stem.channels, activation, stem.kernel, stem.stride
        )
        self.pool = MaxPool(numerics) if stem.pool else nn.Identity()
        stages = [
            nn.Sequential(*[BLOCKS[block.operator](block, numerics) for block in stage])
            for stage in architecture.blocks()
        ]
        self.stages = nn.Sequential(*stages)
        last = architecture.stages[-1].channels
        self.head = (
            ConvNorm(numerics, last, head.channels, activation) if head.channels else nn.Identity()
        )
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.hidden: nn.Module = nn.Identity()
        if head.hidden and head.hidden_norm:
            self.hidden = ConvNorm(numerics, channels, head.hidden, activation)
        elif head.hidden:
            self.hidden = Hidden(channels, head.hidden, activation)
        self.dropout = Dropout(architecture.dropout)
        self.classifier = nn.Linear(head.hidden or channels, architecture.num_classes)
        if architecture.stochastic_depth > 0:  # rises linearly, as in the official code
            residuals = [module for module in self.modules() if isinstance(module, Residual)]
            for index, residual in enumerate(residuals):
                residual.drop.p = architecture.stochastic_depth * index / len(residuals)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """N × in_channels × H × W, for any H and W, to N × num_classes logits."""
        x = self.pool(self.stem(x))
        for stage in self.stages:  # rather than the Sequential, which keeps its input until its end
            x = stage(x)
        x = self.hidden(self.mean(self.head(x))).flatten(1)
        logits: Tensor = self.classifier(self.dropout(x))
        return logits

    def features(self, x: Tensor) -> list[Tensor]:
        """The last map at each stride, finest first, before the head."""
        last = self.stem(x)
        maps = {self.architecture.stem.stride: last}
        x = self.pool(last)
        for stage, stride in zip(self.stages, self.architecture.strides[1:], strict=True):
            x = maps[stride] = stage(x)
        return list(maps.values())


def build(architecture: Architecture) -> Network:
    """The network of `architecture`, freshly initialised with torch's random numbers.

    Example:
        >>> import torch
        >>> from space.network import build
        >>> from space.presets import load
        >>> network = build(load("mnasnet_small", num_classes=10))
        >>> network(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return Network(architecture)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Fresh weights as the official EfficientNet code draws them.

    Convolutions: normal, variance 2 / fan-out, where a depthwise kernel's fan-out is k² since each
    channel has one output (`conv_kernel_initializer`; so does timm, and torchvision does not).
    Linear layers: uniform within ±1/√(outputs) (`dense_kernel_initializer`). Biases 0; batch norm
    weights 1, as torch has them.
    """
    if isinstance(module, nn.Conv2d):
        outputs = module.out_channels // module.groups
        fan_out = math.prod(module.kernel_size) * outputs
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
