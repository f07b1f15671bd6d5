"""What tests of whole runs share."""

from __future__ import annotations

import pytest


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
