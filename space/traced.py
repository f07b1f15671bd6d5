"""The cost of any `torch.nn.Module`, found by running it: for comparison with ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from space.cost import Cost

if TYPE_CHECKING:
    from torch import nn

#: fvcore's names of what a `Cost` counts.
_CONVOLUTION = "conv"
_PRODUCTS = (_CONVOLUTION, "linear", "addmm", "matmul", "mm", "bmm", "einsum")


def traced_cost(module: nn.Module, resolution: int, in_channels: int = 3) -> Cost:
    """MACs, parameters and convolution outputs of a module for one square image, by fvcore.

    Multiply–adds are those of convolutions and matrix products, so they compare with
    `space.cost.cost`. The module is traced in evaluation mode, and left in the mode it was in.
    """
    import torch
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

    image = torch.zeros(1, in_channels, resolution, resolution)
    parameter = next(module.parameters(), None)
    if parameter is not None:
        image = image.to(parameter)
    was_training = module.training
    module.eval()
    try:
        macs = FlopCountAnalysis(module, image).unsupported_ops_warnings(False)
        outputs = ActivationCountAnalysis(module, image).unsupported_ops_warnings(False)
        counted = macs.uncalled_modules_warnings(False).by_operator()
        activations = outputs.uncalled_modules_warnings(False).by_operator()[_CONVOLUTION]
    finally:
        module.train(was_training)
    return Cost(
        macs=int(sum(counted[name] for name in _PRODUCTS)),
        params=sum(parameter.numel() for parameter in module.parameters()),
        activations=int(activations),
    )
