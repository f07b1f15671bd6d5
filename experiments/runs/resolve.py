"""Runs, networks and families by their names on the command line, and completion of names."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import config
from experiments.runs.folder import OpenRun, RecipeFolder
from experiments.studies.recipes import is_json, read_architecture, read_recipe
from reports.load import load
from scaling.saved_family import ARCHITECTURE, FAMILY, load_record
from space import presets
from space.architecture import Architecture
from space.validation import InvalidInput, one_of

#: The folder of runs, unless `--out` names another.
RUNS = Path("runs")


def completed(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Completes one of `names`."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def runs_in(folder: Path) -> list[Path]:
    """The folders of the runs in `folder`."""
    return sorted(path.parent for path in folder.glob("*/recipe.yaml"))


complete_run = completed(lambda: [*map(str, runs_in(RUNS))])
complete_set = completed(lambda: [f"{key}=" for key in config.value_keys()])
complete_target = completed(
    lambda: [*config.names(), *map(str, [*runs_in(RUNS), *sorted(Path().glob("*.yaml"))])]
)


def find_run(folder: Path) -> OpenRun | None:
    """The run in `folder`, or of that name in runs/; None if there is none."""
    place = _find(folder)
    return None if place is None else OpenRun(place, config.load(str(place / "recipe.yaml")))


def existing_run(folder: Path) -> OpenRun:
    """As `find_run`; raises `InvalidInput`, saying what to do, if there is none."""
    if found := find_run(folder):
        return found
    raise _not_a_run(folder)


def existing_folder(folder: Path) -> RecipeFolder:
    """The same for a run, a scaling study or a transfer."""
    if place := _find(folder):
        return RecipeFolder(place, read_recipe(place / "recipe.yaml"))
    raise _not_a_run(folder)


def _find(folder: Path) -> Path | None:
    places = (folder, RUNS / folder)
    return next((p.resolve() for p in places if (p / "recipe.yaml").is_file()), None)


def _not_a_run(folder: Path) -> InvalidInput:
    if folder.is_dir():
        return config.not_a_run(folder)
    parent = folder.parent if folder.parent != Path() else RUNS
    names = [each.name for each in runs_in(parent)]
    if not names:
        return InvalidInput(
            f"{folder}: not found; give the folder of a run (by default in {RUNS}/), or start one "
            "with: phiscale run RECIPE"
        )
    return one_of(f"runs in {parent}", folder.name, names)


def recipe_of(folder: Path) -> dict[str, Any]:
    """The recipe in a run's folder with every key in its long form, which reports read.

    A run writes it so, but somebody may have written `target: 40M` into it by hand.
    """
    return config.load(str(folder / "recipe.yaml")).model_dump(mode="json")


class FamilyTarget(NamedTuple):
    """A saved family, and the member that was named; None for all of them."""

    folder: Path
    member: str | None

    @property
    def member_folder(self) -> Path:
        """The folder of the one member. Raises `InvalidInput` if a choice of several is needed."""
        names = _members(self.folder)
        if self.member is None and len(names) > 1:
            raise InvalidInput(
                f"{self.folder}: give one of its members ({', '.join(names)}): RUN:{names[0]}, or "
                f"{self.folder / names[0]}"
            )
        return self.folder / (self.member or names[0])


def find_family(name: str) -> FamilyTarget | None:
    """The family or member that `RUN`, `RUN:b1` or a folder of either names; None for others.

    RUN is a folder, or the name of one in runs/.
    """
    path, (run, _, part) = Path(name), name.rpartition(":")
    for place in (path, RUNS / path):
        for folder in (place / "family", place):
            if (folder / FAMILY).is_file():
                return FamilyTarget(folder, None)
        if (place / ARCHITECTURE).is_file() and (place.absolute().parent / FAMILY).is_file():
            return FamilyTarget(place.absolute().parent, place.absolute().name)
    if run and (found := find_family(run)) and found.member is None:
        return found._replace(member=part) if part in _members(found.folder) else None
    return None


def _members(family: Path) -> list[str]:
    return [member.name for member in load_record(family).members]


def existing_family(name: str) -> FamilyTarget:
    """As `find_family`; raises `InvalidInput`, saying what to do, where there is none."""
    if found := find_family(name):
        return found
    run, _, part = name.rpartition(":")
    if run and (family := find_family(run)):
        raise one_of(f"members of {run}", part, _members(family.folder))
    parent = Path(name).absolute().parent
    if (parent / FAMILY).is_file():
        raise one_of(f"members of {parent}", Path(name).name, _members(parent))
    if find_run(Path(name)):
        raise InvalidInput(
            f"{name}: the run has no family yet; train it with: phiscale family {shlex.quote(name)}"
        )
    raise InvalidInput(
        f"{name}: must be a run with a family, RUN:MEMBER, or the folder of a family or a member"
    )


def load_architecture(name: str) -> Architecture:
    """The network called `name`: a preset, a JSON file, or one of a run.

    `RUN` is a run's baseline, `RUN:b1` a member of its family, `RUN:trial-3` a trial by its job's
    name. Raises `InvalidInput` with the nearest name for others.
    """
    if found := find_in_run(name):
        return _of_run(*found)
    if is_json(name):
        return read_architecture(Path(name))
    if name in presets.names():
        return presets.load(name)
    if Path(name).is_dir():
        raise config.not_a_run(Path(name))
    if Path(name).is_file():
        raise InvalidInput(
            f"{name}: is a file, but a network is a preset (phiscale presets), RUN, RUN:MEMBER, or "
            "an architecture.json; `phiscale cost` also takes FILE.py:CLASS"
        )
    return presets.load(name)  # which names the nearest


def find_in_run(name: str) -> tuple[OpenRun, str, str] | None:
    """The run, its name and that of its network; None where `name` is not a network of a run."""
    run, _, part = name.rpartition(":")
    if run and (found := find_run(Path(run))):
        return found, run, part
    if name not in presets.names() and (found := find_run(Path(name))):
        return found, name, "baseline"
    return None


def _of_run(run: OpenRun, name: str, part: str) -> Architecture:
    from reports.tables import networks

    loaded = load(run.folder)
    found = networks(loaded)
    if part in found:
        return found[part]
    if part == "baseline":
        raise InvalidInput(
            f"{name}: the run has no baseline yet; find it with: "
            f"phiscale search {shlex.quote(str(run.folder))}"
        )
    jobs = {t.job: t.architecture for t in loaded.all_trials if t.job}
    if part not in jobs:
        raise one_of(f"networks of {name}", part, [*found, *jobs])
    return Architecture.from_dict(jobs[part], source=f"{name}: {part}")
