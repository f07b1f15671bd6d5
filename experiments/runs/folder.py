"""The folder of a run, scaling study or transfer: its recipe, its storage, its manifest.

    runs/NAME/  recipe.yaml  manifest.json  study.db  phiscale.log  checkpoints/
                baseline.json  coefficients.json  family/  report/

The Optuna storage is the one store of truth; the JSON files are its results, written again by the
stage that owns them.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from experiments.config import Common, Recipe
from experiments.runs.environment import environment
from space.files import write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    from upath import UPath

MANIFEST = "manifest.json"

#: Inputs that a run reads once and copies into its folder, because they may change elsewhere.
KEPT_SPACE, KEPT_PRIOR, KEPT_LATENCIES = "space.yaml", "warm_start.json", "latency.json"
KEPT_START = "start.json"

#: Values of `storage` for storages in the run's own folder.
INSIDE = (None, "journal")

S = TypeVar("S", str, str | None)


@dataclass(frozen=True)
class RecipeFolder:
    """Where a run, a scaling study or a transfer is, and its recipe."""

    folder: Path
    recipe: Common

    @property
    def storage(self) -> str:
        """URL of the Optuna storage. It may hold a password: never show or save it."""
        from search.storage import storage_url  # optuna: not needed to look at a run's files

        return storage_url(self.folder, self.recipe.storage)

    @property
    def identity(self) -> str | None:
        """A random name of the run in a storage outside its folder; None for one inside."""
        if self.recipe.storage in INSIDE:
            return None
        identity: str = self.manifest["identity"]
        return identity

    @property
    def manifest(self) -> dict[str, Any]:
        """Starts, data and times of the run; empty before the first start."""
        path = self.folder / MANIFEST
        return _json(path) if path.is_file() else {}

    @property
    def label(self) -> str:
        """The name of the run outside its folder, as in trackers; several runs may have it."""
        return self.recipe.name

    @property
    def checkpoints(self) -> Path | UPath:
        """The folder of checkpoints and weights: inside the run's, or where the recipe says.

        There it is named by the run's identity, too, since runs of one name may share the place.
        """
        elsewhere = self.recipe.executor.checkpoints
        if elsewhere is None:
            return self.folder / "checkpoints"
        from upath import UPath  # not needed to look at a run

        return UPath(elsewhere) / f"{self.label}-{self.manifest['identity']}"

    def read(self, name: str) -> dict[str, Any]:
        """A result of an earlier stage, by its file's name.

        Raises `InvalidInput` if the file is missing or damaged.
        """
        path = self.folder / name
        if not path.is_file():
            raise InvalidInput(
                f"{self.folder}: {name} not found; run the stage that writes it: "
                f"phiscale {_STAGE_OF[name]} {shlex.quote(str(self.folder))}"
            )
        return _json(path)

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Writes the result of a stage, whole or not at all."""
        write_file(self.folder / name, json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    def note(self, **facts: Any) -> None:
        """Adds facts to the manifest; None removes one."""
        with self._changing() as manifest:
            manifest.update(facts)
            for name in (name for name, fact in facts.items() if fact is None):
                del manifest[name]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Inside, the manifest may be changed, and no other process writes it; then it is written.

        Readers need no lock: the file is replaced as a whole.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{MANIFEST}.lock"):
            manifest = self.manifest
            yield manifest
            self.write(MANIFEST, manifest)

    def note_start(self) -> None:
        """Notes that this process drives the run from now on: when, by which command, and where."""
        start = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["phiscale", *map(_showable, sys.argv[1:])]),
            "environment": environment(),
        }
        with self._changing() as manifest:
            manifest.setdefault("starts", []).append(start)

    def plan(self, study: str, jobs: int) -> None:
        """Notes the maximum number of jobs of a study, for `phiscale status`."""
        with self._changing() as manifest:
            manifest.setdefault("planned", {})[study] = jobs

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the wall-clock seconds of a stage to the manifest, over all starts."""
        start = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - start
            with self._changing() as manifest:
                seconds = manifest.setdefault("seconds", {})
                seconds[stage] = round(seconds.get(stage, 0.0) + took, 3)


@dataclass(frozen=True)
class OpenRun(RecipeFolder):
    """The folder of a run, and its recipe."""

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
            f"{path}: must be a JSON object that phiscale wrote, but got {data!r:.80}; restore the "
            "file, or delete it and start again: finished training runs are kept in the storage"
        )
    return data


def _showable(argument: str) -> str:
    """An argument of the command line, without the password of a URL in it."""
    key, equals, value = argument.rpartition("storage=")
    if equals:
        return f"{key}{equals}{shown(value)}"
    return _URL.sub(lambda url: shown(url[0]), argument)


#: An address with a password, anywhere in a word.
_URL = re.compile(r"[\w+.-]+://[^\s'\",\]]*@[^\s'\",\]]*")


def shown(storage: S) -> S:
    """A recipe's `storage` without the password in it."""
    if storage is None or "://" not in storage:
        return storage
    from search.storage import without_password

    return without_password(storage)
