"""torch.export programs: `model.pt2`, the network's computation without its code.

Loading one can run code (torch unpickles it and evaluates expressions), so phiscale loads only
programs that it would write itself or that the user trusts; see `scaling.verification`.
"""

from __future__ import annotations

import copy
import io
import json
from typing import TYPE_CHECKING

from scaling.formats import ABOUT, Portable, Predict, predictor, quiet

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from space.network import Network

FILE = "model.pt2"


def trace(portable: Portable, network: Network) -> ExportedProgram:
    """The program of `network` in evaluation mode, its batch norms folded into its convolutions.

    Its input `images` is N × channels × resolution × resolution for any N, its output the logits.
    """
    import torch

    pixels = portable.architecture.resolution
    images = torch.zeros(2, portable.architecture.in_channels, pixels, pixels)
    batch = torch.export.Dim("batch")
    with quiet():
        program = torch.export.export(folded(network), (images,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def folded(network: nn.Module) -> nn.Module:
    """A copy of a network or a part on the CPU, in evaluation mode, without batch norms."""
    from torch import contiguous_format, nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from space.blocks import ConvNorm

    network = copy.deepcopy(network).cpu().eval()
    network.to(memory_format=contiguous_format)  # type: ignore[call-overload]  # not in stubs
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
    return network


def content(portable: Portable, program: ExportedProgram) -> bytes:
    """The bytes of `model.pt2`: the same for the same network, with the same torch."""
    import torch

    file = io.BytesIO()
    about = json.dumps(portable.about(), ensure_ascii=False)
    with quiet():
        torch.export.save(program, file, extra_files={ABOUT: about})
    return file.getvalue()


def open_(data: bytes) -> Predict:
    """Runs the program in `data`, which must be trusted."""
    import torch

    with quiet():
        return predictor(torch.export.load(io.BytesIO(data)).module())
