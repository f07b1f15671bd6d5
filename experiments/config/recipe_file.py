"""Recipes as text: load a shipped recipe or a user's, override keys, validate, and write.

Every mistake is reported with the file, the key, what must hold, what was found, and the nearest
valid name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from experiments.config.recipe import Common, Recipe
from space.files import read_text
from space.validation import InvalidInput, one_of, parse_yaml, validate

_SHIPPED = resources.files("experiments") / "recipes"

#: Prefix of the shipped recipes for `phiscale study`.
_STUDY = "study-"

R = TypeVar("R", bound=Common)


def names() -> list[str]:
    """Names of the shipped recipes of runs."""
    return [name for name in _shipped() if not name.startswith(_STUDY)]


def study_names() -> list[str]:
    """Names of the shipped recipes of scaling studies."""
    return [name for name in _shipped() if name.startswith(_STUDY)]


def _shipped() -> list[str]:
    files = (file.name for file in _SHIPPED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Loads a shipped recipe by name, or a user's by path, with `key.key=value` overrides.

    Raises:
        InvalidInput: if the recipe is not found or not valid.

    Example:
        >>> from experiments import config
        >>> config.load("demo", ["search.trials=20"]).search.trials
        20
    """
    data, path = given(name_or_path), Path(name_or_path)
    # The recipe in a folder is continued there; as a file it would start anew elsewhere.
    target = shlex.quote(str(path.parent if path.name == "recipe.yaml" else path))
    if "baselines" in data:
        raise InvalidInput(
            f"{name_or_path}: is the recipe of a scaling study; start or continue it with: "
            f"phiscale study {target}"
        )
    if "fine_tuning_rate" in data:
        raise InvalidInput(f"{name_or_path}: is the recipe of a transfer, not of a run")
    if is_of_table(data):
        raise InvalidInput(
            f"{name_or_path}: is the recipe of learned growth on a table, which trains nothing and "
            f"writes growth.json, lookups.csv and growth.png alone: "
            f"phiscale family {target}"
        )
    return load_as(Recipe, name_or_path, overrides)


def is_of_table(data: Mapping[str, Any]) -> bool:
    """Whether a recipe's records are a table of measured networks, from which growth is learned."""
    evaluator = data.get("evaluator")
    records = evaluator.get("records") if isinstance(evaluator, dict) else None
    # A table in another format is refused by its reader, which says what it must be.
    return str(records).lower().endswith((".csv", ".json", ".tsv", ".txt", ".xlsx"))


def given(
    name_or_path: str, overrides: Sequence[str] = (), known: Sequence[str] = ()
) -> dict[str, Any]:
    """What a recipe of whatever kind says, not validated.

    Raises `InvalidInput`, which names the `known` recipes, where it cannot be read.
    """
    if name_or_path in _shipped():
        text = (_SHIPPED / f"{name_or_path}.yaml").read_text("utf-8")
    else:
        text = _read(Path(name_or_path), known or names())
    data = parse_yaml(text, _Loader, source=name_or_path)
    if not isinstance(data, dict):
        raise InvalidInput(f"{name_or_path}: must be a mapping of keys, but got {data!r:.80}")
    for change in overrides:
        override(data, change)
    return data


def load_as(kind: type[R], name_or_path: str, overrides: Sequence[str] = ()) -> R:
    """Loads a recipe of any kind, as `load` does."""
    data = given(name_or_path, overrides, names() if kind is Recipe else study_names())
    return validate(kind, data, source=name_or_path)


def dump(recipe: BaseModel) -> str:
    """The recipe as YAML with every key explicit."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path, names: Sequence[str]) -> str:
    if path.is_dir():
        raise not_a_run(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        files = [f"{path}.yaml"] if Path(f"{path}.yaml").is_file() else []
        raise one_of("recipe", str(path), [*names, *files])
    if not path.is_file():
        raise InvalidInput(f"{path}: not found; shipped recipes: {', '.join(names)}")
    return read_text(path)


def not_a_run(folder: Path) -> InvalidInput:
    """The error for a folder that is not a run."""
    return InvalidInput(
        f"{folder}: not a run, because it contains no recipe.yaml; list the runs in a folder with: "
        "phiscale runs FOLDER"
    )


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number, as in YAML 1.2, and duplicate keys are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        duplicates = {str(key) for key in keys if keys.count(key) > 1}
        if duplicates:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: duplicate key {min(duplicates)!r}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def override(data: dict[str, Any], change: str) -> None:
    """Sets the key that `change` (key.key=value) names.

    Raises:
        InvalidInput: if `change` has another form, or names a key below a value.
    """
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--set {change}: must have the form key.key=value")
    *sections, last = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise InvalidInput(f"--set {change}: {section} is a value and has no keys")
    data[last] = parse_yaml(text, _Loader, source=f"--set {change}")
