"""The recipe that a folder's recorded numbers hold for: what may change in it, and what may not."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from experiments import config
from experiments.config import Common, R
from experiments.runs.folder import INSIDE, MANIFEST, RecipeFolder, shown
from space.files import write_file
from space.validation import InvalidInput

#: What stages, scaling studies and transfers write from recorded training runs.
_RESULTS = ("baseline.json", "coefficients.json", "family/family.json", "study.json")


def with_absolute_paths(recipe: R) -> R:
    """Paths are relative to where the command is typed; a run may be continued from anywhere."""
    source = Path(recipe.data.source)
    if source.exists() and recipe.data.format != "glyphs":
        data = recipe.data.model_copy(update={"source": str(source.resolve())})
        recipe = recipe.model_copy(update={"data": data})
    if recipe.storage not in INSIDE:
        from search.storage import absolute

        recipe = recipe.model_copy(update={"storage": absolute(recipe.storage)})
    checkpoints = recipe.executor.checkpoints
    if checkpoints is not None and "://" not in checkpoints:
        moved = {"checkpoints": str(Path(checkpoints).resolve())}
        executor = recipe.executor.model_copy(update=moved)
        recipe = recipe.model_copy(update={"executor": executor})
    return recipe


def usable_folder(folder: Path) -> Path:
    """The absolute path of `folder`; raises `InvalidInput` where no folder can have it."""
    try:
        folder = folder.resolve()
        taken = folder.exists() and not folder.is_dir()
    except OSError as error:  # too long, say
        raise InvalidInput(
            f"--out {str(folder)[:60]}…: cannot be a folder: {error.strerror}; choose another"
        ) from None
    if taken:
        raise InvalidInput(f"--out {folder}: is a file; give the path of a folder")
    return folder


def recorded_recipe(folder: Path, recipe: R) -> R | None:
    """The recipe that the numbers recorded in `folder` hold for; None where there are none.

    `recipe` is the one that is to be carried out now. Starts that came to nothing, say because
    there were no images where the recipe had them, bind nobody. Raises `InvalidInput` where results
    are there, but the storage that they came from is not.
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
        if not is_unused(storage_url(folder.resolve(), storage)):
            return before
    except InvalidInput:  # nobody can tell
        return before
    _refuse_lost_storage(folder, storage)
    return None


def _refuse_lost_storage(folder: Path, storage: str | None) -> None:
    results = [name for name in _RESULTS if (folder / name).is_file()]
    if results and (folder / MANIFEST).is_file():
        name = {None: "study.db", "journal": "study.journal"}.get(storage, shown(storage))
        raise InvalidInput(
            f"{folder}: the storage {name} was removed or emptied, but its results "
            f"({', '.join(results)}) are still here; restore {name}, or start a new run with --out"
        )


def _refuse_changes(run: RecipeFolder, before: Common, may_change: Collection[str]) -> None:
    path = run.folder / "recipe.yaml"
    was = _flat(before.model_dump(mode="json"))
    now = _flat(run.written.model_dump(mode="json"))
    lines = [
        f"{path}: {key}: must not change after the first training run; it was {was.get(key)!r}, "
        f"but the recipe now has {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key) and not _one_of(key, may_change)
    ]
    if lines:
        lines[-1] += (
            "; start a new run with --out, or with --fork NAME, which also learns from the "
            "measurements of this one"
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


def write_recipe(
    run: RecipeFolder,
    before: Common | None,
    may_change: Collection[str],
    *,
    take_over: bool = False,
) -> bool:
    """Writes the recipe into the folder, and its name, seed and identity into the manifest.

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
    identity = run.manifest.get("identity", uuid.uuid4().hex)
    run.note(name=run.recipe.name, seed=run.recipe.seed, identity=identity)
    return changed
