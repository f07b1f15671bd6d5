"""A kit that measures a latency table elsewhere: the parts of a space as files, and a script.

DIR/ kit.json       what the files are, and what they hold for
     0000.onnx …    each part of the space's networks, and some networks whole
     measure.py     times them with the device's runtime alone, and writes latency.csv

`experiments.latency.tables.load` makes a table of latency.csv.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from experiments.data.parallel import Progress
from experiments.latency import kit_script, tables
from scaling.formats import Format, litert, program, require, silent
from space.choices import Space
from space.files import write_file
from space.network import build
from space.optional import needed
from space.validation import InvalidInput, one_of


def write(space: Space, folder: Path, format_: str, *, batch: int = 1, progress: Progress) -> int:
    """Writes the kit of `space` at its own resolution, and returns the number of files.

    Files that are there stay, so that a writing that was interrupted goes on. Raises `InvalidInput`
    for a folder with another kit, an unknown format, or one whose packages are not installed.
    """
    if format_ not in FORMATS:
        raise one_of("--format", format_, FORMATS)
    if format_ == Format.LITERT:
        require(litert)
    elif format_ == Format.ONNX:
        needed("onnx", "onnx", "a kit of ONNX files")
    suffix, backend, convert = FORMATS[format_]
    wholes = [
        tables.Piece(tables.whole(each), partial(build, each), each.in_channels, each.resolution)
        for each in tables.sample(space, tables.WHOLE)
    ]
    pieces = {piece.name: piece for piece in [*tables.pieces_of(space).values(), *wholes]}
    files = {f"{number:04}{suffix}": name for number, name in enumerate(pieces)}
    setting = {"space": space.name, "resolution": space.base.resolution, "backend": backend}
    kit = json.dumps({"setting": setting | {"batch": batch}, "files": files}, indent=1)
    path = folder / "kit.json"
    if path.exists() and path.read_text("utf-8") != kit:
        raise InvalidInput(f"--kit: {folder} has the kit of another space or setting; name another")
    write_file(path, kit)
    write_file(folder / "measure.py", Path(kit_script.__file__).read_bytes())
    for done, (file, name) in enumerate(files.items(), start=1):
        if not (folder / file).exists():
            piece = pieces[name]
            images = torch.zeros(batch, piece.channels, piece.side, piece.side)
            with silent():
                write_file(folder / file, convert(program.folded(piece.make()), images))
        progress("Writing parts", done, len(files))
    return len(files)


def _onnx(module: nn.Module, images: torch.Tensor) -> bytes:
    """By torch's older exporter, which takes a part in a fiftieth of the time (measured)."""
    file = io.BytesIO()
    torch.onnx.export(
        module,
        (images,),
        file,  # type: ignore[arg-type]  # a file will do
        dynamo=False,
        opset_version=18,
    )
    return file.getvalue()


def _program(module: nn.Module, images: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (images,)), file)
    return file.getvalue()


#: By name of the format: the files' suffix, the backend that runs them, and what makes one.
FORMATS: dict[str, tuple[str, str, Callable[[nn.Module, torch.Tensor], bytes]]] = {
    Format.ONNX.value: (".onnx", "onnxruntime", _onnx),
    Format.LITERT.value: (".tflite", "litert", litert.converted),
    Format.PROGRAM.value: (".pt2", "program", _program),
}
