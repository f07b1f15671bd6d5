"""The formats that members are exported in; `scaling.export` writes them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from space.architecture import Architecture
from space.cost import cost
from space.optional import needed
from space.validation import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from space.network import Network

#: Runs a network: N × channels × resolution × resolution, preprocessed, to N × classes logits.
Predict = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"

#: The file in the archive of some formats that has `Portable.about`.
ABOUT = "phiscale.json"


#: Beyond any mean or standard deviation of pixels from 0 to 1 (assumed).
_LARGEST = 1e6


class Format(StrEnum):
    """The values of `phiscale export --to`; the other formats are made from `safetensors`."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"
    ONNX = "onnx"
    PROGRAM = "program"
    TIMM = "timm"
    LITERT = "litert"
    OPENVINO = "openvino"
    EXECUTORCH = "executorch"
    COREML = "coreml"
    CARD = "card"


class NotRun(InvalidInput):
    """A format that was not run, and why."""


class Runtime(Protocol):
    """A module of this folder that writes the files of one runtime for devices.

    `EXTRA` installs its `PACKAGES`; `INT8` is empty where it does not quantise.
    """

    EXTRA: str
    PACKAGES: tuple[str, ...]
    FILES: tuple[str, ...]
    INT8: tuple[str, ...]

    def content(
        self,
        portable: Portable,
        network: Network,
        calibration: NDArray[np.float32] | None = None,
    ) -> tuple[bytes, ...]:
        """The content of `FILES`, or of `INT8` with ranges from the inputs `calibration`.

        `network` is in evaluation mode; `calibration` is N × channels × resolution × resolution.
        """

    def open_(self, files: tuple[bytes, ...]) -> Predict:
        """Runs the network in `files`, which must be trusted; may raise `NotRun`."""


def require(runtime: Runtime) -> None:
    """Raises `InvalidInput`, which names the extra, if a package of `runtime` is missing."""
    with silent():
        for package in runtime.PACKAGES:
            needed(package, runtime.EXTRA, f"format {runtime.EXTRA}")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image file becomes a network's input; `scaling.formats.preprocess` writes it as code.

    The image is turned upright (EXIF), laid over white where it is transparent, and converted to
    RGB or grey. Its centre square is resized to `stored` pixels with the filter `square`, then to
    the network's resolution with the filter `resize` (`stored` None: to the resolution directly,
    with `square`). The filters are Pillow's, on bytes. Pixels from 0 to 1, minus `mean`, divided by
    `std`, are the input. With more than 8 bits, 0 … `white` become 0 … 255.

    Training runs read their images as stored, so accuracies are measured on images resized twice.
    In one step the pixels of three photographs differed by 1 to 11 of 255 on average (measured).
    torch's bilinear filter, which training uses, differs from Pillow's by 1 of 255 in at most 0.4 %
    of the pixels (measured).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    stored: int | None = None
    square: str = "bicubic"
    resize: str = "bilinear"
    white: int = 65_535

    def __post_init__(self) -> None:
        if self.stored is not None and not 1 <= self.stored <= 8_192:
            raise ValueError(f"`1 <= stored <= 8192` must hold, but got stored={self.stored}")
        if not 255 <= self.white <= 65_535:
            raise ValueError(f"`255 <= white <= 65535` must hold, but got white={self.white}")
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have a number for each channel")
        if not all(abs(mean) < _LARGEST for mean in self.mean):
            raise ValueError(f"`|mean| < {_LARGEST:g}` must hold, but got mean={self.mean}")
        if not all(1 / _LARGEST < std < _LARGEST for std in self.std):
            raise ValueError(f"`0 < std < {_LARGEST:g}` must hold, but got std={self.std}")
        for name in (self.square, self.resize):
            if name not in ("bicubic", "bilinear"):
                raise ValueError(f"a filter is bicubic or bilinear, but got {name!r}")


def render(template: str, /, **values: object) -> str:
    """Renders a template of `scaling/templates`; functions among `values` are also filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scaling"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": format, "json": json.dumps}
    environment.filters |= {name: value for name, value in values.items() if callable(value)}
    return environment.get_template(template).render(values)


#: A space at which `filled` breaks no line.
HELD = "\0"


def filled(text: str, indent: str = "    ") -> str:
    """The text on lines of at most 96 characters, the later ones indented."""
    lines = textwrap.wrap(
        text, 96, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace(HELD, " ")


@contextmanager
def quiet() -> Iterator[None]:
    """Hides warnings and logs of torch, timm and onnxruntime about their internals."""
    loggers = [logging.getLogger(name) for name in ("", "onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def silent() -> Iterator[None]:
    """Hides all that is written to the terminal, by native code too."""
    with quiet(), Path(os.devnull).open("w") as nothing:
        kept = os.dup(1), os.dup(2)
        try:
            for stream in (1, 2):
                os.dup2(nothing.fileno(), stream)
            yield
        finally:
            for stream, copy in enumerate(kept, start=1):
                os.dup2(copy, stream)
                os.close(copy)


def one_by_one(predict: Predict) -> Predict:
    """Runs a network for a single image on any number of them."""

    def all_(images: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        return np.concatenate([predict(images[i : i + 1]) for i in range(len(images))])

    return all_


def predictor(network: Callable[[Tensor], Tensor]) -> Predict:
    """Runs a torch network, which must be in evaluation mode and on the CPU."""
    import torch

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    return predict


def run_code(code: bytes, path: Path, name: str) -> ModuleType:
    """The module `name` from trusted `code`, which was read from `path`; writes nothing."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # timm looks for the module of what it registers
    exec(compile(code, str(path), "exec"), module.__dict__)
    return module


def full_name(family: str, member: str) -> str:
    """The name of a member outside of its family: demo-b1."""
    return member if family == member else f"{family}-{member}"


@dataclass(frozen=True, slots=True)
class Portable:
    """What each format contains beside the weights; `name` is from `full_name`."""

    name: str
    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def identifier(self) -> str:
        """The name as a valid identifier for Python and timm: demo_b1."""
        return re.sub(r"\W", "_", self.name, flags=re.ASCII).lower()

    def about(self) -> dict[str, Any]:
        """Classes, preprocessing and cost as plain JSON data."""
        found, given = cost(self.architecture), self.preprocessing
        return {
            "name": self.name,
            "classes": list(self.classes),
            "preprocessing": {
                "channels": self.architecture.in_channels,
                "stored": given.stored or self.architecture.resolution,
                "square": given.square,
                "resolution": self.architecture.resolution,
                "resize": given.resize,
                "mean": list(given.mean),
                "std": list(given.std),
                "white": given.white,
            },
            "macs": found.macs,
            "params": found.params,
        }
