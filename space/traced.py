"""The cost of any `torch.nn.Module`, found by running it: for comparison with ours."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING

from space.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

#: fvcore's names of what a `Cost` counts.
_CONVOLUTION = "conv"
_PRODUCTS = (_CONVOLUTION, "linear", "addmm", "matmul", "mm", "bmm", "einsum")


def traced_cost(module: nn.Module, resolution: int, in_channels: int = 3) -> Cost:
    """MACs, parameters and convolution outputs of a module for one square image, by fvcore.

    Multiply–adds are those of convolutions and matrix products, so they compare with
    `space.cost.cost`. The module is traced in evaluation mode, and left in the mode it was in.
    """
    import torch

    image = torch.zeros(1, in_channels, resolution, resolution)
    parameter = next(module.parameters(), None)
    if parameter is not None:
        image = image.to(parameter)
    was_training = module.training
    module.eval()
    try:
        macs, outputs = _count(module, image)
    finally:
        module.train(was_training)
    return Cost(
        macs=int(sum(macs[name] for name in _PRODUCTS)),
        params=sum(parameter.numel() for parameter in module.parameters()),
        activations=int(outputs[_CONVOLUTION]),
    )


def _count(module: nn.Module, image: Tensor) -> tuple[Counter[str], Counter[str]]:
    """fvcore's multiply–adds and output elements by operator."""
    with warnings.catch_warnings():  # fvcore scripts and traces, which torch 2.13 deprecates
        warnings.simplefilter("ignore")
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

        found = []
        for analysis in (FlopCountAnalysis, ActivationCountAnalysis):
            counted = analysis(module, image).unsupported_ops_warnings(False)
            found.append(counted.uncalled_modules_warnings(False).by_operator())
    macs, outputs = found
    return macs, outputs
