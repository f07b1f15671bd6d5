"""How long networks take: measured here, and looked up block by block."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import cli
from experiments.latency import kit, tables, timing
from experiments.latency.tables import LatencyTable, PredictionErrors, TableSetting
from experiments.latency.timing import measure
from space import choices, presets
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.network import build
from space.validation import InvalidInput

SPACE = choices.load("mnasnet_small").adapted(num_classes=10, resolution=16)
SMALL = Architecture(Stem(8), (Stage(Operator.INVERTED, 8),), Head(16), resolution=16)

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def table(seconds: dict[str, float], *, scale: float = 1.0, offset: float = 0.0) -> LatencyTable:
    setting = TableSetting(
        space="mnasnet_small",
        resolution=16,
        device="cpu",
        backend="eager",
        batch=1,
        threads=1,
        processor="some",
    )
    return LatencyTable(setting, scale, offset, PredictionErrors(16, 0.01, 0.05, 0.9), seconds)


def test_a_latency_has_ordered_quartiles_and_says_what_it_holds_for() -> None:
    found = measure(SMALL, batch=4, threads=1)
    assert 0 < found.low_seconds <= found.median_seconds <= found.high_seconds
    assert (found.batch, found.device, found.backend, found.threads) == (4, "cpu", "eager", 1)
    assert found.images_per_second == pytest.approx(4 / found.median_seconds)


def test_measuring_leaves_the_threads_of_this_process_alone() -> None:
    before = torch.get_num_threads()
    measure(SMALL, threads=before + 1)
    assert torch.get_num_threads() == before


def test_what_is_timed_is_the_network_in_evaluation() -> None:
    network = timing.ready(build(replace(SMALL, dropout=0.5)), torch.device("cpu"))
    images = timing.example((2, 3, 16, 16), torch.device("cpu"))
    run = timing.runner(network, images, "eager")
    with torch.no_grad():
        assert torch.equal(run(), network(images))
        assert torch.equal(run(), run())  # no dropout
        assert len(timing.time_calls(run, torch.device("cpu"), at_least=0.01)) >= 30


def test_onnxruntime_runs_a_network_too() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert measure(SMALL, backend="onnxruntime", threads=1).backend == "onnxruntime"


def test_a_survey_measures_every_network_at_every_batch_and_is_kept_as_csv(tmp_path) -> None:
    subjects = [timing.Subject("b0", SMALL, 0.5), timing.Subject("b1", SMALL)]
    rows = list(timing.survey(subjects, batches=(1, 2), threads=1))
    assert [(row.member, row.accuracy, row.batch) for row in rows] == [
        *(("b0", 0.5, 1), ("b0", 0.5, 2)),
        *(("b1", None, 1), ("b1", None, 2)),
    ]
    timing.write(tmp_path / timing.FILE, rows)
    with (tmp_path / timing.FILE).open(newline="") as file:
        read = list(csv.DictReader(file))
    assert float(read[0]["median_seconds"]) == rows[0].median_seconds
    assert read[2]["accuracy"] == ""


@cuda
@pytest.mark.parametrize("backend", ["eager", "graph"])
def test_a_gpu_is_timed_by_its_own_clock(backend: timing.Backend) -> None:
    assert measure(SMALL, device="cuda", backend=backend).device == "cuda"


@cuda
def test_a_captured_network_computes_what_the_eager_one_does() -> None:
    device = torch.device("cuda")
    network = timing.ready(build(SMALL), device)
    images = timing.example((2, 3, 16, 16), device)
    timing.runner(network, images, "graph")()
    torch.cuda.synchronize()
    assert network(images).isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"backend": "graph"}, "it captures a CUDA graph; use --device cuda"),
        ({"backend": "egaer"}, "did you mean 'eager'"),
    ],
)
def test_a_backend_that_cannot_run_is_refused_with_a_reason(wrong, sentence) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        measure(SMALL, **wrong)


def test_a_prediction_is_the_corrected_sum_of_the_parts() -> None:
    network = tables.sample(SPACE, 1)[0]
    names = [piece.name for piece in tables._pieces(network)]
    seconds = {name: 2.0**-number for number, name in enumerate(dict.fromkeys(names), start=1)}
    expected = 3 * sum(seconds[name] for name in names) + 0.5
    assert table(seconds, scale=3, offset=0.5).predict(network) == pytest.approx(expected)


def test_a_table_holds_every_part_of_every_network_of_its_space() -> None:
    space = replace(SPACE, choices={**SPACE.choices, "resolution": (16, 24)})
    full = table(dict.fromkeys(tables.pieces_of(space), 1.0))
    for network in tables.sample(space, 200):
        blocks = sum(len(stage) for stage in network.blocks())
        assert full.predict(network) == blocks + 2  # stem and head


def test_the_parts_of_a_network_compute_what_it_does() -> None:
    """Chained, every piece is given exactly the map that it says it is timed on."""
    network = presets.load("resnet18", num_classes=10)
    x = torch.zeros(1, 3, network.resolution, network.resolution)
    for piece in tables._pieces(network):
        assert x.shape == (1, piece.channels, piece.side, piece.side)
        x = piece.make().eval()(x)
    assert x.shape == (1, 10)


def test_a_network_of_another_space_is_refused_with_what_to_do() -> None:
    full = table(dict.fromkeys(tables.pieces_of(SPACE), 1.0))
    with pytest.raises(InvalidInput, match="--build-table"):
        full.predict(presets.load("efficientnet_b0"))


def test_judging_is_by_relative_error_and_rank() -> None:
    found = np.array([1.0, 2.0, 3.0, 4.0])
    judged = tables._judge(np.array([1.1, 2.0, 4.5, 4.0]), found)
    assert judged.networks == 4
    assert judged.median_error == pytest.approx(0.05)
    assert judged.largest_error == pytest.approx(0.5)
    assert judged.rank_correlation == pytest.approx((5 - 1) / 6)


def small_space(tmp_path: Path) -> Path:
    """Two stages with two choices each."""
    path = tmp_path / "tiny.yaml"
    path.write_text("""
base:
  resolution: 8
  stem: {channels: 8, stride: 1}
  stages:
    - {operator: separable, channels: 16}
    - {operator: inverted, expansion: 2, channels: 32, stride: 2}
  head: {channels: 16}
choices: {kernel: [3, 5], width: [0.5, 1.0]}
""")
    return path


def phiscale(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["phiscale", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_a_table_is_built_stored_and_asked_on_the_command_line(
    tmp_path, monkeypatch, capsys
) -> None:
    space, stored = str(small_space(tmp_path)), tmp_path / "table.json"
    assert phiscale(monkeypatch, "latency", space, "--build-table", str(stored), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parts"] == 1 + 4 + 8 + 2
    assert {"networks", "median_error", "largest_error", "rank_correlation"} <= told.keys()

    built = tables.load(stored)
    built.save(tmp_path / "again.json")
    assert tables.load(tmp_path / "again.json") == built

    network = choices.load(space).base
    file = tmp_path / "network.json"
    file.write_text(json.dumps(network.to_dict()))
    assert phiscale(monkeypatch, "latency", str(file), "--table", str(stored), "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["predicted_seconds"] == built.predict(network)
    assert row["median_seconds"] > 0


def test_a_damaged_table_is_refused(tmp_path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"scale": 1}')
    with pytest.raises(InvalidInput, match=r"table\.json"):
        tables.load(path)


@pytest.mark.parametrize("tf32", [False, True])
def test_what_is_called_float32_is_not_rounded_to_tf32(
    tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def timed(*_: object, **__: object) -> list[float]:
        seen.append(torch.backends.cudnn.allow_tf32)
        return [1.0]

    monkeypatch.setattr(timing, "time_calls", timed)
    timing.measure(presets.load("mnasnet_small"), tf32=tf32)
    assert seen == [tf32]


@pytest.mark.parametrize("format_", ["onnx", "program"])
def test_what_a_kit_measures_with_the_devices_runtime_alone_is_a_table(
    tmp_path, monkeypatch, format_
) -> None:
    space, folder = str(small_space(tmp_path)), tmp_path / "kit"
    monkeypatch.setattr(tables, "WHOLE", 4)
    command = ["latency", space, "--kit", str(folder), "--format", format_, "--json"]
    assert phiscale(monkeypatch, *command) == 0
    assert phiscale(monkeypatch, *command[:4], "--resolution", "16") == 2  # the folder is another's
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix != ".json"}
    assert phiscale(monkeypatch, *command) == 0
    written = [path for path, then in files.items() if path.stat().st_mtime_ns != then]
    assert [path.name for path in written] == ["measure.py"]
    script = [sys.executable, "-I", "-W", "ignore", str(folder / "measure.py"), "1"]
    subprocess.run(script, check=True, capture_output=True, cwd=tmp_path)
    table = tables.load(folder / "latency.csv")
    assert table.setting.backend == {"onnx": "onnxruntime", "program": "program"}[format_]
    assert (table.setting.space, table.setting.resolution) == ("tiny", 8)
    assert table.judged.networks == 2
    loaded = choices.load(space)
    assert table.seconds.keys() == tables.pieces_of(loaded).keys()
    for network in tables.sample(loaded, 5):
        assert table.predict(network) == pytest.approx(
            table.scale * sum(table.seconds[name] for name in tables.whole(network).split(" + "))
            + table.offset
        )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("latency.csv", "name,seconds\nhead,1\n", r"latency\.csv: not a latency table"),
        ("latency.csv", "name,seconds\nhead\n", r"latency\.csv: not a latency table"),
        (
            "latency.csv",
            "name,seconds\nhead,nan\n",
            r"latency\.csv: head: input should be a finite",
        ),
        ("latency.json", "[" * 100_000, r"latency\.json: not a latency table"),
        ("latency.json", '{"scale": Infinity}', r"latency\.json: scale: input should be a finite"),
    ],
)
def test_odd_numbers_in_a_table_are_refused(tmp_path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InvalidInput, match=message):
        tables.load(tmp_path / name)


def test_a_kit_of_litert_names_its_extra(tmp_path) -> None:
    with pytest.raises(InvalidInput, match=r"pip install '\.\[litert\]'"):
        kit.write(SPACE, tmp_path, "litert", progress=lambda *_: None)
