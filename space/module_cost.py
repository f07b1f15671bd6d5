"""The cost of any `torch.nn.Module`, counted by fvcore while the module runs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from space.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

#: fvcore's names of what a `Cost` counts.
_CONVOLUTION = "conv"
_PRODUCTS = (_CONVOLUTION, "linear", "addmm", "matmul", "mm", "bmm", "einsum")


class ModuleCost(NamedTuple):
    """The cost of a module, in all and by its direct children.

    `uncounted` are operators that fvcore has no rule for, with how often each ran. Most are
    elementwise and have no multiply–adds; attention and recurrence do.
    """

    total: Cost
    parts: Mapping[str, Cost]
    uncounted: Mapping[str, int]


def module_cost(module: nn.Module, resolution: int, in_channels: int = 3) -> ModuleCost:
    """MACs, parameters and activations of a module for one square image.

    MACs are the multiply–adds of convolutions and matrix products, and activations the outputs of
    convolutions, so that they compare with `space.cost.cost`. The module runs in evaluation mode
    and is left in the mode it was in.

    Example:
        >>> from space.module_cost import module_cost
        >>> from torch import nn
        >>> module_cost(nn.Conv2d(3, 8, kernel_size=3), resolution=10).total
        Cost(macs=13824, params=224, activations=512)
    """
    import torch

    image = torch.zeros(1, in_channels, resolution, resolution)
    parameter = next(module.parameters(), None)
    if parameter is not None:
        image = image.to(parameter)
    was_training = module.training
    module.eval()
    try:
        macs, outputs, uncounted = _analyse(module, image)
    finally:
        module.train(was_training)

    def counted(name: str, part: nn.Module) -> Cost:
        return Cost(
            macs=int(sum(macs[name][operator] for operator in _PRODUCTS)),
            params=sum(parameter.numel() for parameter in part.parameters()),
            activations=int(outputs[name][_CONVOLUTION]),
        )

    parts = {name: counted(name, part) for name, part in module.named_children()}
    return ModuleCost(counted("", module), parts, dict(uncounted))


def _analyse(
    module: nn.Module, image: Tensor
) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]], Counter[str]]:
    """fvcore's multiply–adds and output elements, by module and operator, and what it ignored."""
    with warnings.catch_warnings():  # fvcore scripts and traces, which torch 2.13 deprecates
        warnings.simplefilter("ignore")
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

        macs, outputs = (
            analysis(module, image)
            .unsupported_ops_warnings(False)
            .uncalled_modules_warnings(False)
            .tracer_warnings("none")
            for analysis in (FlopCountAnalysis, ActivationCountAnalysis)
        )
        by_module = macs.by_module_and_operator(), outputs.by_module_and_operator()
        return *by_module, macs.unsupported_ops()
