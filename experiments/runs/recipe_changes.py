"""The recipe that a folder's recorded numbers hold for: what may change in it, and what may not."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from experiments import config
from experiments.config import Common, R, Recipe
from experiments.runs.folder import INSIDE, RecipeFolder, shown
from reports.load import refuse_lost_storage
from space.files import write_file
from space.validation import InvalidInput

M = TypeVar("M", bound=BaseModel)

#: Keys that may change between two starts of anything: they do not change what numbers mean.
MAY_CHANGE = (
    *("description", "executor", "logging", "train.checkpoint_seconds"),
    *("data.cache", "data.cache_limit"),
)


def changed(recipe: M, values: Mapping[str, Any]) -> M:
    """The recipe with other values of keys such as `search.trials`; they are not validated."""
    for key, value in values.items():
        section, _, inner = key.partition(".")
        new = changed(getattr(recipe, section), {inner: value}) if inner else value
        recipe = recipe.model_copy(update={section: new})
    return recipe


def prepared(folder: Path, recipe: R) -> tuple[Path, R, R | None]:
    """The absolute folder, the recipe with absolute paths, and the recipe recorded there, if any.

    Relative paths hold where the command is typed; a run may be continued from anywhere. Raises
    `InvalidInput` where the folder cannot be used, or its storage was lost.
    """
    recipe = changed(recipe, _absolute_paths(recipe))
    try:
        folder = folder.resolve()
        taken = folder.exists() and not folder.is_dir()
    except OSError as error:  # such as a name that is too long
        raise InvalidInput(
            f"--out {str(folder)[:60]}…: cannot be a folder: {error.strerror}; choose another"
        ) from None
    if taken:
        raise InvalidInput(f"--out {folder}: is a file; give the path of a folder")
    return folder, recipe, _recorded_recipe(folder, recipe)


def _absolute_paths(recipe: Common) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    source = Path(recipe.data.source)
    if source.exists() and recipe.data.format != "glyphs":
        paths["data.source"] = str(source.resolve())
    if recipe.storage not in INSIDE:
        from search.storage import absolute

        paths["storage"] = absolute(recipe.storage)
    checkpoints = recipe.executor.checkpoints
    if checkpoints is not None and "://" not in checkpoints:
        paths["executor.checkpoints"] = str(Path(checkpoints).resolve())
    if isinstance(recipe, Recipe) and recipe.report.published:
        paths["report.published"] = str(Path(recipe.report.published).resolve())
    return paths


def _recorded_recipe(folder: Path, recipe: R) -> R | None:
    """The recipe that the numbers recorded in `folder` hold for; None where there are none.

    Starts that recorded nothing, such as those that found no images, do not count.
    """
    from search.storage import storage_url
    from search.study import is_unused

    saved = folder / "recipe.yaml"
    if not saved.is_file():
        return None
    before = config.load_as(type(recipe), str(saved))
    # The storage as it was written down may lack its password.
    same = before.storage == shown(recipe.storage)
    storage = (recipe if same else before).storage
    try:
        if not is_unused(storage_url(folder, storage)):
            return before
    except InvalidInput:  # the storage cannot be opened
        return before
    refuse_lost_storage(folder, storage)
    return None


def write_recipe(
    run: RecipeFolder,
    before: Common | None,
    may_change: Collection[str],
    *,
    take_over: bool = False,
) -> bool:
    """Writes the recipe into the folder, and its name, seed and identity into the manifest.

    Returns whether the recipe is the first, or differs from the one in the folder. Raises
    `InvalidInput` where it differs from `before`, for which numbers are recorded, in more than
    `MAY_CHANGE` and `may_change`; where it would change under another process that drives the run;
    and where that cannot be found out.
    """
    recipe = _without_passwords(run.recipe)
    saved, text = run.folder / "recipe.yaml", config.dump(recipe)
    if before is not None:
        _refuse_changes(saved, before, recipe, (*MAY_CHANGE, *may_change))
    differs = not saved.is_file() or saved.read_text("utf-8") != text
    if differs and not take_over:
        from search.lease import refuse_if_driven

        refuse_if_driven(run.storage)  # which also finds out whether it can be reached
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"{run.folder}: cannot be created ({error.strerror}); give another folder with --out"
        ) from None
    write_file(saved, text)
    identity = run.manifest.get("identity", uuid.uuid4().hex)
    run.note(name=run.recipe.name, seed=run.recipe.seed, identity=identity)
    return differs


def _without_passwords(recipe: Common) -> Common:
    recipe = changed(recipe, {"storage": shown(recipe.storage)})
    if isinstance(recipe, Recipe):
        sources = tuple(map(shown, recipe.search.warm_start))
        recipe = changed(recipe, {"search.warm_start": sources})
    return recipe


def _refuse_changes(path: Path, before: Common, after: Common, allowed: Collection[str]) -> None:
    was, now = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    lines = [
        f"{path}: {key}: must not change after the first training run; it was {was.get(key)!r}, "
        f"but the recipe now has {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
        and not any(key == each or key.startswith(f"{each}.") for each in allowed)
    ]
    if lines:
        lines[-1] += (
            "; start a new run with --out, or with --fork NAME, which also learns from the "
            "measurements of this one"
        )
        raise InvalidInput("\n".join(lines))


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
