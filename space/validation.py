"""Data from outside, checked: one clear sentence for whatever is wrong with it.

Recipes, spaces and architecture files all come through `validate`, so that every message has the
same form: where (source and key), what must hold, what was found, and the nearest valid name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails

T = TypeVar("T")


class InvalidInput(ValueError):
    """A user's mistake, told in a sentence that says where it is and what to do."""


def strict_keys(kind: type[T]) -> type[T]:
    """Class decorator: `validate` refuses unknown keys of this dataclass (pydantic's setting)."""
    kind.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return kind


def one_of(name: str, found: str, valid: Iterable[str]) -> InvalidInput:
    """The error for a name that is not in `valid`, with the nearest that is."""
    names = sorted(valid)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(names)}"
    return InvalidInput(f"{name}: there is no {found!r}; {hint}")


#: The longest text of YAML, in characters, so that it is read in seconds (assumed; the longest
#: recipe or space that is shipped has fewer than 2,000).
_MOST_TEXT = 300_000

#: The largest data that YAML may give, in characters, with what its aliases repeat (assumed).
_MOST_CHARACTERS = 10_000_000


def parse_yaml(text: str, loader: Any, *, source: str) -> Any:
    """The data in `text`, read by a safe `loader`; raises `InvalidInput` where it is not YAML.

    Endless texts and nesting, and aliases that repeat a part beyond any size, are refused.
    """
    import yaml

    if len(text) > _MOST_TEXT:
        raise InvalidInput(
            f"{source}: must have at most {_MOST_TEXT:,} characters, but has {len(text):,}"
        )
    try:
        data = yaml.load(text, loader)
        size = _characters(data, {})
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"{source}: is not valid YAML: {error}") from None
    if size > _MOST_CHARACTERS:
        raise InvalidInput(
            f"{source}: must hold at most {_MOST_CHARACTERS} characters, but with what its aliases "
            "repeat it has more"
        )
    return data


def _characters(data: object, known: dict[int, int]) -> int:
    """About how long `data` is when it is written out; `known` are the parts that were counted."""
    if not isinstance(data, dict | list):
        return len(data) if isinstance(data, str) else 1
    if id(data) not in known:
        known[id(data)] = 0  # in a circle, which `validate` refuses
        parts = [*data, *data.values()] if isinstance(data, dict) else data
        known[id(data)] = 1 + sum(_characters(part, known) for part in parts)
    return known[id(data)]


def validate(kind: type[T], data: object, *, source: str) -> T:
    """`data` (what JSON or safe YAML gives) as a `kind`: a dataclass or a pydantic model.

    Types are strict (no number in quotes), unknown keys are refused. Raises `InvalidInput` with a
    line per mistake.
    """
    from pydantic import ValidationError

    try:
        text = json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{source}: plain JSON data is needed, but {error}") from None
    try:
        value: T = _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InvalidInput(_explain(error, kind, source)) from None
    return value


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _explain(error: ValidationError, kind: type, source: str) -> str:
    return "\n".join(_sentence(detail, kind, source) for detail in error.errors())


def _sentence(detail: ErrorDetails, kind: type, source: str) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    place = f"{source}: {where}" if where else source
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        unknown, siblings = str(detail["loc"][-1]), _siblings(kind, detail["loc"])
        near = _elsewhere(kind, unknown) or difflib.get_close_matches(unknown, siblings, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(siblings)}"
        return f"{place}: unknown key; {hint}"
    if detail["type"] == "missing":
        return f"{place}: this required key is missing"
    rule = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":  # our own checks say what they found
        return f"{place}: {rule}"
    found = repr(detail["input"])
    short = found if len(found) <= 80 else found[:77] + "…"
    sentence = f"{place}: {rule[0].lower()}{rule[1:]}, but got {short}"
    expected = detail.get("ctx", {}).get("expected")
    if isinstance(expected, str) and isinstance(detail["input"], str):
        options = [option.strip(" '") for option in expected.replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(detail["input"], options, n=1, cutoff=0.5)
        sentence += f"; did you mean {near[0]!r}?" if near else ""
    return sentence


def _siblings(kind: type, location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid beside the unknown key at `location`, from the JSON schema."""
    schema = _adapter(kind).json_schema()
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    nodes = [schema]
    for part in location[:-1]:
        nodes = [child for node in nodes for child in _children(node, part, definitions)]
    nodes = [plain for node in nodes for plain in _plain(node, definitions)]
    return sorted({key for node in nodes for key in node.get("properties", {})})


def _elsewhere(kind: type, name: str) -> list[str]:
    """The one key of this name, where a section of the data has it: `search.trials`."""
    schema = _adapter(kind).json_schema()
    definitions: Mapping[str, Any] = schema.get("$defs", {})

    def below(node: dict[str, Any], prefix: str) -> Iterator[str]:
        for plain in _plain(node, definitions):
            for key, child in plain.get("properties", {}).items():
                if key == name:
                    yield prefix + key
                yield from below(child, f"{prefix}{key}.")

    found = list(below(schema, ""))
    return found if len(found) == 1 else []


def _children(
    node: dict[str, Any], part: int | str, definitions: Mapping[str, Any]
) -> Iterable[dict[str, Any]]:
    for plain in _plain(node, definitions):
        if isinstance(part, int):
            yield from [plain["items"]] if "items" in plain else plain.get("prefixItems", [])
        elif part in plain.get("properties", {}):
            yield plain["properties"][part]
        else:  # the tag of a union, or a free key of a mapping
            extra = plain.get("additionalProperties")
            yield extra if isinstance(extra, dict) else plain


def _plain(node: dict[str, Any], definitions: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    options = [option for word in ("anyOf", "oneOf", "allOf") for option in node.get(word, [])]
    return [plain for option in options for plain in _plain(option, definitions)] or [node]
