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
import shutil
import tarfile
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
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
from experiments.latency import tables as latency_tables
from experiments.runs import start
from experiments.runs.environment import environment
from experiments.studies import growth_table
from experiments.studies.recipes import read_architecture
from experiments.training import checkpoints
from reports import load as runs
from reports import page, predictions, scaling_study, tables, timm_results
from scaling.formats import Format
from scaling.saved_family import load_family
from scaling.verification import open_format
from search.storage import open_storage, storage_url
from space import choices, presets
from space.files import write_file
from space.validation import InvalidInput
from space.weights import read_weights
from tests.reports.conftest import build_run, search_trials
from tests.scaling import test_hostile_files

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
    # A line for each mistake begins with the file; PyYAML shows the place in lines of its own.
    files = {line.partition(":")[0] for line in said.splitlines()}
    assert len(files) < 2 or reader.endswith(".yaml")
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


def document(content: bytes) -> st.SearchStrategy[bytes]:
    """JSON with a value left out, or replaced by one of any type, or with damaged bytes."""
    return st.one_of(damaged(content), revalued(content))


@st.composite
def revalued(draw: Callable[..., Any], content: bytes) -> bytes:
    data = json.loads(content)
    found = draw(st.sampled_from(list(containers(data))))
    key = draw(st.sampled_from([*found] if isinstance(found, dict) else [*range(len(found))]))
    if draw(st.booleans()):
        found[key] = draw(st.sampled_from(ODD))
    else:
        del found[key]
    return json.dumps(data).encode()


#: Values that stand where none was expected.
ODD: list[Any] = [None, True, -1, 0, 1e308, float("nan"), 10**400, "", "x", "../x", [], [[]], {}]


def containers(data: Any) -> Iterator[Any]:
    """All lists and objects in JSON data that hold something."""
    if isinstance(data, dict | list) and data:
        yield data
        for each in data.values() if isinstance(data, dict) else data:
            yield from containers(each)


SHIPPED = Path(__file__).parents[2]
WEIGHTS = {"weight": torch.ones(2, 3), "count": torch.tensor(4)}
SPACE = choices.load("accel_nasbench")
NETWORK = presets.load("mnasnet_small", num_classes=3)


def checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder) / "file", "training run", WEIGHTS)
        return (Path(folder) / "file").read_bytes()


SETTING = {"space": "s", "resolution": 32, "device": "cpu", "backend": "litert", "batch": 1}
SETTING |= {"threads": 1, "processor": "p"}
ERRORS = {field.name: 0.1 for field in fields(latency_tables.PredictionErrors)}
LATENCIES = {"setting": SETTING, "scale": 1.0, "offset": 0.0, "judged": ERRORS}
LATENCIES |= {"seconds": {"stem": 0.1, "head": 0.2}}


def kit() -> bytes:
    """Two parts, and whole networks of them."""
    names = ["a", "b", "c", "a + b", "a + c", "b + c", "a + b + c"]
    rows = [{"name": name, "seconds": (at + 1) / 100} | SETTING for at, name in enumerate(names)]
    return pd.DataFrame(rows).to_csv(index=False).encode()


GROWTH = [
    {"width1": first, "width2": second, "accuracy1": 0.9, "macs": 1000 * first * second}
    for first, second in product((0.5, 1.0), (0.5, 1.0))
]
POINTS = [
    {"baseline": "net", "rule": rule, "factor": factor, "target": 1e6, "macs": 10**6, "params": 9}
    | {"activations": 9, "resolution": 24, "key": rule}
    | {
        "training_runs": [
            {"seed": seed, "accuracy": 0.5 + seed / 9, "seconds": 1} for seed in (0, 1)
        ]
    }
    for rule, factor in (("baseline", 1), ("depth", 2), ("compound", 2))
]
STUDY = {"name": "s", "description": "d", "data": "glyphs", "epochs": 2, "seeds": 2}
STUDY |= {"best": "compound", "compared": "rules", "published": {"net": "mobilenet_v2"}}
TIMES = b"model,infer_img_size,infer_samples_per_sec,param_count,infer_gmacs,infer_macts\n"
TIMES += b"resnet18,224,1000.5,11.69,1.82,2.48\n"


def timm(path: Path) -> object:
    """The tables of timm: that of times is needed, that of accuracies lies beside it."""
    if path.name != "benchmark-infer-cpu.csv":
        (path.parent / "benchmark-infer-cpu.csv").write_bytes(TIMES)
    return timm_results.load(path.parent)


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
    "checkpoint.pt": (checkpoint(), partial(checkpoints.load, fingerprint="training run")),
    "config.json": (
        json.dumps(
            {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5], "std": [0.5]}}
        ).encode(),
        partial(start.hub_config, name="timm/resnet18"),
    ),
    "architecture.json": (json.dumps(NETWORK.to_dict()).encode(), read_architecture),
    "records.tar": (archive(), partial(records.read, space=SPACE)),
    "latencies.json": (json.dumps(LATENCIES).encode(), latency_tables.load),
    "latency.csv": (kit(), latency_tables.load),
    "growth.json": (json.dumps(GROWTH).encode(), partial(growth_table.read, cost="macs")),
    "growth.csv": (
        pd.DataFrame(GROWTH).to_csv(index=False).encode(),
        partial(growth_table.read, cost="macs"),
    ),
    "study.json": (
        json.dumps(STUDY | {"points": POINTS}).encode(),
        lambda path: scaling_study.standings(scaling_study.load(path.parent)),
    ),
    "benchmark-infer-cpu.csv": (TIMES, timm),
    "results-imagenet.csv": (b"model,img_size,top1\nresnet18.a1_in1k,224,71.5\n", timm),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_data_or_a_sentence(name: str) -> None:
    content, reader = FILES[name]

    @fuzzed
    @given(document(content) if name.endswith(".json") else damaged(content))
    def check(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            attempt(name, lambda: reader(path))

    check()


def each_of(folder: Path, but: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """A file of the folder, `but` those of a suffix, by its path in it, and its damage."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != but]
    contents = {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def damage(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
        content = contents[name]
        changed = document(content) if name.endswith(".json") else damaged(content)
        return st.tuples(st.just(name), changed)

    return st.sampled_from([*contents]).flatmap(damage)


def read_damaged(
    kind: str, whole: Path, reader: Callable[[Path], object], *, but: str = ""
) -> None:
    """Reads a folder with one of its files damaged at a time."""

    @fuzzed
    @given(each_of(whole, but))
    def check(change: tuple[str, bytes]) -> None:
        name, content = change
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(whole, Path(folder) / "copy"))
            (copy / name).write_bytes(content)
            if kind == "family" and name.startswith("b0/"):
                test_hostile_files.rehashed(copy, name.removeprefix("b0/"))
            attempt(f"{kind}: {name}", lambda: reader(copy))

    check()


def report(folder: Path) -> None:
    run = runs.load(folder)
    found = tables.collect(run)
    page.render(run, found)
    predictions.pictures(folder)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_run_gives_a_report_or_a_sentence(tmp_path: Path) -> None:
    # JSON aside: keys and values that were edited there may still end in a traceback.
    read_damaged("run", build_run(tmp_path / "run"), report, but=".json")


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_journal_gives_trials_or_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("storage: journal\n", "utf-8")
    url = storage_url(folder, "journal")
    study = optuna.create_study(
        storage=open_storage(url), study_name="search", direction="maximize"
    )
    study.add_trials(search_trials(choices.load("mnasnet_small"), 8))
    read_damaged("journal", folder, runs.load)


def used(folder: Path) -> None:
    for member in load_family(folder):
        member.load()
        open_format(member, Format.ONNX)(np.zeros((1, 3, 12, 12), np.float32))


whole = test_hostile_files.whole


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_family_gives_networks_or_a_sentence(whole: Path) -> None:
    read_damaged("family", whole, used)
