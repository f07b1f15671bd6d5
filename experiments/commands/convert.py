"""The command that converts weights from and to torchvision and timm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.terminal import wrote


def convert(
    source: Annotated[str, typer.Argument(help="Whose network it is: LIBRARY/NAME.")],
    weights: Annotated[Path, typer.Argument(help="A state dict: .safetensors, .pth or .pt.")],
    target: Annotated[
        Path, typer.Option("--out", help="The folder (with --back: the file) to write.")
    ],
    back: Annotated[
        bool, typer.Option("--back", help="From phiscale's weights to the library's.")
    ] = False,
) -> None:
    """Weights of torchvision and timm as a network of phiscale's, and back."""
    from space.weights import export_weights, import_weights

    if back:
        export_weights(source, weights, target)
    else:
        import_weights(source, weights, target)
    wrote(target)
