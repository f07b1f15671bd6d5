"""Reads a run directory into frozen data: its JSON and YAML files and every trial of its studies.

Reading never changes a run: it creates no study and no table, and what an unfinished run does not
have yet is None or empty. All numbers keep the run's vocabulary and units: MACs (multiply–adds),
params, activations, accuracy as a fraction in [0, 1], resolution in pixels, times in seconds.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from space.device import Precision
from space.files import read_text
from space.validation import InvalidInput, parse_yaml

if TYPE_CHECKING:
    import optuna

#: What stages and scaling studies write from recorded training runs.
_RESULTS = ("baseline.json", "coefficients.json", "family/family.json", "study.json")

#: The user attributes of Optuna's trials that a `Trial` keeps under the same names.
_ATTRIBUTES = (
    "job", "key", "architecture", "cost", "budget", "measurement", "environment",
    "answered_from", "retries", "rejected", "seconds",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation; mappings are empty where the storage has recorded nothing.

    `state` is complete, pruned, failed, running or waiting. `value` is on the study's scale: the
    reward (search, finalists) or the accuracy (coefficients, family); `reports` holds it after each
    epoch. `seconds` is wall-clock time from asking for the trial to telling its result.
    """

    study: str
    number: int
    state: str
    value: float | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)
    reports: Mapping[int, float] = field(default_factory=dict)
    job: str = ""
    key: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, int] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    measurement: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    answered_from: int | None = None
    retries: int = 0
    rejected: int = 0
    seconds: float | None = None
    started: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether a training run ended with a result: complete or pruned, but not answered."""
        return self.state in ("complete", "pruned") and self.answered_from is None


@dataclass(frozen=True)
class Run:
    """The contents of a run directory; None or empty where a stage has not ended yet.

    `trials` holds the trials of each study by its name, in the order in which the studies were
    created; `stages` and `titles` are the studies' attributes of these names; `driven` says whether
    a process is working on the run.
    """

    path: Path
    recipe_text: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    coefficients: Mapping[str, Any] | None = None
    family: Mapping[str, Any] | None = None
    pareto: Mapping[str, Any] | None = None
    growth: Mapping[str, Any] | None = None
    trials: Mapping[str, tuple[Trial, ...]] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    driven: bool = False

    @property
    def all_trials(self) -> tuple[Trial, ...]:
        """The trials of all studies, in the order in which the studies were created."""
        return tuple(trial for study in self.trials.values() for trial in study)

    @property
    def name(self) -> str:
        """The recipe's name, or the directory's if there is no recipe."""
        return str(self.recipe.get("name") or self.path.resolve().name)

    @property
    def num_classes(self) -> int:
        """The number of classes of the run's networks; 0 if there is no network yet."""
        every = (trial.architecture for trial in self.all_trials)
        return next((each["num_classes"] for each in every if "num_classes" in each), 0)

    @property
    def metric(self) -> str:
        """What accuracy means: `top1`, or `balanced` (the mean over classes)."""
        return str(self.recipe.get("objective", {}).get("metric", "top1"))

    @property
    def device(self) -> Precision | None:
        """The precision in which the objective bounds SRAM or flash; None without such a bound."""
        objective = self.recipe.get("objective", {})
        bounds = objective.get("bounds") or {}
        bounded = bounds.get("sram") or bounds.get("flash")
        return Precision(objective.get("precision", Precision.FLOAT32)) if bounded else None

    @property
    def looked_up(self) -> bool:
        """Whether the search looked up recorded training runs and trained nothing."""
        return bool(self.recipe.get("evaluator", {}).get("kind") == "records")

    @property
    def elastic(self) -> bool:
        """Whether the search measured parts of one elastic network."""
        return bool(self.recipe.get("evaluator", {}).get("kind") == "elastic")

    def study(self, name: str) -> tuple[Trial, ...]:
        """The trials of one study in the order of their numbers; empty if it has not begun."""
        return self.trials.get(name, ())

    def stage_of(self, study: str) -> str:
        """The stage that a study belongs to; its own name if the storage does not say."""
        return self.stages.get(study, study)


def load(
    run_dir: Path | str, storage: str | None = None, recipe: Mapping[str, Any] | None = None
) -> Run:
    """Reads a run, finished or not.

    `storage` is the URL of its Optuna storage; None for the one that its recipe names, or else
    `study.db` in the directory. `recipe` has every key in its long form; None for what recipe.yaml
    says, which somebody may have written by hand: `target: 40M`. Raises
    `space.validation.InvalidInput` if the directory does not exist, a file of it cannot be read, or
    its storage was lost.
    """
    from search.lease import driver_of
    from search.storage import storage_url

    path = Path(run_dir)
    if not path.is_dir():
        raise InvalidInput(f"{path}: run directory not found")
    file = path / "recipe.yaml"
    recipe_text = _text(file)
    if recipe is None:
        recipe = _mapping(parse_yaml(recipe_text, yaml.SafeLoader, source=str(file)), file) or {}
    url = storage or storage_url(path, recipe.get("storage"))
    studies = _studies(url)
    if not any(studies["trials"].values()):
        refuse_lost_storage(path, recipe.get("storage"))
    return Run(
        path=path,
        recipe_text=recipe_text,
        recipe=recipe,
        manifest=_json(path / "manifest.json") or {},
        baseline=_json(path / "baseline.json"),
        coefficients=_json(path / "coefficients.json"),
        family=_json(path / "family" / "family.json"),
        pareto=_json(path / "pareto.json"),
        growth=_json(path / "growth.json"),
        driven=driver_of(url) is not None,
        **studies,
    )


def refuse_lost_storage(run_dir: Path, storage: str | None) -> None:
    """Raises `InvalidInput` if the directory has results, though its storage holds no trial.

    `storage` is what the recipe says.
    """
    from search.storage import without_password

    results = [name for name in _RESULTS if (run_dir / name).is_file()]
    if results and (run_dir / "manifest.json").is_file():
        lost = {None: "study.db", "journal": "study.journal"}.get(storage)
        lost = lost or without_password(str(storage))
        raise InvalidInput(
            f"{run_dir}: the storage {lost} was removed or emptied, but its results "
            f"({', '.join(results)}) are still here; restore {lost}, or start a new run with --out"
        )


#: What an archive that is empty or damaged, encrypted or of an odd compression raises.
_DAMAGED = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@contextmanager
def readable(path: Path, what: str, advice: str) -> Iterator[None]:
    """Raises `InvalidInput` with `advice` if the block cannot read `what` from `path`."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, *_DAMAGED) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise InvalidInput(f"{path}: cannot read {what} ({reason}); {advice}") from None


def _text(path: Path) -> str:
    return read_text(path) if path.is_file() else ""


class _Facts(dict[str, Any]):
    """An object of a JSON file, which names the file where a key is missing."""

    def __init__(self, path: Path, facts: Iterable[tuple[str, Any]]) -> None:
        super().__init__(facts)
        self._path = path

    def __missing__(self, key: str) -> NoReturn:
        raise InvalidInput(f"{self._path}: {key!r} is missing, so the file was changed; restore it")


def _json(path: Path) -> Mapping[str, Any] | None:
    text = _text(path)
    try:
        data = json.loads(text, object_pairs_hook=partial(_Facts, path)) if text else None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: is not valid JSON: {error}") from None
    return _mapping(data, path)


def _mapping(data: object, path: Path) -> Mapping[str, Any] | None:
    if not isinstance(data, dict | None):
        raise InvalidInput(f"{path}: must be a mapping, but got {type(data).__name__}")
    return data


def _studies(url: str) -> dict[str, dict[str, Any]]:
    """The stage, the title and the trials of each study in the storage, by its name."""
    from search.optuna_internals import id_of_study
    from search.storage import reading
    from search.study import DRIVERS

    stages, titles, trials = {}, {}, {}
    with reading(url) as storage:
        studies = [] if storage is None else storage.get_all_studies()
        for study in sorted(studies, key=id_of_study):
            name = study.study_name
            if storage is None or name == DRIVERS:
                continue
            stages[name] = study.user_attrs.get("stage", name)
            titles[name] = study.user_attrs.get("title", name)
            found = storage.get_all_trials(id_of_study(study), deepcopy=False)
            trials[name] = tuple(_trial(name, trial) for trial in found)
    return {"stages": stages, "titles": titles, "trials": trials}


def _trial(study: str, trial: optuna.trial.FrozenTrial) -> Trial:
    from search.study import value_of

    known = trial.user_attrs
    return Trial(
        study=study,
        number=trial.number,
        state={"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
        value=value_of(trial) if trial.state.name == "COMPLETE" else None,
        choices=dict(trial.params),
        reports=dict(trial.intermediate_values),
        started=trial.datetime_start,
        **{name: known[name] for name in _ATTRIBUTES if name in known},
    )
