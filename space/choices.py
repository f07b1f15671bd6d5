"""Search spaces as data: named categorical choices per stage around a base architecture.

A space is a YAML file that a user can copy and edit; `docs/` and the shipped files in
`space/spaces/` show the form. Names of choices are `stage1.operator`, `stage1.kernel` and so on,
stages counted from 1; `resolution`, where a space offers several, is a choice of the whole network.
Source of the choices of stages: MnasNet, section 4.1 and figure 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

from space import presets
from space.architecture import Architecture, Operator, Skip, SqueezeExcite, Stage, round_channels
from space.files import read_text
from space.validation import InvalidInput, one_of, parse_yaml, strict_keys, validate

Value = str | int | float

#: The most values of one choice, so that a space is checked and tabulated in seconds (assumed).
_MOST_VALUES = 100

#: The choice of the whole network: its resolution in pixels.
RESOLUTION = "resolution"

_SHIPPED = resources.files("space") / "spaces"


@strict_keys
@dataclass(frozen=True)
class StageChoices:
    """The values that one stage may take; an empty tuple leaves the base's own.

    `operator` values are an operator's name, with `_e` and the expansion where it has one
    (`inverted_e6`). `start_kernel` is for operators with two kernels, each of which may be 0 for
    none. `se` is the squeeze-and-excite ratio, 0 for none. `width` multiplies the base's channels
    and `layers` is added to its repeats, of which at least one is left (assumed: MnasNet does not
    say what −1 means at one layer).
    """

    operator: tuple[str, ...] = ()
    kernel: tuple[int, ...] = ()
    se: tuple[float, ...] = ()
    skip: tuple[Skip, ...] = ()
    width: tuple[float, ...] = ()
    layers: tuple[int, ...] = ()
    start_kernel: tuple[int, ...] = ()


@strict_keys
@dataclass(frozen=True)
class _SpaceFile:
    base: str | dict[str, Any]
    choices: dict[str, list[Any]]
    description: str = ""
    resolution: tuple[int, ...] = ()
    stages: dict[str, dict[str, list[Any]]] | None = None
    squeeze_excite: SqueezeExcite = field(default_factory=SqueezeExcite)


@dataclass(frozen=True)
class Space:
    """Architectures that differ from `base` by one value of each of `choices`."""

    name: str
    base: Architecture
    choices: Mapping[str, tuple[Value, ...]]
    squeeze_excite: SqueezeExcite = field(default_factory=SqueezeExcite)
    description: str = ""

    @cached_property
    def size(self) -> int:
        """Number of combinations of choices; several may decode to the same network."""
        return math.prod(map(len, self.choices.values()))

    @cached_property
    def by_stage(self) -> list[dict[str, str]]:
        """The names of each stage's choices, by kind, in the order of `choices`."""
        found: list[dict[str, str]] = [{} for _ in self.base.stages]
        for name in self.choices:
            if name == RESOLUTION:
                continue
            stage, kind = name.removeprefix("stage").split(".")
            found[int(stage) - 1][kind] = name
        return found

    def adapted(
        self, *, num_classes: int, resolution: int | None = None, in_channels: int = 3
    ) -> Space:
        """The same choices for other data; `resolution` in pixels, None for the base's own.

        Of the resolutions that a space offers, those up to `resolution` are left; the largest is
        the base's. Raises `InvalidInput` where none is.
        """
        resolution, choices = resolution or self.base.resolution, dict(self.choices)
        if offered := self.choices.get(RESOLUTION):
            left = tuple(pixels for pixels in self.resolutions if pixels <= resolution)
            if not left:
                raise InvalidInput(
                    f"space {self.name}: resolution: must offer at most {resolution} pixels, the "
                    f"resolution of the recipe, but the least offered is {min(offered)}"
                )
            resolution, choices[RESOLUTION] = max(left), left
        base = replace(
            self.base, num_classes=num_classes, resolution=resolution, in_channels=in_channels
        )
        return replace(self, base=base, choices=choices)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions that networks may have, in pixels."""
        offered = self.choices.get(RESOLUTION, (self.base.resolution,))
        return tuple(int(pixels) for pixels in offered)

    def decode(self, choices: Mapping[str, Value]) -> Architecture:
        """The architecture of one value for each choice.

        Raises `InvalidInput` for a missing or unknown choice and for a value not offered.
        """
        self._check(choices)
        stages = tuple(
            self.stage(number, {kind: choices[name] for kind, name in names.items()})
            for number, names in enumerate(self.by_stage, start=1)
        )
        resolution = int(choices.get(RESOLUTION, self.base.resolution))
        return replace(self.base, stages=stages, resolution=resolution)

    def stage(self, number: int, chosen: Mapping[str, Value]) -> Stage:
        """Stage `number` of the base, counted from 1, with a value for each kind in `chosen`.

        Raises ValueError where the result is not a stage.
        """
        stage = self.base.stages[number - 1]
        changes: dict[str, Any] = {}
        for kind, value in chosen.items():
            changes |= self._change(stage, kind, value)
        return replace(stage, **changes)

    def combinations(self, number: int) -> Iterator[tuple[dict[str, Value], Stage]]:
        """Every combination of a stage's choices, the last varying fastest, and what it makes."""
        names = self.by_stage[number - 1]
        for values in product(*(self.choices[name] for name in names.values())):
            chosen = dict(zip(names.values(), values, strict=True))
            yield chosen, self.stage(number, dict(zip(names, values, strict=True)))

    def _change(self, stage: Stage, kind: str, value: Any) -> dict[str, Any]:
        match kind:
            case "operator":
                operator, expansion = parse_operator(value)
                return {"operator": operator, "expansion": expansion}
            case "se":
                pattern = stage.se or self.squeeze_excite
                return {"se": replace(pattern, ratio=value) if value else None}
            case "skip":
                return {"skip": Skip(value)}
            case "width":
                rule = self.base.scaling
                wider = round_channels(stage.channels * value, rule.divisor, rule.round_limit)
                return {"channels": wider if value != 1 else stage.channels}
            case "layers":
                return {"repeats": max(1, stage.repeats + value)}
            case _:  # a kernel
                return {kind: value}

    def _check(self, choices: Mapping[str, Value]) -> None:
        for name, value in choices.items():
            if name not in self.choices:
                raise one_of(f"space {self.name}", name, self.choices)
            if value not in self.choices[name]:
                offered = ", ".join(map(str, self.choices[name]))
                raise InvalidInput(
                    f"space {self.name}: {name}: must be one of {offered}, but got {value!r}"
                )
        if missing := self.choices.keys() - choices.keys():
            raise InvalidInput(f"space {self.name}: no value is given for {min(missing)}")


def parse_operator(value: str) -> tuple[Operator, float]:
    """`inverted_e6` as (INVERTED, 6.0); an operator without expansion as (operator, 1.0).

    Raises ValueError with what must hold.
    """
    match = re.fullmatch(r"([a-z]+)(?:_e(\d+(?:\.\d+)?))?", value)
    if match is None or match[1] not in list(Operator):
        valid = ", ".join(f"{o}_e6" if o.expands else o for o in Operator)
        raise ValueError(f"an operator is one of {valid} (6: any expansion), but got {value!r}")
    operator = Operator(match[1])
    if operator.expands != (match[2] is not None):
        form = f"{operator}_e6" if operator.expands else str(operator)
        raise ValueError(f"this operator is written {form}, but got {value!r}")
    return operator, float(match[2] or 1)


def names() -> list[str]:
    """The shipped spaces.

    Example:
        >>> from space import choices
        >>> "mnasnet" in choices.names()
        True
    """
    files = (file.name for file in _SHIPPED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def load(name_or_path: str) -> Space:
    """A shipped space by name, or a user's by the path of its YAML file.

    Raises `InvalidInput` naming the file, the key, what must hold and what was found.

    Example:
        >>> from space import choices
        >>> space = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32)
        >>> first = {name: values[0] for name, values in space.choices.items()}
        >>> space.decode(first).num_classes
        10
    """
    import yaml

    if name_or_path in names():
        name, text = name_or_path, (_SHIPPED / f"{name_or_path}.yaml").read_text("utf-8")
    else:
        path = Path(name_or_path)
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise one_of("space", name_or_path, names())
        if not path.is_file():
            raise InvalidInput(
                f"space: {name_or_path} not found; give a path or one of: {', '.join(names())}"
            )
        name, text = path.stem, read_text(path)
    data = parse_yaml(text, yaml.SafeLoader, source=name_or_path)
    return parse(name, data, source=name_or_path)


def parse(name: str, data: Any, *, source: str) -> Space:
    """The space that the content of a YAML file describes; raises `InvalidInput` as `load` does."""
    file = validate(_SpaceFile, data, source=source)
    base = (
        presets.load(file.base)
        if isinstance(file.base, str)
        else Architecture.from_dict(file.base, source=f"{source}: base")
    )
    own = file.stages or {}
    numbers = [str(number) for number in range(1, len(base.stages) + 1)]
    if strange := own.keys() - set(numbers):
        raise InvalidInput(
            f"{source}: stages.{min(strange)}: the base has stages 1 to {len(numbers)}; "
            "name one of them"
        )
    choices: dict[str, tuple[Value, ...]] = {}
    for number in numbers:
        where = f"{source}: stages.{number}" if number in own else f"{source}: choices"
        merged = _stage_choices(file.choices | own.get(number, {}), where)
        for kind, values in vars(merged).items():
            if values:
                choices[f"stage{number}.{kind}"] = values
    if file.resolution:
        if len(set(file.resolution)) < len(file.resolution) or min(file.resolution) < 1:
            raise InvalidInput(
                f"{source}: resolution: must be different numbers of pixels, but got "
                f"{list(file.resolution)}"
            )
        choices[RESOLUTION] = file.resolution
    if not choices:
        raise InvalidInput(f"{source}: choices: at least one choice is needed, but none is given")
    space = Space(name, base, choices, file.squeeze_excite, file.description)
    _check_values(space, source)
    return space


def _stage_choices(data: dict[str, list[Any]], where: str) -> StageChoices:
    choices = validate(StageChoices, data, source=where)
    for kind, values in vars(choices).items():
        if len(values) > _MOST_VALUES:
            raise InvalidInput(
                f"{where}: {kind}: at most {_MOST_VALUES} values are possible, but got "
                f"{len(values):,}"
            )
        if len(set(values)) < len(values):
            raise InvalidInput(f"{where}: {kind}: values must differ, but got {list(values)}")
        if kind in data and not values:
            raise InvalidInput(f"{where}: {kind}: at least one value is needed, but got []")
    return choices


#: Kinds whose values may not go together.
_JOINED = ("operator", "kernel", "start_kernel")


def _check_values(space: Space, source: str) -> None:
    """Every value must give a valid stage: found now, not in the middle of a search."""
    for number, names in enumerate(space.by_stage, start=1):
        joined = [kind for kind in _JOINED if kind in names]
        for kinds in (joined, *([kind] for kind in names if kind not in _JOINED)):
            for values in product(*(space.choices[names[kind]] for kind in kinds)):
                try:
                    space.stage(number, dict(zip(kinds, values, strict=True)))
                except ValueError as error:
                    raise InvalidInput(f"{source}: {', '.join(kinds)}: {error}") from None
