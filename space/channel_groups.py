"""Which channels of one network are which of another's: groups of channels, tied by shortcuts.

A layer reads one group of channels and writes another; a depthwise convolution writes the group
that it reads, and a shortcut ties the group before its block to the one behind it. `space.inherit`
chooses channels for tied groups together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from space.architecture import Architecture, Block, Operator, Skip
from space.layers import Channels, Layer, Path, head_layers, layers, stem_layer

if TYPE_CHECKING:
    from torch import Tensor

#: Where a block is: the number of its stage, and its own in there.
Place = tuple[int, int]

#: Which channels are kept: the most important, the first, or all, in order of importance.
Order = Literal["importance", "first", "sorted"]

#: Names of the source's and of the target's classes, in the order of their outputs.
ClassNames = tuple[Sequence[str], Sequence[str]]

#: A group of the source (False) or of the target (True).
_Node = tuple[bool, int]


class WiredLayer(NamedTuple):
    """A layer with its name in the network, its name in its block, and the groups that it joins."""

    layer: Layer
    local: str
    place: Place | None
    reads: int
    writes: int


class ChannelGraph:
    """An architecture's layers, and its groups of channels by number; group 0 is the image.

    `inputs` and `outputs` are the groups before and behind each block. `tied` are those pairs of
    them that a shortcut adds up: by position, where their widths differ.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.widths = [architecture.in_channels]
        self.layers: list[WiredLayer] = []
        self.blocks: dict[Place, Block] = {}
        self.inputs: dict[Place, int] = {}
        self.outputs: dict[Place, int] = {}
        x = self._add(stem_layer(architecture), None, 0)
        for number, stage in enumerate(architecture.blocks()):
            for index, block in enumerate(stage):
                x = self._add_block(block, (number, index), x)
        for layer in head_layers(architecture):
            x = self._add(layer, None, x)
        self.by_name = {(wired.place, wired.local): wired for wired in self.layers}
        self.tied = [
            (self.inputs[place], self.outputs[place])
            for place, block in self.blocks.items()
            if block.shortcut in (Skip.IDENTITY, Skip.POOL)
        ]

    def last(self, place: Place) -> WiredLayer:
        """The last layer of a block's branch."""
        return self.by_name[place, self.blocks[place].operator.form.parts[-1].name]

    def _add_block(self, block: Block, place: Place, x: int) -> int:
        groups = {Channels.INPUT: x}
        for layer in layers(block):
            new = layer.path is Path.MAIN and not layer.depthwise
            writes = None if new else groups.get(layer.writes)
            groups[layer.writes] = self._add(layer, place, groups[layer.reads], writes)
        self.blocks[place], self.inputs[place] = block, x
        self.outputs[place] = groups[Channels.OUTPUT]
        return groups[Channels.OUTPUT]

    def _add(self, layer: Layer, place: Place | None, reads: int, writes: int | None = None) -> int:
        if writes is None:
            writes = len(self.widths)
            self.widths.append(layer.out_channels)
        local = layer.name.removesuffix(".linear")
        if place is not None:
            layer = layer._replace(name=f"stages.{place[0]}.{place[1]}.{layer.name}")
        self.layers.append(WiredLayer(layer, local, place, reads, writes))
        return writes


def paired_blocks(source: Architecture, target: Architecture) -> dict[Place, Place | None]:
    """The block of the source that each block of the target begins as; None where it is new.

    Stages are paired by number, or where their numbers differ, by their order at each stride.
    """
    stages = {number: number for number in range(len(target.stages))}
    if len(source.stages) != len(target.stages):
        theirs, ours = _stages_by_stride(source), _stages_by_stride(target)
        stages = {}
        for stride, numbers in ours.items():
            stages |= dict(zip(numbers, theirs.get(stride, []), strict=False))
    found: dict[Place, Place | None] = {}
    for number, stage in enumerate(target.stages):
        known = source.stages[stages[number]].repeats if number in stages else 0
        for index in range(stage.repeats):
            found[number, index] = (stages[number], index) if index < known else None
    return found


def _stages_by_stride(architecture: Architecture) -> dict[int, list[int]]:
    """Numbers of stages by their output's stride in input pixels."""
    found: dict[int, list[int]] = {}
    for number, stride in enumerate(architecture.strides[1:]):
        found.setdefault(stride, []).append(number)
    return found


class ChannelMap:
    """Which layer and which channels of the source a target's are; −1 is a new channel.

    `pairs` are the target's layers, each with the source's, or None where it is new. Channels are
    chosen together for a whole set of groups that shortcuts and paired layers tie. Where such a set
    has several widths (pool shortcuts), channel k stays channel k.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        source: Architecture,
        target: Architecture,
        order: Order,
        classes: ClassNames | None,
    ) -> None:
        from scipy.cluster.hierarchy import DisjointSet

        self.given, self.wanted = ChannelGraph(source), ChannelGraph(target)
        self.blocks = paired_blocks(source, target)
        self.pairs = [(wired, self._source_layer(wired)) for wired in self.wanted.layers]
        self._order, self._classes = order, classes
        graphs = ((False, self.given), (True, self.wanted))
        nodes = [(ours, group) for ours, graph in graphs for group in range(len(graph.widths))]
        self._sets = DisjointSet(nodes)
        self._theirs: dict[int, int] = {}
        for wired, theirs in self.pairs:
            if theirs and wired.layer.reads is theirs.layer.reads:
                self._sets.merge((True, wired.reads), (False, theirs.reads))
            if theirs and wired.layer.writes is theirs.layer.writes:
                self._sets.merge((True, wired.writes), (False, theirs.writes))
                self._theirs[wired.writes] = theirs.writes
        for ours, graph in graphs:
            for before, behind in graph.tied:
                self._sets.merge((ours, before), (ours, behind))
        widths: dict[tuple[_Node, bool], set[int]] = {}
        for ours, graph in graphs:
            for group, width in enumerate(graph.widths[:-1]):
                widths.setdefault((self._sets[ours, group], ours), set()).add(width)
        self._several_widths = {tied for (tied, _), found in widths.items() if len(found) > 1}
        self._scores = self._importance(weights)
        for before, behind in self.wanted.tied:  # a new block hands on what it was given
            if behind not in self._theirs and before in self._theirs:
                self._theirs[behind] = self._theirs[before]
        self._carried = self._carry()

    def _source_layer(self, wired: WiredLayer) -> WiredLayer | None:
        place, local = wired.place, wired.local
        if place is not None:
            place = self.blocks[place]
            if place is None:
                return None
            plain = self.given.blocks[place].operator is Operator.CONV
            if plain and local == "expand" and wired.layer.kernel > 1:  # of a fused block
                local = "conv"
        found = self.given.by_name.get((place, local))
        same_kind = found is not None and found.layer.depthwise == wired.layer.depthwise
        return found if same_kind else None

    def by_position(self, group: int) -> bool:
        """Whether channel k of a group of the target is channel k of the source, if it has one."""
        return self._sets[True, group] in self._several_widths

    def channels(self, ours: int, theirs: int) -> Tensor:
        """The channel in the source's group `theirs` of each in the target's group `ours`."""
        import torch

        width, given = self.wanted.widths[ours], self.given.widths[theirs]
        if ours == len(self.wanted.widths) - 1:
            return self._outputs(width, given)
        chosen = torch.arange(min(width, given))
        tied = self._sets[True, ours]
        if tied == self._sets[False, theirs] and tied not in self._several_widths:
            scores = self._scores.get(tied)
            if scores is not None and self._order != "first":
                best = scores.argsort(descending=True, stable=True)[:width]
                chosen = best if self._order == "sorted" else best.sort().values
        return torch.cat([chosen, torch.full((width - len(chosen),), -1)])

    def _outputs(self, width: int, given: int) -> Tensor:
        """The source's class of each of the target's."""
        import torch

        if self._classes is not None:
            before, after = self._classes
            places = {name: place for place, name in enumerate(before)}
            return torch.tensor([places.get(name, -1) for name in after])
        return torch.arange(width) if width == given else torch.full((width,), -1)

    def carried(self, group: int) -> Tensor:
        """Which channels of a group of the target are new, and yet hold what a shortcut brings."""
        import torch

        return self._carried.get(group, torch.zeros(self.wanted.widths[group], dtype=torch.bool))

    def carries_to_old(self, place: Place) -> bool:
        """Whether the shortcut of a block of the target adds new channels to the source's."""
        before, behind = self.wanted.inputs[place], self.wanted.outputs[place]
        if (before, behind) not in self.wanted.tied or not self.by_position(behind):
            return False
        least = min(self.wanted.widths[before], self.wanted.widths[behind])
        old = self._held(behind)[:least] & ~self.carried(behind)[:least]
        return bool((self.carried(before)[:least] & old).any())

    def _carry(self) -> dict[int, Tensor]:
        """Follows the source's channels over pool shortcuts to where it has no such channel."""
        carried: dict[int, Tensor] = {}
        for before, behind in self.wanted.tied:
            if self.by_position(behind):
                full = self._held(before) | carried.get(before, self._held(before))
                new = ~self._held(behind)
                least = min(len(full), len(new))
                new[:least] &= full[:least]
                new[least:] = False
                carried[behind] = new
        return carried

    def _held(self, group: int) -> Tensor:
        """Which channels of a group of the target that is tied by position the source has there."""
        import torch

        width = self.wanted.widths[group]
        theirs = self._theirs.get(group)
        return torch.arange(width) < (width if theirs is None else self.given.widths[theirs])

    def _importance(self, weights: Mapping[str, Tensor]) -> dict[_Node, Tensor]:
        """How much the layers that read a channel weigh it, for every set of the source's groups.

        A layer weighs a channel by the norm of the weights that read it (once-for-all's criterion:
        Cai et al. 2020, section 3.3); what each layer weighs sums to 1. How much of a trained
        network this keeps is measured in `experiments/results/importance.json`.
        """
        found: dict[_Node, Tensor] = {}
        for wired in self.given.layers:
            weight = weights[f"{wired.layer.module}.weight"].double()
            reading = weight if wired.layer.depthwise else weight.transpose(0, 1)
            norms = reading.flatten(1).norm(dim=1)
            shares = norms / norms.sum().clamp(min=1e-30)
            tied = self._sets[False, wired.reads]
            before = found.get(tied)
            if before is None or before.shape == shares.shape:  # others are tied by position
                found[tied] = shares if before is None else before + shares
        return found
