"""What all tests share."""

import os
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# A deadline would be a timed assertion: on a busy machine it fails for nothing.
hypothesis.settings.register_profile("phiscale", deadline=None, print_blob=True)
hypothesis.settings.load_profile("phiscale")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference figures beside the checkout; absent at most users'."""
    folder = Path(os.environ.get("PHISCALE_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set PHISCALE_SHARED)")
    return folder
