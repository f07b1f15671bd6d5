"""Fuzz targets: `make fuzz`, minutes, not part of `make test`.

Each reader is given damaged files. All but data or an `InvalidInput` of one line is a fault; what
is found becomes a test beside those of the reader. PHISCALE_FUZZ says how many examples each gets,
PHISCALE_FUZZ_SEED repeats those of an earlier time. Without a fault, the counts go into
`experiments/results/fuzz.json`.
"""

import io
import json
import os
import secrets
import tarfile
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from experiments import config
from experiments.config import DataConfig
from experiments.data.decode import FORMATS, decode, header
from experiments.data.load import load
from experiments.data.source import Unreadable
from experiments.evaluators import records
from experiments.runs.environment import environment
from space import choices
from space.files import write_file
from space.validation import InvalidInput
from space.weights import read_weights

EXAMPLES = int(os.environ.get("PHISCALE_FUZZ", "1000"))
SEED = int(os.environ.get("PHISCALE_FUZZ_SEED", secrets.randbelow(2**32)))
RESULT = Path(__file__).parents[2] / "experiments" / "results" / "fuzz.json"

#: How often each reader gave data, and how often a sentence.
OUTCOMES: dict[str, Counter[str]] = defaultdict(Counter)


def fuzzed(test: Callable[..., None]) -> Callable[..., None]:
    """The test with as many examples as are asked for."""
    every = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return every(seed(SEED)(test))


@pytest.fixture(scope="module", autouse=True)
def written(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not request.session.testsfailed:
        known = json.loads(RESULT.read_text("utf-8"))["found"] if RESULT.is_file() else {}
        now = {"date": datetime.now(UTC).date().isoformat(), "seed": SEED}
        found = known | {reader: now | dict(counts) for reader, counts in OUTCOMES.items()}
        command = f"make fuzz FUZZ={EXAMPLES}"
        result = {"command": command, "hardware": environment(), "found": found}
        write_file(RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def attempt(reader: str, call: Callable[[], object]) -> None:
    """Counts whether a call gives data or a sentence; all else fails the test."""
    said = ""
    try:
        call()
    except (InvalidInput, Unreadable) as error:
        said = str(error)
    # PyYAML shows the place of an error in lines of its own.
    assert "\n" not in said or reader.endswith(".yaml")
    OUTCOMES[reader]["sentence" if said else "data"] += 1


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


def read(reader: str, source: Path, cache: Path) -> None:
    given = DataConfig(source=str(source), cache=cache, max_bad=0.9)
    attempt(reader, lambda: load(given, resolution=8, seed=0, progress=lambda *_: None))


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
            read(name, source, Path(folder) / "cache")

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
        read("folders", root, Path(folder) / "cache")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", sorted(set(FORMATS) - {"HEIF"}))
def test_a_damaged_image_gives_pixels_or_a_reason(format_: str) -> None:
    sound = [encoded(PICTURES[0], format_)]
    if format_ in ("PNG", "TIFF"):
        sound.append(encoded(PICTURES[0, ..., 0].astype(np.uint16) * 16, format_))

    @fuzzed
    @given(st.sampled_from(sound).flatmap(damaged))
    def check(content: bytes) -> None:
        attempt(format_, lambda: decode(content, 3, 10_000, 4095))
        attempt(f"{format_} header", lambda: header(content, 10_000))

    check()


def pytorch() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": WEIGHTS}, file)
    return file.getvalue()


def archive() -> bytes:
    """Of a network of Accel-NASBench's space."""
    record = {f"block{place}_{key}": 3 for place in range(7) for key in ("k", "l", "se")}
    record |= {f"block{place}_e": 6 if place else 1 for place in range(7)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:  # not compressed, so that damage reaches JSON
        content = json.dumps({"architecture": record, "metrics": {"val_top1": 50}}).encode()
        member = tarfile.TarInfo("result.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


SHIPPED = Path(__file__).parents[2]
WEIGHTS = {"weight": torch.ones(2, 3), "count": torch.tensor(4)}
SPACE = choices.load("accel_nasbench")

#: Other files that a user may have from a stranger, and what reads them.
FILES: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "recipe.yaml": (
        (SHIPPED / "experiments" / "recipes" / "demo.yaml").read_bytes(),
        lambda path: config.load(str(path)),
    ),
    "space.yaml": (
        (SHIPPED / "space" / "spaces" / "mnasnet_small.yaml").read_bytes(),
        lambda path: choices.load(str(path)),
    ),
    "weights.safetensors": (save(WEIGHTS), read_weights),
    "weights.pth": (pytorch(), read_weights),
    "records.tar": (archive(), partial(records.read, space=SPACE)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_data_or_a_sentence(name: str) -> None:
    content, reader = FILES[name]

    @fuzzed
    @given(damaged(content))
    def check(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            attempt(name, lambda: reader(path))

    check()
