"""A run on disk: its folder, its recipe, its storage, its manifest.

    runs/NAME/  recipe.yaml  manifest.json  study.db  phiscale.log  checkpoints/
                baseline.json  coefficients.json  family/  report/

The Optuna storage is the one store of truth; the JSON files are its results, written again by the
stage that owns them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from experiments import config
from experiments.config import Common, R, Recipe
from space import choices
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    from upath import UPath

#: Sections of a recipe that may change between two starts of a run: what they ask for is either
#: done already or still to do. Everything else decides what the recorded numbers mean.
_MAY_CHANGE = (
    "description",
    "executor",
    "logging",
    "coefficients",
    "family",
    "search.trials",
    "search.finalists",
    "search.final_epochs",
    "train.checkpoint_seconds",
    "data.cache",
    "data.cache_limit",
)

MANIFEST = "manifest.json"

#: What a run reads once and keeps in its folder, since it may change elsewhere meanwhile.
KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES = "space.yaml", "warm_start.json", "latency.json"

#: What a recipe says of storages in a run's own folder.
_INSIDE = (None, "journal")

S = TypeVar("S", str, str | None)

_PACKAGES = ("phiscale", "torch", "optuna", "ray", "numpy", "numba", "pillow")


@dataclass(frozen=True)
class Folder:
    """Where a run or a scaling study is, and its recipe."""

    folder: Path
    recipe: Common

    @property
    def storage(self) -> str:
        """URL of the Optuna storage; not to be shown or written down, since it has the password."""
        from search.storage import storage_url  # optuna: not needed to look at a run's files

        return storage_url(self.folder, self.recipe.storage)

    @property
    def written(self) -> Common:
        """The recipe as it may be shown: without passwords of storages."""
        recipe = self.recipe.model_copy(update={"storage": _shown(self.recipe.storage)})
        if not isinstance(recipe, Recipe):
            return recipe
        sources = tuple(map(_shown, recipe.search.warm_start))
        search = recipe.search.model_copy(update={"warm_start": sources})
        return recipe.model_copy(update={"search": search})

    @property
    def identity(self) -> str | None:
        """What tells the run from others in a storage outside its folder; None where it is inside.

        The first start draws it.
        """
        if self.recipe.storage in _INSIDE:
            return None
        identity: str = self.manifest["identity"]
        return identity

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the run's starts, data and times; empty before the first start."""
        path = self.folder / MANIFEST
        return _json(path) if path.is_file() else {}

    @property
    def label(self) -> str:
        """What the run is called outside its folder: in a tracker, in a store of checkpoints."""
        return self.recipe.name

    @property
    def checkpoints(self) -> Path | UPath:
        """Folder of unfinished training runs and of weights: the run's own, or the recipe's."""
        elsewhere = self.recipe.executor.checkpoints
        if elsewhere is None:
            return self.folder / "checkpoints"
        from upath import UPath  # not needed to look at a run

        return UPath(elsewhere) / self.label

    def read(self, name: str) -> dict[str, Any]:
        """A result of an earlier stage, by its file's name.

        Raises `InvalidInput` where that stage has not ended yet, or the file is damaged.
        """
        path = self.folder / name
        if not path.is_file():
            raise InvalidInput(
                f"{self.folder}: there is no {name} yet; run the stage that writes it: "
                f"phiscale {_STAGE_OF[name]} {self.folder}"
            )
        return _json(path)

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Writes a stage's result, whole or not at all."""
        write_file(self.folder / name, json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    def note(self, **facts: Any) -> None:
        """Adds facts to the manifest."""
        self.write(MANIFEST, self.manifest | facts)

    def plan(self, stage: str, trainings: int) -> None:
        """Notes how many trainings a stage has, at most, for who asks how far it is."""
        planned = self.manifest.get("planned", {})
        if planned.get(stage) != trainings:
            self.note(planned=planned | {stage: trainings})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the wall-clock seconds of a stage to the manifest, over all starts."""
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = self.manifest.get("seconds", {})
            total = seconds.get(stage, 0.0) + time.monotonic() - start
            self.note(seconds=seconds | {stage: round(total, 3)})


@dataclass(frozen=True)
class Run(Folder):
    """One run: where it is and what it is to do."""

    recipe: Recipe


_STAGE_OF = {
    "baseline.json": "search",
    "coefficients.json": "coefficients",
    "family/family.json": "family",
}


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        data = str(error)
    if not isinstance(data, dict):
        raise InvalidInput(
            f"{path}: must be the JSON object that phiscale wrote, but got {data!r:.80}; restore "
            "the file, or delete it, and start the run again: what was trained is in its storage"
        )
    return data


def open_run(
    target: str,
    out: Path | None = None,
    overrides: tuple[str, ...] = (),
    *,
    take_over: bool = False,
    fork: str | None = None,
) -> Run:
    """The run in folder `target`, or that of the recipe `target` (a name or a path), made ready.

    `out` is the run's folder, `runs/NAME` by default. Raises `InvalidInput` where the folder holds
    a run whose recipe differs in what its recorded numbers depend on, or one that another process
    drives, and whose recipe would change under it. `fork` is the name of a new run beside that one,
    which may change anything and begins with what that one has measured.
    """
    saved = Path(target) / "recipe.yaml"
    if saved.is_file():
        recipe, folder = config.load(str(saved), overrides), out or Path(target)
    else:
        recipe = config.load(target, overrides)
        folder = out or Path("runs") / recipe.name
    if fork is not None:
        recipe, folder = _forked(recipe, folder, fork)
    choices.load(recipe.space)  # found wrong now, and not once the images are decoded
    before = recorded_recipe(folder, recipe)
    recipe = _settled(_with_absolute_space(with_absolute_source(recipe)), before)
    run = Run(folder.resolve(), recipe)
    # Files of these names that no start has put there are the user's own.
    again = before is None and bool(run.manifest)
    if not again:
        _refuse_another_space(run)
    changed = record_start(run, before, _MAY_CHANGE, take_over=take_over)
    if again and changed:
        _forget_start(run)
    _keep_space(run)
    return run


def _forked(recipe: Recipe, folder: Path, name: str) -> tuple[Recipe, Path]:
    """The recipe and the folder of a new run that learns from the run in `folder`."""
    if not (folder / "recipe.yaml").is_file():
        raise InvalidInput(f"--fork {name}: there is no run in {folder} to begin from")
    if not config.RUN_NAME.fullmatch(name):
        raise InvalidInput(f"--fork {name}: a run's name must match {config.RUN_NAME.pattern}")
    new = folder.resolve().parent / name
    if new.exists():
        raise InvalidInput(f"--fork {name}: {new} exists already; choose another name")
    before = config.load(str(folder / "recipe.yaml")).storage
    if before not in _INSIDE and _shown(recipe.storage) == before:
        raise InvalidInput(f"--fork {name}: give the new run a database of its own: --set storage=")
    # The one sampler that learns from earlier trials.
    learning = {"warm_start": (str(folder.resolve()),), "sampler": "predictor"}
    search = recipe.search.model_copy(update=learning)
    return recipe.model_copy(update={"name": name, "search": search}), new


def with_absolute_source(recipe: R) -> R:
    """Paths are relative to where the command is typed; a run may be continued from anywhere."""
    source = Path(recipe.data.source)
    if source.exists() and recipe.data.format != "glyphs":
        data = recipe.data.model_copy(update={"source": str(source.resolve())})
        recipe = recipe.model_copy(update={"data": data})
    if recipe.storage not in _INSIDE:
        from search.storage import absolute

        recipe = recipe.model_copy(update={"storage": absolute(recipe.storage)})
    return recipe


def _with_absolute_space(recipe: Recipe) -> Recipe:
    space = Path(recipe.space)
    if space.suffix.lower() not in (".yaml", ".yml"):
        return recipe
    return recipe.model_copy(update={"space": str(space.resolve())})


def recorded_recipe(folder: Path, recipe: R) -> R | None:
    """The recipe that the numbers recorded in `folder` hold for; None where there are none.

    `recipe` is the one that is to be carried out now. Starts that came to nothing, say because
    there were no images where the recipe had them, bind nobody.
    """
    from search.storage import storage_url
    from search.study import is_unused

    saved = folder / "recipe.yaml"
    if not saved.is_file():
        return None
    before = config.load_as(type(recipe), str(saved))
    # The storage as it was written down may lack its password.
    same = before.storage == _shown(recipe.storage)
    try:
        unused = is_unused(storage_url(folder.resolve(), (recipe if same else before).storage))
    except InvalidInput:  # nobody can tell
        return before
    return None if unused else before


def _settled(recipe: Recipe, before: Recipe | None) -> Recipe:
    """The recipe with the resolution of its stored images said.

    The first training decides it: what a network sees is resized from the stored images, so
    accuracies depend on it, and later starts may ask for a larger family.
    """
    if recipe.data.resolution is not None:
        return recipe
    known = before.data.resolution if before else None
    data = recipe.data.model_copy(update={"resolution": known or largest_resolution(recipe)})
    return recipe.model_copy(update={"data": data})


def largest_resolution(recipe: Recipe) -> int:
    """The most pixels that a network of the run can have, as far as the recipe tells.

    γ is at most √(factor + tolerance), where α and β are 1; a budget is met by resolution alone at
    most. One that is not of MACs does not tell: it is taken to ask for eight times the baseline's.
    """
    settings, family = recipe.coefficients, recipe.family
    growth = settings.gamma or math.sqrt(settings.factor + settings.tolerance)
    steps = [settings.phi, settings.compare_phi or 0.0, *family.phi]
    if family.targets:
        least = recipe.objective.bounds.macs[0] if recipe.objective.bounds.macs else 1
        ratio = max(family.targets) / least if family.cost == "macs" else 8.0
        steps = [settings.phi, settings.compare_phi or 0.0, math.log(ratio, settings.factor)]
    return math.ceil(recipe.resolution * max(float(growth**step) for step in (0.0, *steps)))


def _forget_start(run: Run) -> None:
    """Removes what a start that came to nothing has kept for another recipe."""
    from search.study import forget_untried

    forget_untried(run.storage)
    for name in (KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES):
        (run.folder / name).unlink(missing_ok=True)


def _keep_space(run: Run) -> None:
    """A user's own space is copied into the run: the run means it as it was at the start."""
    if (text := _own_space(run)) is not None:
        write_file(run.folder / KEPT_SPACE, text)


def _refuse_another_space(run: Run) -> None:
    text, kept = _own_space(run), run.folder / KEPT_SPACE
    if text is not None and kept.is_file() and kept.read_text("utf-8") != text:
        raise InvalidInput(
            f"{run.recipe.space}: a run that has started keeps its space, but this file has "
            f"changed since {run.folder} was started; restore it (a copy is {kept}), or start anew "
            "with --out"
        )


def _own_space(run: Run) -> str | None:
    """The text of a user's own space."""
    space = Path(run.recipe.space)
    own = space.suffix.lower() in (".yaml", ".yml") and space.is_file()
    return space.read_text("utf-8") if own else None


def _refuse_changes(run: Folder, before: Common, may_change: Collection[str]) -> None:
    path = run.folder / "recipe.yaml"
    was = _flat(before.model_dump(mode="json"))
    now = _flat(run.written.model_dump(mode="json"))
    lines = [
        f"{path}: {key}: a run that has started keeps its {key}, which is {was.get(key)!r}, but "
        f"the recipe now says {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key) and not _one_of(key, may_change)
    ]
    if lines:
        lines[-1] += (
            "; give the changed recipe a folder of its own with --out, or with --fork NAME, which "
            "also learns from what this run has measured"
        )
        raise InvalidInput("\n".join(lines))


def _one_of(key: str, allowed: Collection[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in allowed)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def record_start(
    run: Folder, before: Common | None, may_change: Collection[str], *, take_over: bool = False
) -> bool:
    """Writes the recipe into the folder, and the start into the manifest.

    Returns whether the recipe is another than before, or the first. Raises `InvalidInput` where it
    differs from `before`, for which numbers are recorded, in more than `may_change`; where it would
    change under another process that drives the run; and where that cannot be found out.
    """
    if before is not None:
        _refuse_changes(run, before, may_change)
    saved, text = run.folder / "recipe.yaml", config.dump(run.written)
    changed = not saved.is_file() or saved.read_text("utf-8") != text
    if changed and not take_over:
        from search.lease import refuse_if_driven

        refuse_if_driven(run.storage)  # which also finds out whether it can be reached
    write_file(saved, text)
    manifest = run.manifest
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["phiscale", *map(_showable, sys.argv[1:])]),
        "environment": environment(),
    }
    run.note(
        name=run.recipe.name,
        seed=run.recipe.seed,
        identity=manifest.get("identity", uuid.uuid4().hex),
        starts=[*manifest.get("starts", ()), start],
    )
    return changed


def _showable(argument: str) -> str:
    """A word of the command line; a storage's URL in it without password."""
    key, equals, value = argument.rpartition("storage=")
    return (
        f"{key}{equals}{_shown(value)}"
        if equals
        else _URL.sub(lambda url: _shown(url[0]), argument)
    )


#: An address with a password, anywhere in a word.
_URL = re.compile(r"[\w+.-]+://[^\s'\",\]]*@[^\s'\",\]]*")


def _shown(storage: S) -> S:
    """What a recipe says of a storage, without the password in it."""
    if storage is None or "://" not in storage:
        return storage
    from search.storage import without_password

    return without_password(storage)


def environment() -> dict[str, str]:
    """Where a training runs: host, processor, GPUs, versions; recorded with each trial."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "gpus": ", ".join(gpus) or "none",
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's model; /proc/cpuinfo names it where `platform` does not (Linux)."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
