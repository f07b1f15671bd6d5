"""A run directory, read into frozen data: its JSON and YAML files and every trial of its studies.

Reading never changes a run: no study and no table is created, and what an unfinished run does not
have yet is simply absent. All numbers keep the run's vocabulary and units: MACs (multiply–adds),
params, activations, accuracy as a fraction in [0, 1], resolution in pixels, times in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from space.validation import InvalidInput

if TYPE_CHECKING:
    import optuna

#: Optuna's trial states in the words of `space.evaluation.Status`, and the two of unfinished ones.
_STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One evaluation, as the storage has it; mappings are empty where nothing was recorded.

    `value` is on the study's scale: the reward (search, finalists) or the accuracy (coefficients,
    family). `reports` holds that value after each epoch. `seconds` is wall-clock time from asking
    for the trial to telling its result.
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
    ended: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether a training run ended with a result: complete or pruned, not answered."""
        return self.state in ("complete", "pruned") and self.answered_from is None


@dataclass(frozen=True)
class Run:
    """What one run directory holds; None or empty where a stage has not ended yet.

    `trials` are those of each study by its name, in the order in which the studies were begun;
    `stages` and `titles` are what the storage says that the studies are; `driven`, whether a
    process works on the run.
    """

    path: Path
    recipe_text: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    coefficients: Mapping[str, Any] | None = None
    family: Mapping[str, Any] | None = None
    pareto: Mapping[str, Any] | None = None
    trials: Mapping[str, tuple[Trial, ...]] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    driven: bool = False

    @property
    def all_trials(self) -> tuple[Trial, ...]:
        """The trials of all studies, in the order in which the studies were begun."""
        return tuple(trial for study in self.trials.values() for trial in study)

    @property
    def name(self) -> str:
        """The recipe's name, or the directory's where there is no recipe."""
        return str(self.recipe.get("name") or self.path.resolve().name)

    @property
    def num_classes(self) -> int:
        """The classes that the run's networks tell apart; 0 where there is no network yet."""
        every = (trial.architecture for trial in self.all_trials)
        return next((each["num_classes"] for each in every if "num_classes" in each), 0)

    @property
    def metric(self) -> str:
        """What accuracy means: `top1`, or `balanced` (the mean over classes)."""
        return str(self.recipe.get("objective", {}).get("metric", "top1"))

    def study(self, name: str) -> tuple[Trial, ...]:
        """The trials of one study in the order of their numbers; none where it has not begun."""
        return self.trials.get(name, ())

    def stage_of(self, study: str) -> str:
        """The stage that a study belongs to; one of that name where the storage says none."""
        return self.stages.get(study, study)


def load(run_dir: Path | str, storage: str | None = None) -> Run:
    """Everything that is known of a run, finished or not.

    `storage` is the URL of its Optuna storage; None for the one that its recipe names, or else
    `study.db` in the directory. Raises `space.validation.InvalidInput` where the directory is none
    of a run or a file of it cannot be read.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise InvalidInput(f"{path}: run directory not found")
    recipe_text = _text(path / "recipe.yaml")
    recipe = _recipe(recipe_text, path / "recipe.yaml")
    from search.lease import driver_of
    from search.storage import storage_url

    url = storage or storage_url(path, recipe.get("storage"))
    return Run(
        path=path,
        recipe_text=recipe_text,
        recipe=recipe,
        manifest=_json(path / "manifest.json") or {},
        baseline=_json(path / "baseline.json"),
        coefficients=_json(path / "coefficients.json"),
        family=_json(path / "family" / "family.json"),
        pareto=_json(path / "pareto.json"),
        driven=driver_of(url) is not None,
        **_studies(url),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: must be readable UTF-8 text: {error}") from None


def _recipe(text: str, path: Path) -> Mapping[str, Any]:
    try:
        recipe = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not valid YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise InvalidInput(f"{path}: must be a mapping, but got {type(recipe).__name__}")
    return recipe


def _json(path: Path) -> Mapping[str, Any] | None:
    text = _text(path)
    if not text:
        return None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}: not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidInput(f"{path}: must be a JSON object, but got {type(data).__name__}")
    return data


def _studies(url: str) -> dict[str, dict[str, Any]]:
    """The trials, the stage and the title of each study that the storage holds, by its name."""
    from search.optuna_internals import id_of_study
    from search.storage import reading
    from search.study import DRIVERS

    with reading(url) as storage:
        every = [] if storage is None else storage.get_all_studies()
        studies = sorted(every, key=id_of_study)
        own = {study.study_name: study for study in studies if study.study_name != DRIVERS}
        return {
            "stages": {name: study.user_attrs.get("stage", name) for name, study in own.items()},
            "titles": {name: study.user_attrs.get("title", name) for name, study in own.items()},
            "trials": {
                name: tuple(
                    _trial(name, trial)
                    for trial in storage.get_all_trials(id_of_study(study), deepcopy=False)
                )
                for name, study in own.items()
                if storage is not None
            },
        }


def _trial(study: str, trial: optuna.trial.FrozenTrial) -> Trial:
    from search.study import value_of

    attributes = trial.user_attrs
    return Trial(
        study=study,
        number=trial.number,
        state=_STATES[trial.state.name],
        value=value_of(trial) if trial.state.name == "COMPLETE" else None,
        choices=dict(trial.params),
        reports=dict(trial.intermediate_values),
        job=attributes.get("job", ""),
        key=attributes.get("key", ""),
        architecture=attributes.get("architecture", {}),
        cost=attributes.get("cost", {}),
        budget=attributes.get("budget", {}),
        measurement=attributes.get("measurement", {}),
        environment=attributes.get("environment", {}),
        answered_from=attributes.get("answered_from"),
        retries=attributes.get("retries", 0),
        rejected=attributes.get("rejected", 0),
        seconds=attributes.get("seconds"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )
