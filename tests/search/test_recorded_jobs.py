from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.executors.local import Local
from search.ledger import job_of
from search.recorded_jobs import Recorded
from search.study import open_study
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Epoch, Job, Measurement, Status


@dataclass
class Listed:
    """A `Proposer` of given jobs that keeps what it is told."""

    jobs: list[Job]
    told: dict[str, Measurement] = field(default_factory=dict)

    def ask(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def report(self, job: Job, epoch: Epoch) -> bool:  # noqa: ARG002
        return False

    def tell(self, job: Job, measurement: Measurement) -> None:
        self.told[job.name] = measurement


@pytest.fixture
def jobs(space: Any) -> list[Job]:
    return [
        Job(f"repeats-{layers}", _network(space, layers), Budget(epochs=2)) for layers in (1, 2, 3)
    ]


def _network(space: Any, repeats: int) -> Architecture:
    base: Architecture = space.base
    return replace(base, stages=tuple(replace(s, repeats=repeats) for s in base.stages))


def _record(storage: str, jobs: list[Job], evaluate: Any) -> tuple[Listed, optuna.Study]:
    inner, study = Listed(list(jobs)), open_study(storage, "coefficients")
    Local().run(Recorded(inner, study), evaluate)
    return inner, study


def test_recorded_jobs_become_trials_with_accuracy_as_value(
    storage: str, jobs: list[Job], evaluate: Any
) -> None:
    inner, study = _record(storage, jobs, evaluate)
    assert [trial.user_attrs["job"] for trial in study.trials] == [job.name for job in jobs]
    assert [trial.value for trial in study.trials] == [m.accuracy for m in inner.told.values()]
    assert [job_of(trial).architecture for trial in study.trials] == [j.architecture for j in jobs]


def test_finished_jobs_are_answered_without_training(
    storage: str, jobs: list[Job], evaluate: Any
) -> None:
    first, _ = _record(storage, jobs[:2], evaluate)
    second, study = _record(storage, jobs, evaluate)
    assert len(evaluate.trained) == len(study.trials) == 3
    assert list(second.told) == [job.name for job in jobs]
    assert {name: second.told[name] for name in first.told} == first.told


def test_same_network_under_another_name_is_answered_from_the_first(
    storage: str, jobs: list[Job], evaluate: Any
) -> None:
    twin = replace(jobs[0], name="twin")
    for _ in range(2):  # the second time, the twin has its own trial
        inner, study = _record(storage, [*jobs, twin], evaluate)
        assert inner.told["twin"] == inner.told[jobs[0].name]
        assert [trial.user_attrs.get("answered_from") for trial in study.trials] == [None] * 3 + [0]
    assert len(evaluate.trained) == 3


def test_twin_of_a_running_job_waits_for_it(storage: str, jobs: list[Job]) -> None:
    """Two workers would train it twice, into the same files."""
    inner, study = (
        Listed([jobs[0], replace(jobs[0], name="twin"), jobs[1]]),
        open_study(storage, "x"),
    )
    recorded = Recorded(inner, study)
    first, other = recorded.ask(), recorded.ask()
    assert first
    assert other
    assert (first.name, other.name, recorded.ask()) == (jobs[0].name, jobs[1].name, None)
    recorded.tell(first, Measurement(Status.COMPLETE, accuracy=0.5))
    assert recorded.ask() is None
    assert inner.told["twin"].accuracy == 0.5
    assert study.trials[2].user_attrs["answered_from"] == 0


@pytest.mark.parametrize(
    "budget",
    [Budget(epochs=3), Budget(2, data_fraction=0.5), Budget(2, resolution=8), Budget(2, seed=1)],
)
def test_another_budget_is_another_training(
    storage: str, jobs: list[Job], evaluate: Any, budget: Budget
) -> None:
    _record(storage, [jobs[0], replace(jobs[0], budget=budget)], evaluate)
    assert len(evaluate.trained) == 2


def test_resolution_that_is_the_networks_own_is_the_same_budget(
    storage: str, jobs: list[Job], evaluate: Any
) -> None:
    own = replace(jobs[0].budget, resolution=jobs[0].architecture.resolution)
    _record(storage, [jobs[0], Job("said", jobs[0].architecture, own)], evaluate)
    assert len(evaluate.trained) == 1


def test_killed_job_goes_on_under_its_number(storage: str, jobs: list[Job], evaluate: Any) -> None:
    study = open_study(storage, "coefficients")
    killed = Recorded(Listed(list(jobs)), study)
    job = killed.ask()
    assert job
    killed.report(job, Epoch(1, 1.0, 0.5, 1.0, 0.0))
    _, study = _record(storage, jobs, evaluate)
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert study.trials[0].user_attrs["retries"] == 1
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)


def test_failed_job_is_tried_again_by_the_next_start(
    storage: str, jobs: list[Job], evaluate: Any
) -> None:
    evaluate.fails = lambda _: "no memory"
    inner, _ = _record(storage, jobs[:1], evaluate)
    assert inner.told[jobs[0].name].status is Status.FAILED
    evaluate.fails = lambda _: None
    inner, study = _record(storage, jobs[:1], evaluate)
    assert inner.told[jobs[0].name].status is Status.COMPLETE
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_value_is_what_the_study_maximises(storage: str, jobs: list[Job], evaluate: Any) -> None:
    study = open_study(storage, "finalists")
    Local().run(
        Recorded(Listed(jobs[:1]), study, value=lambda a, job: a / cost(job.architecture).macs),
        evaluate,
    )
    [trial] = study.trials
    attributes = trial.user_attrs
    assert trial.value == attributes["measurement"]["accuracy"] / attributes["cost"]["macs"]
