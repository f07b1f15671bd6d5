"""From an architecture back to the choices that make it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from space.architecture import Architecture, Block, Stage, Stem
from space.choices import RESOLUTION, Space, Value

Choices = dict[str, Value]


class Encoder:
    """Finds the choices of a space that decode to a given network."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: dict[tuple[int, int], dict[tuple[Block, ...], Choices]] = {}

    def __call__(self, architecture: Architecture) -> Choices | None:
        """The choices that decode to the same `key`, stage by stage; None where there are none.

        Of several, those of the first values are given.
        """
        stages = architecture.blocks()
        if len(stages) != len(self._offers):
            return None
        found: Choices = {}
        for place, blocks in enumerate(stages):
            chosen = self._choices_by_blocks(place, blocks[0].in_channels).get(blocks)
            if chosen is None:
                return None
            found |= chosen
        if RESOLUTION in self._space.choices:
            if architecture.resolution not in self._space.resolutions:
                return None
            found[RESOLUTION] = architecture.resolution
        return found if self._space.decode(found).key == architecture.key else None

    def _choices_by_blocks(self, place: int, channels: int) -> dict[tuple[Block, ...], Choices]:
        """What a stage that is given `channels` may compute, and by which choices."""
        if (place, channels) not in self._known:
            alone = replace(self._space.base, stem=Stem(channels))
            found: dict[tuple[Block, ...], Choices] = {}
            for choices, stage in self._offers[place]:
                (blocks,) = replace(alone, stages=(stage,)).blocks()
                found.setdefault(blocks, choices)
            self._known[place, channels] = found
        return self._known[place, channels]

    @cached_property
    def _offers(self) -> list[list[tuple[Choices, Stage]]]:
        """Every stage that the choices can make, at each place."""
        numbers = range(1, len(self._space.base.stages) + 1)
        return [list(self._space.combinations(number)) for number in numbers]
