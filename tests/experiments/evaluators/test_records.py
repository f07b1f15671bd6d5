from __future__ import annotations

import io
import json
import logging
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.evaluators.records import (
    NetworkRecords,
    RecordsEvaluator,
    quality,
    read,
    surrogate,
)
from space import choices, moves, presets
from space.cost_table import tabulate
from space.evaluation import Budget, Epoch, Status
from space.validation import InvalidInput

SPACE = choices.load("accel_nasbench")
BUDGET = Budget(epochs=1)
B0 = {"e": (1, 6, 6, 6, 6, 6, 6), "k": (3, 3, 5, 3, 5, 5, 3), "l": (1, 2, 2, 3, 3, 4, 1)}


def _b0(top1: float) -> dict[str, Any]:
    """EfficientNet-B0 as Accel-NASBench would write it."""
    architecture: dict[str, Any] = {
        f"block{place}_{name}": values[place] for name, values in B0.items() for place in range(7)
    }
    architecture |= {f"block{place}_se": True for place in range(7)}
    return {"architecture": architecture, "metrics": {"val_top1": top1}}


def _archive(path: Path, records: list[dict[str, Any]]) -> Path:
    written = [json.dumps(record).encode() for record in records]
    return _packed(path, {f"results/result_{n}.json": data for n, data in enumerate(written)})


def _packed(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _ignore(_: Epoch) -> bool:
    return False


def test_record_is_the_architecture_that_it_names(tmp_path: Path) -> None:
    records = read(_archive(tmp_path / "a.tar.gz", [_b0(65.0)]), SPACE)
    evaluate = RecordsEvaluator(records)
    measured = evaluate(presets.load("efficientnet_b0"), BUDGET, _ignore)
    assert measured.status is Status.COMPLETE
    assert measured.accuracy == pytest.approx(0.65)
    assert measured.details == {"recorded": 1.0}


def test_network_measured_twice_has_the_mean(tmp_path: Path) -> None:
    records = read(_archive(tmp_path / "a.tar.gz", [_b0(64.0), _b0(65.0)]), SPACE)
    assert len(records) == 1
    assert records.accuracy[0] == pytest.approx(0.645)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"block0_e": 5}, "record of the space accel_nasbench"),
        ({"block3_k": None}, "record of the space accel_nasbench"),
    ],
)
def test_record_of_another_space_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    record = _b0(65.0)
    record["architecture"] |= change
    path = _archive(tmp_path / "a.tar.gz", [_b0(64.0), record])
    with pytest.raises(InvalidInput, match=rf"a\.tar\.gz: results/result_1\.json: .*{part}"):
        read(path, SPACE)


def test_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.tar.gz"
    path.write_text("nothing of the kind")
    with pytest.raises(InvalidInput, match="cannot be read as records"):
        read(path, SPACE)
    with pytest.raises(InvalidInput, match="cannot be read as records"):
        read(tmp_path / "absent.tar.gz", SPACE)
    with pytest.raises(InvalidInput, match="contains no records"):
        read(_archive(tmp_path / "empty.tar.gz", []), SPACE)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (bytes(50_000_000), "has 50,000,000 bytes, more than a record"),
        (b"[" * 50_000, "maximum recursion depth exceeded"),
        (b"[]", "is not a record of the space"),
        (json.dumps(_b0(float("nan"))).encode(), "`0 <= val_top1 <= 100` must hold, but got nan"),
        (json.dumps(_b0(10**400)).encode(), "is not a record of the space .*too large"),
    ],
)
def test_archive_of_a_stranger_is_refused_in_one_line(
    tmp_path: Path, member: bytes, said: str
) -> None:
    path = _packed(tmp_path / "a.tar.gz", {"../../etc/\x1b[31m.json": member})
    with pytest.raises(InvalidInput, match=said) as refused:
        read(path, SPACE)
    assert str(refused.value).isprintable()
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("at", [0.1, 0.3])  # the end of an archive is padding
def test_archive_that_is_damaged_is_refused(tmp_path: Path, at: float) -> None:
    path = _archive(tmp_path / "a.tar.gz", [_b0(65.0)] * 20)
    whole = path.read_bytes()
    cut = int(at * len(whole))
    for content in (whole[:cut], whole[:cut] + b"\xff\0\xff" + whole[cut + 3 :]):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="cannot be read as records"):
            read(path, SPACE)


@pytest.fixture(scope="module")
def invented() -> NetworkRecords:
    """400 networks whose accuracy rises with parameters, and a little at random."""
    rows = moves.uniform(tabulate(SPACE).sizes, 400, np.random.default_rng(0))
    params = tabulate(SPACE)(rows)[:, 1]
    noise = 0.002 * np.random.default_rng(1).standard_normal(400)
    return NetworkRecords(SPACE, rows, 0.1 + 0.03 * np.log(params) + noise)


def test_without_a_surrogate_an_unknown_network_fails_and_says_why(
    invented: NetworkRecords,
) -> None:
    measured = RecordsEvaluator(invented)(presets.load("efficientnet_b0"), BUDGET, _ignore)
    assert measured.status is Status.FAILED
    assert "this network is not recorded; set evaluator.surrogate" in (measured.reason or "")


@pytest.mark.parametrize(
    "other",
    [
        presets.load("mobilenet_v2"),
        replace(presets.load("efficientnet_b0"), num_classes=10),
        replace(presets.load("efficientnet_b0"), resolution=192),
    ],
    ids=["another table", "other classes", "another resolution"],
)
def test_network_outside_the_space_fails_and_is_never_predicted(
    invented: NetworkRecords, other: Any
) -> None:
    def predict(_: object) -> np.ndarray:
        raise AssertionError

    measured = RecordsEvaluator(invented, predict)(other, BUDGET, _ignore)
    assert measured.status is Status.FAILED
    assert "this network is not in the space" in (measured.reason or "")


@pytest.mark.parametrize("name", ["gaussian_process", "boosting"])
def test_surrogate_predicts_and_says_how_well(invented: NetworkRecords, name: Any) -> None:
    found = quality(name, invented, folds=4)
    assert found.kendall_tau > 0.8
    assert found.r2 > 0.8
    assert 0.002 < found.rmse < 0.02
    predicted = surrogate(name, invented)(invented.rows)
    assert np.sqrt(((predicted - invented.accuracy) ** 2).mean()) < found.rmse


def test_prediction_tells_its_doubts(
    invented: NetworkRecords, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate = RecordsEvaluator(invented, surrogate("boosting", invented), rmse=0.004)
    measured = evaluate(presets.load("efficientnet_b0"), BUDGET, _ignore)
    assert measured.details["recorded"] == 0
    assert measured.details["surrogate_rmse"] == 0.004
    assert measured.details["changes_to_nearest_record"] >= 1
    assert measured.details["extrapolated"] == 0
    assert not caplog.records

    largest = SPACE.decode({name: values[-1] for name, values in SPACE.choices.items()})
    with caplog.at_level(logging.WARNING):
        measured = evaluate(largest, BUDGET, _ignore)
    assert measured.details["extrapolated"] == 1
    assert "extrapolates" in caplog.text


def test_noise_belongs_to_network_and_budget(invented: NetworkRecords) -> None:
    def predict(rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), 0.6)

    evaluate = RecordsEvaluator(invented, predict, noise=0.003)
    networks = [
        SPACE.decode({n: v[i % len(v)] for n, v in SPACE.choices.items()}) for i in range(3)
    ]
    first = [evaluate(network, BUDGET, _ignore).accuracy for network in networks]
    again = [evaluate(network, BUDGET, _ignore).accuracy for network in networks]
    other = [evaluate(network, Budget(1, seed=1), _ignore).accuracy for network in networks]
    assert first == again
    assert first != other
    assert len(set(first)) == 3


def test_real_archive_is_read_whole(shared: Path) -> None:
    records = read(shared / "data/accel_nasbench/anb_dataset_jsons.tar.gz", SPACE)
    assert len(records) == 5_138 - 13  # thirteen networks occur twice
    assert 0.4 < records.accuracy.min() < records.accuracy.max() < 0.7


def test_real_surrogate_ranks_networks_it_has_not_seen(shared: Path) -> None:
    records = read(shared / "data/accel_nasbench/anb_dataset_jsons.tar.gz", SPACE)
    found = quality("gaussian_process", records, folds=3)
    assert found.kendall_tau > 0.93
    assert found.rmse < 0.0037
