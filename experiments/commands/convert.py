"""The command that converts weights from and to other libraries."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.terminal import wrote
from experiments.progress import log


def convert(
    source: Annotated[
        str,
        typer.Argument(help="Whose network it is, LIBRARY/NAME; left out, it is recognised."),
    ],
    target: Annotated[
        Path, typer.Option("--out", help="The folder (with --back: the file) to write.")
    ],
    weights: Annotated[
        Path | None, typer.Argument(help="A checkpoint: .safetensors, .pth or .pt.")
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="From phiscale's weights to the library's.")
    ] = False,
) -> None:
    """Convert weights of torchvision, timm and EfficientNet-PyTorch, and back."""
    from space.weights import export_weights, import_weights, recognise

    if weights is None:
        if back:
            raise typer.BadParameter("--back needs LIBRARY/NAME and the weights")
        weights = Path(source)
        source, *others = recognise(weights)
        log.note(f"{weights}: the tensors are those of {source}")
        if others:
            log.remark(
                f"{', '.join(others)} have the same tensors but other numerics; to choose one, "
                f"name it: phiscale convert {others[0]} {shlex.quote(str(weights))} --out "
                f"{shlex.quote(str(target))}"
            )
    if back:
        export_weights(source, weights, target)
    else:
        import_weights(source, weights, target)
    wrote(target)
