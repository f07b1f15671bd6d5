"""Weights in bfloat16, made by one operation per step instead of one per layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


class HalfWeights:
    """Calls a network with bfloat16 copies of its convolutions' and linear layers' parameters.

    Autocast makes such copies layer by layer and casts their gradients back one by one: half of the
    casts of a step. Here one operation does either for all layers, with the same numbers.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        weights = {
            f"{prefix}.{name}" if prefix else name: parameter
            for prefix, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
            for name, parameter in module.named_parameters(recurse=False)
        }
        self._weights: list[Tensor] = list(weights.values())
        self._halves = {
            name: torch.empty_like(weight, dtype=torch.bfloat16).requires_grad_()
            for name, weight in weights.items()
        }

    @torch.no_grad()
    def renew(self) -> None:
        """Copies the weights after a step has changed them."""
        torch._foreach_copy_(list(self._halves.values()), self._weights)

    def __call__(self, images: Tensor) -> Tensor:
        """The network's output, under autocast."""
        output: Tensor = functional_call(self._network, self._halves, (images,))
        return output

    @torch.no_grad()
    def collect(self) -> None:
        """Adds the copies' gradients, after a backward pass, to those of the weights."""
        weights, halves = [], []
        for weight, copy in zip(self._weights, self._halves.values(), strict=True):
            if copy.grad is not None:
                weights.append(weight)
                halves.append(copy.grad)
                copy.grad = None
        gradients = [torch.empty_like(weight) for weight in weights]
        _copy(gradients, halves)
        sums: list[Tensor] = []
        added: list[Tensor] = []
        for weight, gradient in zip(weights, gradients, strict=True):
            if weight.grad is None:
                weight.grad = gradient
            else:
                sums.append(weight.grad)
                added.append(gradient)
        if added:
            torch._foreach_add_(sums, added)


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copies all at once, but pairs of different strides, which would slow down all, one by one."""
    to: list[Tensor] = []
    of: list[Tensor] = []
    for target, source in zip(targets, sources, strict=True):
        if target.stride() == source.stride():
            to.append(target)
            of.append(source)
        else:
            target.copy_(source)
    if to:
        torch._foreach_copy_(to, of)
