"""`phiscale search accel-nasbench`: a search without images, on records of training runs."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from experiments import stages
from experiments.commands import stage_output
from experiments.config import load
from experiments.evaluators.records import RecordsEvaluator
from experiments.runs.folder import OpenRun
from experiments.runs.opening import open_run
from reports import load as reports
from search.study import open_study, value_of
from space import choices, moves, presets
from space.cost import cost
from space.cost_table import tabulate
from space.evaluation import Interrupted, Measurement
from space.validation import InvalidInput

SPACE = choices.load("accel_nasbench")


def _record(row: list[int], accuracy: float) -> dict[str, Any]:
    """As Accel-NASBench would write it."""
    chosen = {n: v[i] for (n, v), i in zip(SPACE.choices.items(), row, strict=True)}
    repeats = (1, 2, 2, 3, 3, 4, 1)
    architecture = {}
    for place in range(7):
        own = {n.split(".")[1]: v for n, v in chosen.items() if n.startswith(f"stage{place + 1}.")}
        architecture |= {
            f"block{place}_e": int(str(own["operator"]).removeprefix("inverted_e")),
            f"block{place}_k": own["kernel"],
            f"block{place}_se": bool(own["se"]),
            f"block{place}_l": int(own["layers"]) + repeats[place],
        }
    return {"architecture": architecture, "metrics": {"val_top1": 100 * accuracy}}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 networks whose accuracy rises with parameters and kernels."""
    rows = moves.uniform(tabulate(SPACE).sizes, 250, np.random.default_rng(0))
    accuracy = 0.1 + 0.03 * np.log(tabulate(SPACE)(rows)[:, 1]) + 0.001 * rows[:, 1::4].sum(axis=1)
    path = tmp_path_factory.mktemp("records") / "anb.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for number, (row, value) in enumerate(zip(rows.tolist(), accuracy.tolist(), strict=True)):
            data = json.dumps(_record(row, value)).encode()
            member = tarfile.TarInfo(f"results/{number}.json")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def opened(folder: Path, archive: Path, *overrides: str) -> OpenRun:
    settings = (f"evaluator.records={archive}", "evaluator.surrogate=gaussian_process")
    return open_run("accel-nasbench", folder, (*settings, "search.trials=24", *overrides))


@pytest.fixture(scope="module")
def run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    run = opened(tmp_path_factory.mktemp("runs") / "whole", archive)
    stages.run(run, ["search"])
    return run


def test_baseline_is_the_best_trial_and_is_compared_with_b0(run: OpenRun) -> None:
    study = open_study(run.storage, "search")
    assert len(study.trials) == 24
    found = run.read("baseline.json")
    best = max(study.trials, key=value_of)
    assert found["key"] == best.user_attrs["key"]
    assert found["cost"]["macs"] <= 385_000_000
    reference = found["lookup"]["reference"]
    assert reference["cost"] == cost(presets.load("efficientnet_b0"))._asdict()
    assert 0 < reference["accuracy"] < 1
    judged = found["lookup"]["cross_validation"]
    assert judged["kendall_tau"] > 0.7
    assert 0 < judged["rmse"] < 0.01


def test_user_sees_accuracy_error_and_comparison(run: OpenRun, capsys: Any) -> None:
    stage_output.show_baseline(run.read("baseline.json"))
    said = capsys.readouterr().out
    for part in ("surrogate accuracy", "Kendall τ", "R²", "RMSE", "efficientnet_b0", "points"):
        assert part in said
    assert "24 predicted" in said


def test_user_is_told_loudly_of_an_extrapolated_baseline(run: OpenRun, capsys: Any) -> None:
    found = run.read("baseline.json")
    found["lookup"]["expected"]["extrapolated"] = True
    stage_output.show_baseline(found)
    assert "EXTRAPOLATED" in capsys.readouterr().out


def test_interrupted_search_on_records_ends_as_the_whole_one(
    run: OpenRun, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, evaluate = count(), RecordsEvaluator.__call__

    def interrupted(*arguments: Any) -> Measurement:
        if next(calls) == 9:
            raise Interrupted
        return evaluate(*arguments)

    monkeypatch.setattr(RecordsEvaluator, "__call__", interrupted)
    again = opened(tmp_path / "again", archive, "search.trials=24")
    for trials in (9, 24):
        stages.run(again, ["search"])
        recorded = open_study(again.storage, "search").get_trials(states=(TrialState.COMPLETE,))
        assert len(recorded) == trials
    keys = [
        [trial.user_attrs["key"] for trial in open_study(each.storage, "search").trials]
        for each in (run, again)
    ]
    assert keys[0] == keys[1]


def test_report_can_be_written_of_a_search_alone(run: OpenRun) -> None:
    page = stages.run(run, ["report"])["report"]
    assert Path(page).is_file()


def test_later_stages_are_refused_before_anything_runs(archive: Path, tmp_path: Path) -> None:
    run = opened(tmp_path / "run", archive)
    with pytest.raises(InvalidInput, match=r"evaluator\.kind: records .* coefficients trains"):
        stages.run(run, ["search", "coefficients"])
    assert not (tmp_path / "run" / "study.db").exists()


def test_recipe_without_its_archive_says_where_to_get_it(tmp_path: Path) -> None:
    run = open_run("accel-nasbench", tmp_path / "run")
    with pytest.raises(InvalidInput, match=r"evaluator\.records: .*Accel-NASBench.*--set"):
        stages.run(run, ["search"])


def test_records_are_of_one_resolution(archive: Path, tmp_path: Path) -> None:
    run = opened(tmp_path / "run", archive, "resolution=192")
    with pytest.raises(
        InvalidInput, match="resolution: must be 224, as of the recorded networks, but got 192"
    ):
        stages.run(run, ["search"])


def test_only_exact_records_answer_without_a_surrogate(archive: Path, tmp_path: Path) -> None:
    run = opened(tmp_path / "run", archive, "evaluator.surrogate=none")
    with pytest.raises(stages.FAILURES, match="this network is not recorded"):
        stages.run(run, ["search"])


def test_evaluator_may_be_named_by_its_kind_alone() -> None:
    assert load("accel-nasbench", ("evaluator=records",)).evaluator.kind == "records"


def test_front_is_written_shown_and_reported(archive: Path, tmp_path: Path, capsys: Any) -> None:
    run = opened(tmp_path / "run", archive, "objective.pareto=[macs, params]")
    found = stages.run(run, ["search"])["search"]
    front = run.read("pareto.json")
    assert found["pareto"] == front
    assert 0 < front["hypervolume"] < 1
    assert front["objectives"] == ["accuracy", "macs", "params"]
    assert found["key"] in {each["key"] for each in front["front"]}
    stage_output.show_baseline(found)
    assert "hypervolume" in capsys.readouterr().out
    loaded = reports.load(run.folder)
    rewards = [trial.value for trial in loaded.study("search")]
    assert max(each for each in rewards if each is not None) == pytest.approx(found["reward"])
    assert Path(stages.run(run, ["report"])["report"]).is_file()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latency table of invented seconds: 0.2 ms for every part."""
    from experiments.latency import tables

    names = tables.pieces_of(SPACE)
    made = tables.LatencyTable(
        tables.TableSetting("accel_nasbench", 224, "cpu", "eager", 1, 1, "invented"),
        scale=1.0,
        offset=0.0,
        judged=tables.PredictionErrors(16, 0.01, 0.05, 0.9),
        seconds=dict.fromkeys(names, 2e-4),
    )
    made.save(path := tmp_path_factory.mktemp("table") / "latency.json")
    return path


def test_latency_by_a_table_is_cost_bound_and_objective(
    archive: Path, table: Path, tmp_path: Path, capsys: Any
) -> None:
    run = opened(
        tmp_path / "run",
        archive,
        f"objective.latency_table={table}",
        "objective={cost: latency, target: 4ms, bounds: {latency: [3ms, 4ms]}, pareto: [latency], "
        f"latency_table: {table}}}",
        "search.trials=20",
    )
    found = stages.run(run, ["search"])["search"]
    for trial in open_study(run.storage, "search").trials:
        blocks = sum(s["repeats"] for s in trial.user_attrs["architecture"]["stages"])
        assert trial.user_attrs["latency"] == pytest.approx(2e-4 * (blocks + 2))
        assert 0.003 <= trial.user_attrs["latency"] <= 0.004
    assert 0.003 <= found["cost"]["latency"] <= 0.004
    assert found["pareto"]["most"] == {"latency": 0.004}
    stage_output.show_baseline(found)
    assert "ms, surrogate accuracy" in capsys.readouterr().out
    assert Path(stages.run(run, ["report"])["report"]).is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{cost: latency, target: 5ms}", r"latency_table: required where latency"),
        (
            "{target: 4M, pareto: [latency], latency_table: x}",
            r"bounds\.latency: required where `pareto`",
        ),
        ("{target: 0.5}", "target: must be a whole number of macs"),
        ("{target: 4M, pareto: [macs, macs]}", "pareto: costs must differ"),
        (
            "{target: 4M, bounds: {latency: [5ms, 1ms]}, latency_table: x}",
            "`minimum <= maximum` must hold",
        ),
    ],
)
def test_objective_that_cannot_be_meant_is_refused(settings: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load("accel-nasbench", (f"objective={settings}",))


def test_latency_table_of_another_resolution_is_refused(
    archive: Path, table: Path, tmp_path: Path
) -> None:
    other = json.loads(table.read_text())
    other["setting"]["resolution"] = 192
    (tmp_path / "other.json").write_text(json.dumps(other))
    settings = f"{{cost: latency, target: 4ms, latency_table: {tmp_path / 'other.json'}}}"
    with pytest.raises(InvalidInput, match="was measured at 192 pixels, but the networks take 224"):
        stages.run(opened(tmp_path / "run", archive, f"objective={settings}"), ["search"])


def test_several_objectives_refuse_a_pruner() -> None:
    with pytest.raises(InvalidInput, match=r"pruner\.kind: must be none with `objective\.pareto`"):
        load("demo", ("objective.pareto=[macs]",))


@pytest.mark.parametrize("source", ["run", "storage", "records"])
def test_earlier_searches_help_the_predictor(
    source: str, run: OpenRun, archive: Path, tmp_path: Path
) -> None:
    earlier = {"run": str(run.folder), "storage": run.storage, "records": str(archive)}[source]
    warm = opened(tmp_path / "warm", archive, f"search.warm_start=['{earlier}']", "search.trials=8")
    stages.run(warm, ["search"])
    assert len(warm.read("warm_start.json")["rows"]) == (250 if source == "records" else 24)
    first, cold = (
        [value_of(trial) for trial in open_study(each.storage, "search").trials[4:8]]
        for each in (warm, run)
    )
    assert np.mean(first) > np.mean(cold)


def test_prior_is_kept_as_it_was_at_the_start(archive: Path, tmp_path: Path) -> None:
    earlier = opened(tmp_path / "earlier", archive, "search.trials=6")
    stages.run(earlier, ["search"])
    warm = opened(tmp_path / "warm", archive, f"search.warm_start=['{earlier.folder}']")
    stages.run(warm, ["search"])
    kept = warm.read("warm_start.json")
    stages.run(opened(tmp_path / "earlier", archive, "search.trials=9"), ["search"])
    stages.run(warm, ["search"])
    assert warm.read("warm_start.json") == kept


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "cannot be read as records"),
        ("sqlite:///absent.db", "file not found"),
        (".", "not a run, because it contains no recipe.yaml"),
    ],
)
def test_warm_start_that_is_nothing_is_refused(
    source: str, message: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = opened(tmp_path / "run", archive, f"search.warm_start=['{source}']")
    with pytest.raises(InvalidInput, match=message):
        stages.run(run, ["search"])


def test_other_samplers_refuse_a_warm_start(run: OpenRun, archive: Path, tmp_path: Path) -> None:
    settings = (f"search.warm_start=['{run.folder}']", "search.sampler=tpe")
    with pytest.raises(InvalidInput, match=r"search\.warm_start: the sampler tpe cannot learn"):
        stages.run(opened(tmp_path / "run", archive, *settings), ["search"])
