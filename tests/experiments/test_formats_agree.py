"""The same photos train to the same accuracy for the same seed, whichever files they come in."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from experiments import stages
from experiments.runs.opening import open_run

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: The shipped recipe on 400 photos, made small.
SMALL = (
    "data.held_out=80",
    "search.trials=2",
    "search.epochs=2",
    "search.data_fraction=1.0",
    "search.finalists=1",
    "search.final_epochs=2",
    "executor.threads=1",
)


@pytest.fixture(scope="module")
def photos(shared: Path) -> pa.Table:
    return parquet.read_table(shared / "data/cifar10/test-00000-of-00001.parquet").slice(0, 500)


def as_parquet(photos: pa.Table, folder: Path) -> Path:
    folder.mkdir()
    parquet.write_table(photos.slice(0, 400), folder / "train-00000-of-00001.parquet")
    parquet.write_table(photos.slice(400), folder / "test-00000-of-00001.parquet")
    return folder


def as_folders(photos: pa.Table, folder: Path) -> Path:
    for number, row in enumerate(photos.to_pylist()):
        split = "train" if number < 400 else "test"
        file = folder / split / CLASSES[row["label"]] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row["image"]["bytes"])
    return folder


def searched(source: Path, folder: Path) -> dict[str, Any]:
    overrides = (*SMALL, f"data.source={source}", f"data.cache={folder / 'cache'}")
    found = stages.run(open_run("cifar10", folder / "run", overrides), ["search"])["search"]
    return {name: found[name] for name in ("key", "accuracy", "reward", "choices")}


def test_parquet_and_folders_of_the_same_photos_give_the_same_search(photos, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    from_parquet = searched(as_parquet(photos, tmp_path / "parquet"), tmp_path / "a")
    from_folders = searched(as_folders(photos, tmp_path / "folders"), tmp_path / "b")
    assert from_parquet == from_folders
    assert from_parquet["accuracy"] > 0
