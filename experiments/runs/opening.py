"""A run made ready: its recipe completed and written into its folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments import config
from experiments.config import R, Recipe
from experiments.runs import start as starts
from experiments.runs.folder import (
    INSIDE,
    KEPT_LATENCIES,
    KEPT_PRIOR,
    KEPT_SPACE,
    KEPT_START,
    OpenRun,
    shown,
)
from experiments.runs.recipe_changes import changed, prepared, write_recipe
from experiments.runs.start import Start
from space import choices
from space.device import Precision
from space.files import write_file
from space.optional import needed
from space.validation import InvalidInput

#: Keys and sections of a recipe that may change between two starts of a run: what they ask for is
#: either done already or still to do. All others decide what the recorded numbers mean.
_MAY_CHANGE = (
    *("coefficients", "family", "report"),
    *("search.trials", "search.finalists", "search.final_epochs", "evaluator.seeds"),
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

    `out` is the run's folder, `runs/NAME` by default. `fork` is the name of a new run beside that
    one, which may change anything and learns from what that one has measured. Raises `InvalidInput`
    where the folder holds a run whose recipe differs in what its recorded numbers depend on, or one
    that another process drives, and whose recipe would change under it.
    """
    recipe, folder = recipe_and_folder(config.load, target, out, overrides)
    start = None
    if fork is not None:
        recipe, start, folder = _forked(recipe, folder, fork)
    folder, recipe, before = prepared(folder, recipe)
    if before is None:
        recipe = _without_outgrown_resolution(recipe, Path(target) / "recipe.yaml")
    if recipe.family.int8 or recipe.objective.precision is Precision.INT8:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            needed(package, "onnx", "quantisation to int8")
    choices.load(recipe.space)  # found wrong now, and not only once the images are decoded
    space, kept, text = Path(recipe.space), folder / KEPT_SPACE, None
    if space.suffix.lower() in (".yaml", ".yml"):  # the user's own
        recipe, text = changed(recipe, {"space": str(space.resolve())}), space.read_text("utf-8")
    recipe, start = _with_start(folder, recipe, before, start)
    run = OpenRun(folder, with_resolution(recipe, before, largest_resolution))
    # Files of these names that no start has put there are the user's own.
    again = before is None and bool(run.manifest)
    if text and not again and kept.is_file() and kept.read_text("utf-8") != text:
        raise InvalidInput(
            f"{recipe.space}: this file has changed since {folder} was started, and a run "
            f"keeps its space; restore the file (a copy is {kept}), or start a new run with --out"
        )
    if write_recipe(run, before, _MAY_CHANGE, take_over=take_over) and again:
        _forget_start(run)
    if text:  # the run keeps the space as it was at the start
        write_file(kept, text)
    if start is not None:
        starts.keep(run, start)
    return run


def recipe_and_folder(
    load: Callable[[str, Sequence[str]], R],
    target: str,
    out: Path | None = None,
    overrides: Sequence[str] = (),
) -> tuple[R, Path]:
    """The recipe in the folder `target` or called `target`, and its folder: `out`, or by default
    `target` or `runs/NAME`."""
    saved = Path(target) / "recipe.yaml"
    if saved.is_file():
        return load(str(saved), overrides), out or Path(target)
    recipe = load(target, overrides)
    return recipe, out or Path("runs") / recipe.name


def _with_start(
    folder: Path, recipe: Recipe, before: Recipe | None, forked: Start | None
) -> tuple[Recipe, Start | None]:
    """The recipe with what follows from its start, and the start.

    A run that goes on has its own, and a fork may have that of its run. Images are normalised as
    those of the start were.
    """
    if recipe.start.weights is None:
        return recipe, None
    if before is None:
        start = forked or starts.find(recipe.start)
    elif before.start.weights is None:
        start = None  # the recipe is about to be refused
    else:
        start = starts.kept(OpenRun(folder, recipe))
    values: dict[str, Any] = {"start": starts.absolute(recipe.start)}
    if start and start.pixels and recipe.data.mean is None and recipe.data.std is None:
        pixels = start.pixels.of(recipe.data.channels)
        values |= {"data.mean": pixels.mean, "data.std": pixels.std}
    return changed(recipe, values), start


def _with_forked_start(recipe: Recipe, folder: Path) -> tuple[Recipe, Start | None]:
    """The start of the run in `folder` where the recipe of its fork names the same.

    Where it names another, images are no longer normalised as those of the run's start were.
    """
    run = OpenRun(folder.resolve(), config.load(str(folder / "recipe.yaml")))
    start = starts.kept(run)
    if start is None or starts.absolute(recipe.start) == run.recipe.start:
        return recipe, start
    if start.pixels and recipe.data.normalisation == start.pixels.of(recipe.data.channels):
        recipe = changed(recipe, {"data.mean": None, "data.std": None})
    return recipe, None


def with_resolution(recipe: R, before: R | None, largest: Callable[[R], int]) -> R:
    """The recipe with the resolution of its stored images.

    The first training run decides it: what a network sees is resized from the stored images, so
    accuracies depend on it, and later starts may ask for a larger family.
    """
    if recipe.data.resolution is not None:
        return recipe
    known = before.data.resolution if before else None
    return changed(recipe, {"data.resolution": known or largest(recipe)})


def _without_outgrown_resolution(recipe: Recipe, saved: Path) -> Recipe:
    """The recipe, whose images are stored anew where it asks for more pixels than that in `saved`.

    A run writes into its recipe the resolution of its stored images, which others start from.
    """
    if recipe.data.resolution is None or not saved.is_file():
        return recipe
    earlier = config.load(str(saved))
    grew = largest_resolution(recipe) > largest_resolution(earlier)
    if grew and recipe.data.resolution == earlier.data.resolution:
        return changed(recipe, {"data.resolution": None})
    return recipe


def _forked(recipe: Recipe, folder: Path, name: str) -> tuple[Recipe, Start | None, Path]:
    """The recipe, the start and the folder of a new run that learns from the run in `folder`."""
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
    learning = {"search.warm_start": (str(folder.resolve()),), "search.sampler": "predictor"}
    recipe, start = _with_forked_start(changed(recipe, {"name": name, **learning}), folder)
    return recipe, start, new


def largest_resolution(recipe: Recipe) -> int:
    """The highest resolution in pixels that a network of the run can have by its recipe.

    γ is at most √(factor + tolerance), with α and β of 1; targets are met by resolution alone in
    the worst case. Those in other units than MACs count as eight times the baseline's cost. Members
    may be tested at larger resolutions.
    """
    settings, family = recipe.coefficients, recipe.family
    growth = settings.gamma or math.sqrt(settings.factor + settings.tolerance)
    steps = family.phi
    if family.targets:
        least = recipe.objective.bounds.macs[0] if recipe.objective.bounds.macs else 1
        ratio = max(family.targets) / least if family.cost == "macs" else 8.0
        steps = (math.log(ratio, settings.factor),)
    steps = (0.0, settings.phi, settings.compare_phi or 0.0, *steps)
    largest = recipe.resolution * max(float(growth**step) for step in steps)
    return math.ceil(largest * max((1.0, *family.test_resolutions)))


def _forget_start(run: OpenRun) -> None:
    """Removes what a start that recorded nothing has kept for another recipe."""
    from search.study import forget_untried

    forget_untried(run.storage)
    for name in (KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES, KEPT_START):
        (run.folder / name).unlink(missing_ok=True)
    run.note(initial_weights=None)
