"""What tests of whole runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest

from scaling import export
from scaling.formats import Format


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Changes that make the recipe `demo` one of seconds: three letters, under a million MACs."""
    return (
        "resolution=16",
        "data.glyphs.classes=3",
        "data.glyphs.train_images=90",
        "data.glyphs.test_images=30",
        "objective.target=400K",
        "objective.bounds={macs: [100K, 900K]}",
        "search.epochs=1",
        "search.final_epochs=1",
        "family.epochs=1",
        "executor.threads=1",
    )


@pytest.fixture(scope="session")
def weights_and_code() -> Callable[[], AbstractContextManager[None]]:
    """Inside, families are written without programs and ONNX: most of the time of a tiny run."""

    @contextmanager
    def inside() -> Iterator[None]:
        formats = {Format.SAFETENSORS, Format.TORCH}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "export_member", partial(export.export_member, formats=formats))
            yield

    return inside
