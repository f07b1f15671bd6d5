"""A run made ready: its recipe settled and written into its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from experiments import config
from experiments.config import Recipe
from experiments.runs.folder import (
    INSIDE,
    KEPT_LATENCIES,
    KEPT_PRIOR,
    KEPT_SPACE,
    OpenRun,
    shown,
)
from experiments.runs.recipe_changes import (
    recorded_recipe,
    usable_folder,
    with_absolute_paths,
    write_recipe,
)
from space import choices
from space.files import write_file
from space.validation import InvalidInput

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


def open_run(
    target: str,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    take_over: bool = False,
    fork: str | None = None,
) -> OpenRun:
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
    folder = usable_folder(folder)
    choices.load(recipe.space)  # found wrong now, and not once the images are decoded
    before = recorded_recipe(folder, recipe)
    recipe = _settled(_with_absolute_space(with_absolute_paths(recipe)), before)
    run = OpenRun(folder, recipe)
    # Files of these names that no start has put there are the user's own.
    again = before is None and bool(run.manifest)
    if not again:
        _refuse_another_space(run)
    changed = write_recipe(run, before, _MAY_CHANGE, take_over=take_over)
    if again and changed:
        _forget_start(run)
    _keep_space(run)
    return run


def _forked(recipe: Recipe, folder: Path, name: str) -> tuple[Recipe, Path]:
    """The recipe and the folder of a new run that learns from the run in `folder`."""
    if not (folder / "recipe.yaml").is_file():
        raise InvalidInput(f"--fork {name}: {folder} contains no run to start from")
    if not config.RUN_NAME.fullmatch(name):
        raise InvalidInput(f"--fork {name}: a run's name must match {config.RUN_NAME.pattern}")
    new = folder.resolve().parent / name
    if new.exists():
        raise InvalidInput(f"--fork {name}: {new} already exists; choose another name")
    before = config.load(str(folder / "recipe.yaml")).storage
    if before not in INSIDE and shown(recipe.storage) == before:
        raise InvalidInput(f"--fork {name}: the new run needs its own database: --set storage=URL")
    # The one sampler that learns from earlier trials.
    learning = {"warm_start": (str(folder.resolve()),), "sampler": "predictor"}
    search = recipe.search.model_copy(update=learning)
    return recipe.model_copy(update={"name": name, "search": search}), new


def _with_absolute_space(recipe: Recipe) -> Recipe:
    space = Path(recipe.space)
    if space.suffix.lower() not in (".yaml", ".yml"):
        return recipe
    return recipe.model_copy(update={"space": str(space.resolve())})


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


def _forget_start(run: OpenRun) -> None:
    """Removes what a start that came to nothing has kept for another recipe."""
    from search.study import forget_untried

    forget_untried(run.storage)
    for name in (KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES):
        (run.folder / name).unlink(missing_ok=True)


def _keep_space(run: OpenRun) -> None:
    """A user's own space is copied into the run: the run means it as it was at the start."""
    if (text := _own_space(run)) is not None:
        write_file(run.folder / KEPT_SPACE, text)


def _refuse_another_space(run: OpenRun) -> None:
    text, kept = _own_space(run), run.folder / KEPT_SPACE
    if text is not None and kept.is_file() and kept.read_text("utf-8") != text:
        raise InvalidInput(
            f"{run.recipe.space}: this file has changed since {run.folder} was started, and a run "
            f"keeps its space; restore the file (a copy is {kept}), or start a new run with --out"
        )


def _own_space(run: OpenRun) -> str | None:
    """The text of a user's own space."""
    space = Path(run.recipe.space)
    own = space.suffix.lower() in (".yaml", ".yml") and space.is_file()
    return space.read_text("utf-8") if own else None
