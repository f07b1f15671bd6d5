"""What the code of one network must be able to say, found from its blocks.

Blocks of one kind become a class. A choice that all of them share is a constant in it; one in which
they differ is a parameter, and an argument of the stages. Channels follow from a rule where one
fits all blocks, and are counted out where none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from space.architecture import (
    Activation,
    Architecture,
    Block,
    Gate,
    Operator,
    Padding,
    Skip,
    Stage,
    round_channels,
)

ACTIVATIONS = {
    Activation.RELU: "nn.ReLU",
    Activation.RELU6: "nn.ReLU6",
    Activation.SILU: "nn.SiLU",
    Activation.HARD_SWISH: "nn.Hardswish",
}
_GATES = {Gate.SIGMOID: "nn.Sigmoid", Gate.HARD_SIGMOID: "nn.Hardsigmoid"}

#: Operators that end in a projection, and those whose inner channels are chosen.
PROJECTING = (Operator.SEPARABLE, Operator.INVERTED, Operator.FUSED)
EXPANDING = (Operator.INVERTED, Operator.FUSED, Operator.BOTTLENECK)

#: The smallest part of a block's channels to which a rule lets it squeeze (assumed).
_SMALLEST_PART = 64


class Parameter(NamedTuple):
    """A parameter of a class, in Python's words."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class Kind:
    """Blocks that become one class: what all of them choose, and in what they differ."""

    operator: Operator
    constants: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    #: Whether some of the blocks expand nothing, while others do.
    expands_at_times: bool

    @property
    def squeezes(self) -> bool | None:
        """Whether its blocks do; None where some do."""
        told = self.constants.get("squeeze")
        return None if told is None else told not in ("False", "0")

    def said(self, choice: str) -> str:
        """The choice in the code of the class: a constant, or its parameter."""
        return self.constants.get(choice, choice)


class Row(NamedTuple):
    """Equal blocks, of which the first alone has the stride; `choices` are their arguments."""

    operator: Operator
    repeats: int
    inputs: int
    outputs: int
    stride: int
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Joining:
    """The kinds of shortcut in a network; a block is `told` its own where no rule gives it."""

    skips: frozenset[Skip]
    told: Parameter | None

    @property
    def always(self) -> bool:
        """Whether every block has one."""
        return bool(self.skips - {Skip.IDENTITY}) and self.told is None


@dataclass(frozen=True)
class Needs:
    """What the code of a network must be able to say; `rows` are those of each stage."""

    kinds: tuple[Kind, ...]
    rows: tuple[tuple[Row, ...], ...]
    joining: Joining
    #: The activation of the network, and whether blocks have others.
    activation: str
    activations: bool
    #: How squeezed channels follow from the block's; None where they are counted out.
    squeezed: str | None
    #: The activations and gates of squeeze-and-excites.
    squeeze_activations: tuple[str, ...]
    gates: tuple[str, ...]
    same_padding: bool
    stochastic_depth: bool

    @property
    def linear(self) -> bool:
        """Whether some convolution has no activation."""
        return Skip.PROJECTION in self.joining.skips or any(
            kind.operator is not Operator.CONV and kind.said("linear") != "False"
            for kind in self.kinds
        )


def needs(network: Architecture) -> Needs:
    """What the code of `network` must be able to say."""
    stages = [_merged(blocks, network) for blocks in network.blocks()]
    blocks = [block for stage in stages for block in stage]
    joining, squeezed = _joining(network.stages, stages), _squeezed(blocks)
    activation = ACTIVATIONS[network.numerics.activation]
    choices = {
        (index, block): _choices(block, squeezed) | _told(joining, stage, stages[index])
        for index, stage in enumerate(network.stages)
        for block in stages[index]
    }
    kinds = {}
    for operator in Operator:
        if of := {place: said for place, said in choices.items() if place[1].operator is operator}:
            kinds[operator] = _kind(operator, list(of.values()), activation, joining, squeezed)
    rows = [
        tuple(_rows([(block, choices[index, block]) for block in stage], kinds))
        for index, stage in enumerate(stages)
    ]
    strides = [network.stem.stride, *(block.stride for block in blocks)]
    same = network.numerics.padding is Padding.SAME
    return Needs(
        kinds=tuple(kinds.values()),
        rows=tuple(rows),
        joining=joining,
        activation=activation,
        activations={said["activation"] for said in choices.values()} != {activation},
        squeezed=squeezed,
        squeeze_activations=_distinct(choices.values(), "squeeze_activation"),
        gates=_distinct(choices.values(), "gate"),
        same_padding=same and (network.stem.pool or max(strides) > 1),
        stochastic_depth=network.stochastic_depth > 0
        and any(block.shortcut is not Skip.NONE for block in blocks[1:]),
    )


def _merged(blocks: Sequence[Block], network: Architecture) -> list[Block]:
    """The blocks; beside inverted ones, a separable one is one that expands nothing."""
    everywhere = (block for stage in network.blocks() for block in stage)
    if all(block.operator is not Operator.INVERTED for block in everywhere):
        return list(blocks)
    separable = Operator.SEPARABLE
    return [
        b._replace(operator=Operator.INVERTED) if b.operator is separable else b for b in blocks
    ]


def _distinct(said: Iterable[Mapping[str, str]], choice: str) -> tuple[str, ...]:
    return tuple(sorted({each[choice] for each in said if choice in each}))


# --------------------------------------------------------------------------------------- choices


def _choices(block: Block, squeezed: str | None) -> dict[str, str]:
    """What the block chooses, in Python's words; what has no effect is left out."""
    found = {"kernel": str(block.kernel), "activation": ACTIVATIONS[block.activation]}
    if block.operator in EXPANDING:
        base = block.out_channels if block.operator is Operator.BOTTLENECK else block.in_channels
        found["expansion"] = _number(Fraction(block.inner_channels, base))
    if block.operator in PROJECTING:
        count = block.squeeze_channels
        found["squeeze"] = str(count) if squeezed is None else str(count > 0)
        found["linear"] = str(block.linear)
    if block.squeeze_activation and block.gate:
        found["squeeze_activation"] = ACTIVATIONS[block.squeeze_activation]
        found["gate"] = _GATES[block.gate]
    return found


def _number(ratio: Fraction) -> str:
    """6, 2.5 or 11 / 3."""
    if ratio.denominator == 1:
        return str(ratio.numerator)
    decimal = str(float(ratio))
    exact = len(decimal) <= 6 and Fraction(decimal) == ratio
    return decimal if exact else f"{ratio.numerator} / {ratio.denominator}"


def _squeezed(blocks: Sequence[Block]) -> str | None:
    """The rule by which every block that squeezes does; None where there is none."""
    counts = [(b.in_channels, b.inner_channels, b.squeeze_channels) for b in blocks]
    counts = [each for each in counts if each[2]]
    for index, base in enumerate(("inputs", "inner")):
        for part in range(1, _SMALLEST_PART + 1):
            if all(each[index] // part == each[2] for each in counts):
                return f"{base} // {part}" if part > 1 else base
            if all(round_channels(each[index] / part) == each[2] for each in counts):
                return f"rounded({base} / {part})"
    return None


def _joining(network: Sequence[Stage], stages: Sequence[Sequence[Block]]) -> Joining:
    """How the blocks of a network get their shortcut."""
    skips, refused = set(), False
    for stage, blocks in zip(network, stages, strict=True):
        shortcuts = {block.shortcut for block in blocks}
        skips.add(Skip.NONE if shortcuts == {Skip.NONE} else stage.skip)
        refused |= any(_fits(block) and block.shortcut is Skip.NONE for block in blocks)
    kinds = frozenset(skips - {Skip.NONE})
    if kinds == {Skip.IDENTITY}:
        return Joining(kinds, Parameter("adds", "bool", "True") if refused else None)
    told = Parameter("skip", "str", '"identity"') if len(skips) > 1 else None
    return Joining(kinds, told)


def _told(joining: Joining, stage: Stage, blocks: Sequence[Block]) -> dict[str, str]:
    """What the blocks of a stage are told of their shortcut, where that has an effect."""
    if joining.told is None:
        return {}
    fits = any(map(_fits, blocks))
    if joining.told.name == "adds":
        return {"adds": str(stage.skip is not Skip.NONE)} if fits else {}
    none = stage.skip is Skip.NONE and not fits
    return {"skip": joining.told.default if none else f'"{stage.skip.value}"'}


def _fits(block: Block) -> bool:
    return block.stride == 1 and block.in_channels == block.out_channels


# ----------------------------------------------------------------------------- classes and stages


def _kind(
    operator: Operator,
    choices: Sequence[Mapping[str, str]],
    activation: str,
    joining: Joining,
    squeezed: str | None,
) -> Kind:
    """A class of blocks with these choices."""
    module = "type[nn.Module]"
    whole = all(each.get("expansion", "1").isdigit() for each in choices)
    possible = [
        Parameter("kernel", "int", "3"),
        Parameter("expansion", "int" if whole else "float", "1"),
        Parameter("squeeze", *(("int", "0") if squeezed is None else ("bool", "False"))),
        *([joining.told] if joining.told else []),
        Parameter("activation", module, activation),
        Parameter("squeeze_activation", module, activation),
        Parameter("gate", module, _GATES[Gate.SIGMOID]),
        Parameter("linear", "bool", "True"),
    ]
    values = {each.name: _distinct(choices, each.name) for each in possible}
    expansions = values["expansion"]
    return Kind(
        operator,
        {
            each.name: (*values[each.name], each.default)[0]
            for each in possible
            if len(values[each.name]) < 2
        },
        tuple(each for each in possible if len(values[each.name]) > 1),
        expands_at_times=operator is Operator.INVERTED
        and "1" in expansions
        and len(expansions) > 1,
    )


def _rows(
    stage: Sequence[tuple[Block, Mapping[str, str]]], kinds: Mapping[Operator, Kind]
) -> Iterator[Row]:
    """The rows of a stage: one, but where its first block differs in more than its shape."""

    def arguments(place: tuple[Block, Mapping[str, str]]) -> tuple[Operator, tuple[str, ...]]:
        block, choices = place
        given = kinds[block.operator].parameters
        said = ((each, choices.get(each.name, each.default)) for each in given)
        return block.operator, tuple(f"{e.name}={v}" for e, v in said if v != e.default)

    for (operator, given), run in groupby(stage, arguments):
        first, *rest = [block for block, _ in run]
        shape = first.in_channels, first.out_channels, first.stride
        yield Row(operator, 1 + len(rest), *shape, given)
