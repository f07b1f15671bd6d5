"""A small space and a closed-form evaluation: a search in milliseconds."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import pytest

from search import samplers
from search.candidates import Candidates
from search.executors.local import Local
from search.objective import Bounds, Objective
from search.search import Search
from search.study import open_study
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.choices import Space
from space.evaluation import Budget, Epoch, Measurement, Report, Status

optuna.logging.set_verbosity(optuna.logging.WARNING)

BUDGET = Budget(epochs=3)
OPERATORS = ("conv", "separable", "inverted_e3", "inverted_e6")


def small_space(stages: int = 3) -> Space:
    """Combinations: 96 per stage, many of which decode to the same network as another."""
    base = Architecture(
        stem=Stem(channels=8, stride=1),
        stages=tuple(
            Stage(Operator.INVERTED, channels=8 * (i + 1), repeats=2, stride=2, expansion=3)
            for i in range(stages)
        ),
        head=Head(channels=32),
        resolution=16,
        num_classes=10,
    )
    offers = {
        "operator": OPERATORS,
        "kernel": (3, 5),
        "se": (0, 0.25),
        "skip": ("identity", "none"),
        "layers": (-1, 0, 1),
    }
    choices = {
        f"stage{number}.{name}": values
        for number in range(1, stages + 1)
        for name, values in offers.items()
    }
    return Space("small", base, choices)


def accuracy_of(architecture: Architecture) -> float:
    """Between 0.1 and 0.9, decided by the network alone, smooth in depth and rough in the rest."""
    rough = int(hashlib.sha256(architecture.key.encode()).hexdigest()[:8], 16) / 2**32
    deep = sum(stage.repeats for stage in architecture.stages) / (3 * len(architecture.stages))
    return 0.1 + 0.6 * min(1.0, deep) + 0.2 * rough


@dataclass
class FakeEvaluate:
    """An `Evaluate` in closed form that keeps the keys of what it was asked to train."""

    fails: Callable[[Architecture], str | None] = lambda _: None
    trained: list[str] = field(default_factory=list)

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        self.trained.append(architecture.key)
        if reason := self.fails(architecture):
            return Measurement(Status.FAILED, reason=reason)
        final, epochs = accuracy_of(architecture), []
        for number in range(1, budget.epochs + 1):
            accuracy = final * number / budget.epochs
            epochs.append(Epoch(number, 1.0, accuracy, 1.0, 0.0))
            if report(epochs[-1]):
                return Measurement(Status.PRUNED, accuracy=accuracy, epochs=tuple(epochs))
        return Measurement(Status.COMPLETE, accuracy=final, loss=1.0, epochs=tuple(epochs))


@pytest.fixture
def space() -> Space:
    return small_space()


@pytest.fixture
def evaluate() -> FakeEvaluate:
    return FakeEvaluate()


@pytest.fixture
def objective() -> Objective:
    return Objective(target=500_000)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture(params=["sqlite", "journal", "postgresql", "mysql"])
def each_storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh storage of each kind."""
    match request.param:
        case "postgresql" | "mysql":
            server = request.getfixturevalue(request.param)
            return str(server.database(f"test-{uuid.uuid4().hex}"))
        case kind:
            return f"{kind}:///{tmp_path}/study.{kind}"


@dataclass(frozen=True)
class Bench:
    """Makes studies and searches on one storage, as a process would that has just begun."""

    storage: str
    space: Space
    objective: Objective

    def search(
        self,
        *,
        trials: int = 8,
        sampler: str = "random",
        seed: int = 0,
        bounds: Bounds | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
        space: Space | None = None,
    ) -> Search:
        objective = self.objective
        if bounds is not None:
            objective = Objective(target=objective.target, bounds=bounds)
        candidates = Candidates(space or self.space, objective)
        study = open_study(self.storage, "search", pruner)
        chosen = samplers.create(sampler, candidates, seed)
        return Search(study, chosen, BUDGET, trials=trials)

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return open_study(self.storage, "search").get_trials(deepcopy=False)


@pytest.fixture
def bench(storage: str, space: Space, objective: Objective) -> Bench:
    return Bench(storage, space, objective)


@pytest.fixture
def run(evaluate: FakeEvaluate) -> Callable[[Search], None]:
    return lambda search: Local().run(search, evaluate)
