"""TensorBoard and MLflow hold what the run's own storage holds, and never end a run."""

from dataclasses import replace

import optuna
import pytest

from experiments import config, stages
from experiments.conduct import Observed
from experiments.progress import log, trackers
from experiments.progress.trackers import MLflow, TensorBoard, trackers_of, tracking
from experiments.runs.opening import open_run
from scaling.jobs import InOrder
from search.executors.local import Local
from search.recorded_jobs import Recorded, accuracy
from space import presets
from space.cost import cost
from space.evaluation import Budget, Epoch, Job, Measurement, Status
from space.validation import InvalidInput

NETWORK = replace(presets.load("mnasnet_small"), resolution=32)
NAMES = ("b0", "α1.2 β1.1 γ1.15, 3 epochs", "../../evil")


def jobs() -> list[Job]:
    return [
        Job(name, replace(NETWORK, resolution=32 + i), Budget(2)) for i, name in enumerate(NAMES)
    ]


def evaluate(architecture, _, report) -> Measurement:
    """Two epochs; the network of 33 pixels is pruned, that of 34 fails."""
    epochs = tuple(
        Epoch(number, 2.0 / number, 0.25 * number, 1.0 / number, 0.5) for number in (1, 2)
    )
    for epoch in epochs:
        report(epoch)
    status = (Status.COMPLETE, Status.PRUNED, Status.FAILED)[architecture.resolution - 32]
    if status is Status.FAILED:
        return Measurement(status, reason="the loss is nan")
    return Measurement(status, accuracy=0.5, loss=0.5, train_seconds=1.0, epochs=epochs)


def run_with(*used: trackers.Tracker, study: optuna.Study | None = None) -> optuna.Study:
    study = study or optuna.create_study(direction="maximize")
    with tracking("family", used, accuracy) as observer:
        Local().run(Observed(Recorded(InOrder(jobs()), study), [observer]), evaluate)
    return study


def test_tensorboard_reads_back_curves_costs_and_outcomes(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_with(TensorBoard(tmp_path / "tb"))
    places = {path.parent.name: path.parent for path in (tmp_path / "tb").rglob("events.*")}
    assert set(places) == {"b0", "α1.2-β1.1-γ1.15-3-epochs", "evil"}
    assert {path.parent for path in places.values()} == {tmp_path / "tb" / "family"}
    events = EventAccumulator(str(places["b0"])).Reload()
    assert [(e.step, e.value) for e in events.Scalars("accuracy")] == [(1, 0.25), (2, 0.5)]
    assert [e.value for e in events.Scalars("train_loss")] == [2.0, 1.0]
    assert events.Scalars("final/accuracy")[0].value == 0.5
    row = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert NETWORK.key.encode() in row
    failed = EventAccumulator(str(places["evil"])).Reload()
    assert "final/accuracy" not in failed.Tags()["scalars"]
    assert failed.Tensors("reason/text_summary")[0].tensor_proto.string_val == [b"the loss is nan"]


@pytest.fixture
def mlflow_uri(tmp_path, monkeypatch) -> str:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_reads_back_runs_with_their_states(mlflow_uri):
    from mlflow import MlflowClient

    run_with(MLflow(mlflow_uri, "flowers"))
    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("flowers")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {f"family {name}" for name in NAMES}
    states = [found[f"family {name}"].info.status for name in NAMES]
    assert states == ["FINISHED", "KILLED", "FAILED"]
    first = found["family b0"]
    assert first.data.params["macs"] == str(cost(NETWORK, 32).macs)
    assert first.data.metrics["final/accuracy"] == 0.5
    assert first.data.tags["phiscale.stage"] == "family"
    curve = client.get_metric_history(first.info.run_id, "accuracy")
    assert [(point.step, point.value) for point in curve] == [(1, 0.25), (2, 0.5)]
    assert found[f"family {NAMES[2]}"].data.tags["reason"] == "the loss is nan"


def test_what_is_answered_from_the_study_is_not_logged_again(tmp_path):
    pytest.importorskip("tensorboard")
    study = run_with()
    run_with(TensorBoard(tmp_path / "tb"), study=study)
    logged = {path.parent.name for path in (tmp_path / "tb").rglob("events.*")}
    assert logged == {"evil"}  # failed before, so trained again


class Broken:
    """Fails at its second call."""

    calls = 0

    def epoch(self, *_: object) -> None:
        self.calls += 1
        if self.calls == 2:
            raise ConnectionError("http://me:secret@server refuses")

    def result(self, *_: object) -> None:
        self.calls += 1

    def close(self) -> None:
        self.calls += 1


def test_a_tracker_that_fails_is_left_and_the_run_goes_on(capsys):
    broken = Broken()
    study = run_with(broken)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert broken.calls == 2
    said = capsys.readouterr().err
    assert "Broken failed (ConnectionError: http://me:***@server refuses)" in said
    assert said.count("the run continues without it") == 1


@pytest.mark.usefixtures("mlflow_uri")
def test_an_unreachable_mlflow_server_ends_nothing(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = run_with(MLflow("http://127.0.0.1:9", "x"))
    assert len(study.trials) == 3
    assert "logging: MLflow failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "extra"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")]
)
def test_a_missing_package_names_its_extra(module, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    settings = config.LoggingConfig(tensorboard=module == "tensorboard", mlflow="http://x")
    with pytest.raises(InvalidInput, match=rf"pip install 'phiscale\[{extra}\]'"):
        trackers_of(settings, tmp_path, "x")


def test_one_line_of_the_recipe_logs_a_real_search(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes = (
        *("resolution=16", "data.glyphs.classes=3", "data.glyphs.train_images=60"),
        *("data.glyphs.test_images=15", "objective.target=400K", "search.trials=2"),
        *("objective.bounds={macs: [100K, 900K]}", "search.epochs=2", "search.finalists=1"),
        *("search.final_epochs=3", "executor.threads=1", f"data.cache={tmp_path / 'cache'}"),
        "logging={tensorboard: true}",
    )
    opened = open_run("demo", tmp_path / "run", changes)
    with log.recorded(opened.folder, quiet=True):
        stages.run(opened, ["search"])
    logged = {path.parent.name: path.parent for path in opened.folder.rglob("events.*")}
    study = optuna.load_study(study_name="search", storage=opened.storage)
    finalist = f"finalist-of-{study.best_trial.user_attrs['job']}"
    assert set(logged) == {"trial-0", "trial-1", finalist}
    events = EventAccumulator(str(logged["trial-0"])).Reload()
    found = events.Scalars("final/value")[0].value
    assert found == pytest.approx(study.trials[0].value, rel=1e-6)
