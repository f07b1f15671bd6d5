"""Fuzz targets: `make fuzz`, minutes, not part of `make test`.

Each reader is given damaged files. All but data or an `InvalidInput` of one line is a fault; what
is found becomes a test in `tests/experiments/data`. PHISCALE_FUZZ says how many examples each gets.
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.config import DataConfig
from experiments.data.decode import FORMATS, decode, header
from experiments.data.load import load
from experiments.data.source import Unreadable
from space.validation import InvalidInput

EXAMPLES = int(os.environ.get("PHISCALE_FUZZ", "1000"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=False,
    database=None,
    suppress_health_check=list(HealthCheck),
)

PICTURES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
LABELS = np.arange(12) % 3


def encoded(pixels: Any, format_: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_)
    return file.getvalue()


def parquet() -> bytes:
    rows = [{"bytes": encoded(each), "path": None} for each in PICTURES]
    file = io.BytesIO()
    pq.write_table(pa.table({"image": rows, "label": LABELS, "split": ["train"] * 12}), file)
    return file.getvalue()


def npz(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, array in (
            ("images", PICTURES),
            ("labels", LABELS),
            ("classes", np.array(["a", "b", "c"])),
        ):
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(f"{name}.npy", stream.getvalue())
    return file.getvalue()


def csv() -> bytes:
    return b"file,label,split\n" + b"".join(b"%d.png,%d,train\n" % (n, n % 3) for n in range(12))


#: Sound files by name; the CSV lists images that lie beside it.
SOUND: dict[str, bytes] = {
    "set.parquet": parquet(),
    "stored.npz": npz(zipfile.ZIP_STORED),
    "deflated.npz": npz(zipfile.ZIP_DEFLATED),
    "labels.csv": csv(),
}


@st.composite
def damaged(draw: Callable[..., Any], content: bytes) -> bytes:
    """Bytes replaced, cut out, repeated or put in; the end cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.sampled_from(["set", "set", "set", "cut", "insert", "repeat", "end"])):
            case "set":
                noise = draw(st.binary(min_size=1, max_size=4))
                found[at : at + len(noise)] = noise
            case "cut":
                del found[at : at + draw(st.integers(1, 64))]
            case "insert":
                found[at:at] = draw(st.binary(min_size=1, max_size=64))
            case "repeat":
                found[at:at] = found[at : at + draw(st.integers(1, 64))]
            case "end":
                del found[at:]
    return bytes(found)


def read(source: Path, cache: Path) -> None:
    """Reads a source; passes where that gives data or a sentence."""
    config = DataConfig(source=str(source), cache=cache, max_bad=0.9)
    said = ""
    try:
        load(config, resolution=8, seed=0, progress=lambda *_: None)
    except InvalidInput as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOUND)
def test_a_damaged_table_gives_data_or_a_sentence(name: str) -> None:
    @fuzzed
    @given(damaged(SOUND[name]))
    def check(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / name
            source.write_bytes(content)
            if name.endswith(".csv"):
                for number, picture in enumerate(PICTURES):
                    (source.parent / f"{number}.png").write_bytes(encoded(picture))
            read(source, Path(folder) / "cache")

    check()


USUAL = "train test val cat dog seg_train Examples .hidden x runs".split()  # noqa: SIM905
LETTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
NAMES = st.one_of(st.sampled_from(USUAL), st.text(LETTERS, min_size=1, max_size=8)).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.tuples(st.lists(NAMES, min_size=1, max_size=4), st.integers(0, 11))


@pytest.mark.filterwarnings("ignore")
@fuzzed
@given(st.lists(PATHS, max_size=30))
def test_any_tree_gives_data_or_a_sentence(paths: list[tuple[list[str], int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        root.mkdir()
        for parts, number in paths:
            file = root.joinpath(*parts[:-1], f"{parts[-1]}.png")
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encoded(PICTURES[number]))
            except OSError:  # a file where a folder is to be
                continue
        read(root, Path(folder) / "cache")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", sorted(set(FORMATS) - {"HEIF"}))
def test_a_damaged_image_gives_pixels_or_a_reason(format_: str) -> None:
    sound = [encoded(PICTURES[0], format_)]
    if format_ in ("PNG", "TIFF"):
        sound.append(encoded(PICTURES[0, ..., 0].astype(np.uint16) * 16, format_))

    @fuzzed
    @given(st.sampled_from(sound).flatmap(damaged))
    def check(content: bytes) -> None:
        for attempt in (
            lambda: decode(content, 3, 10_000, 4095),
            lambda: header(content, 10_000),
        ):
            said = ""
            try:
                attempt()
            except Unreadable as reason:
                said = str(reason)
            assert "\n" not in said

    check()
