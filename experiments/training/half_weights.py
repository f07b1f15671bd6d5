"""Weights in bfloat16, made by one operation a step instead of one for each layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


class HalfWeights:
    """Calls a network with bfloat16 copies of its convolutions' and linear layers' parameters.

    Autocast makes such copies layer by layer, and turns their gradients back one by one: half of
    what a step casts. Here both are one operation for all layers, with the same numbers.
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
        """Copies the weights, once they have changed."""
        torch._foreach_copy_(list(self._halves.values()), self._weights)

    def __call__(self, images: Tensor) -> Tensor:
        """The network's output, under autocast."""
        output: Tensor = functional_call(self._network, self._halves, (images,))
        return output

    @torch.no_grad()
    def collect(self) -> None:
        """Adds the gradients of the copies, after a backward pass, to those of the weights."""
        pairs = [
            (weight, half.grad)
            for weight, half in zip(self._weights, self._halves.values(), strict=True)
            if half.grad is not None
        ]
        fresh = [torch.empty_like(weight) for weight, _ in pairs]
        _copy(fresh, [gradient for _, gradient in pairs])
        added_to: list[Tensor] = []
        added: list[Tensor] = []
        for (weight, _), gradient in zip(pairs, fresh, strict=True):
            if weight.grad is None:
                weight.grad = gradient
            else:
                added_to.append(weight.grad)
                added.append(gradient)
        if added:
            torch._foreach_add_(added_to, added)
        for half in self._halves.values():
            half.grad = None


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copies all at once; those of other strides, which would hold all others up, one by one."""
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
