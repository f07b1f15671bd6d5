"""Weights of one network that follow from those of another: wider, deeper, narrower, or other.

A target that contains its source computes the same function: new channels are fresh while what
reads them starts at zero (so that they can learn apart, unlike the copies of Net2Net: Chen et al.
2016), a new block ends in a batch norm of zero, a kernel stands in the middle of a larger one, a
new gate starts at one half. A target that is contained keeps the most important channels, the
middle of kernels and the first blocks (as once-for-all does: Cai et al. 2020, section 3.3). Where
an operator differs, what fits is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from space.architecture import Activation, Architecture, Operator, Skip
from space.channel_groups import ChannelMap, ClassNames, Order, Place, WiredLayer
from space.layers import Layer, Path, tensor_shapes

if TYPE_CHECKING:
    from torch import Tensor

#: The weight of a new batch norm before a ReLU, which has no gradient at 0 (assumed: far below what
#: a float32 resolves of the sum that it is added to).
_NEARLY_ZERO = 1e-7

#: Activations that are the identity on what they have put out.
_CLAMPING = (Activation.RELU, Activation.RELU6)


class Inherited(NamedTuple):
    """A state dict of the target, and the share of its parameters that are the source's.

    `notes` say, in a sentence each, what keeps the target from computing what the source does.
    Without any, it does.
    """

    weights: dict[str, Tensor]
    share: float
    notes: tuple[str, ...]


def inherit(
    weights: Mapping[str, Tensor],
    source: Architecture,
    target: Architecture,
    *,
    order: Literal["importance", "first"] = "importance",
    classes: ClassNames | None = None,
    seed: int = 0,
) -> Inherited:
    """The weights of `target` that follow from `weights`, a state dict of `source`.

    Where the target contains the source, outputs in evaluation are the source's to 1e-5 of the
    largest. Where it is narrower, `order` says which channels it keeps: the most important, or the
    first. `classes` are the names of both networks' classes: outputs are matched by them; without,
    they are kept where there are equally many. New classes start at zero; what else is new is drawn
    with `seed`, as `space.network.build` does.

    Batch-norm statistics of a part of a network are wrong until they are measured again.

    Raises ValueError where `weights` are not those of `source`, or `classes` lack some.

    >>> import torch
    >>> from scaling.compound import scale
    >>> from space.inherit import inherit
    >>> from space.network import build
    >>> from space.presets import load
    >>> b0 = load("mobilenet_v2", num_classes=10)
    >>> larger = scale(b0, width=1.2, depth=1.2)
    >>> network, grown = build(b0).eval(), build(larger).eval()
    >>> _ = grown.load_state_dict(inherit(network.state_dict(), b0, larger).weights)
    >>> image = torch.randn(1, 3, 64, 64)
    >>> found, expected = grown(image), network(image)
    >>> bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())
    True
    """
    return _inherited(weights, source, target, order, classes, seed)


def sorted_by_importance(
    weights: Mapping[str, Tensor], architecture: Architecture
) -> dict[str, Tensor]:
    """The same function with channels in order of importance, so that a part has the *first* ones.

    Channels that are tied by position (pool shortcuts) stay where they are.
    """
    return _inherited(weights, architecture, architecture, "sorted", None, 0).weights


def _inherited(
    weights: Mapping[str, Tensor],
    source: Architecture,
    target: Architecture,
    order: Order,
    classes: ClassNames | None,
    seed: int,
) -> Inherited:
    import torch

    from space.network import build

    weights = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    _check(weights, source)
    if classes is not None:
        counts, outputs = [*map(len, classes)], [source.num_classes, target.num_classes]
        if counts != outputs:
            raise ValueError(f"classes must name all outputs {outputs}, but name {counts}")
    channel_map = ChannelMap(weights, source, target, order, classes)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(target).to(weights["stem.conv.weight"].dtype)
    new = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    count = _Writer(weights, new, channel_map).write()
    total = sum(parameter.numel() for parameter in network.parameters())
    return Inherited(new, count / total, tuple(dict.fromkeys(_notes(channel_map))))


def _check(weights: Mapping[str, Tensor], source: Architecture) -> None:
    for name, shape in tensor_shapes(source).items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in weights:
            raise ValueError(f"weights must hold every tensor of the source, but lack {name}")
        if weights[name].shape != shape:
            raise ValueError(
                f"weights must be the source's, where {name} has shape {shape}, "
                f"but got {tuple(weights[name].shape)}"
            )


class _Writer:
    """Writes what the target has of the source over its fresh tensors `new`."""

    def __init__(
        self, old: Mapping[str, Tensor], new: dict[str, Tensor], channel_map: ChannelMap
    ) -> None:
        self._old, self._new, self._map = old, new, channel_map
        self._given, self._wanted = channel_map.given, channel_map.wanted

    def write(self) -> int:
        """Writes all, and gives the number of parameters that are the source's."""
        count = 0
        for wired, theirs in self._map.pairs:
            if theirs is not None:
                count += self._copy_weight(wired, theirs) + self._copy_rest(wired, theirs)
            elif wired.place is not None and (before := self._map.blocks[wired.place]):
                self._pass_through(wired, before)
        for place, before in self._map.blocks.items():
            if before is None:
                self._silence(self._wanted.last(place).layer)
            else:
                self._change_gate(place, before)
        self._start_classes()
        return count

    def _start_classes(self) -> None:
        """Starts classes that the source lacks at zero, where they disturb no inherited feature.

        Drawn as a fresh classifier's, they put out a loss of 6.6 on photos of ten classes, and a
        loss of 2.3 at zero (measured on 32 photos). Source: Kolesnikov et al. 2020 (BiT), whose
        code starts heads for new classes at zero.
        """
        outputs, theirs = self._wanted.layers[-1], self._given.layers[-1]
        unknown = self._map.channels(outputs.writes, theirs.writes) < 0
        for kind in ("weight", "bias"):
            self._new[f"{outputs.layer.module}.{kind}"][unknown] = 0

    def _copy_weight(self, wired: WiredLayer, theirs: WiredLayer) -> int:
        rows = self._map.channels(wired.writes, theirs.writes)
        kept = rows >= 0
        new = self._new[f"{wired.layer.module}.weight"]
        old = _with_kernel(self._old[f"{theirs.layer.module}.weight"][rows[kept]], new)
        overlap = min(wired.layer.kernel, theirs.layer.kernel) ** 2
        if wired.layer.depthwise:
            new[kept] = old
            return int(kept.sum()) * overlap
        if wired.reads == 0:
            new[kept] = _with_colours(old, new.shape[1])
            return int(kept.sum()) * new.shape[1] * overlap
        columns = self._map.channels(wired.reads, theirs.reads)
        known = columns >= 0
        taken = new[kept]
        by_position = self._map.by_position(wired.reads)  # there, new channels are zero themselves
        taken[:, self._map.carried(wired.reads) if by_position else ~known] = 0
        taken[:, known] = old[:, columns[known]]
        new[kept] = taken
        return int(kept.sum()) * int(known.sum()) * overlap

    def _copy_rest(self, wired: WiredLayer, theirs: WiredLayer) -> int:
        """The bias, or the batch norm."""
        rows = self._map.channels(wired.writes, theirs.writes)
        kept = rows >= 0
        count = int(kept.sum())
        if wired.layer.bias and theirs.layer.bias:
            old = self._old[f"{theirs.layer.module}.bias"]
            self._new[f"{wired.layer.module}.bias"][kept] = old[rows[kept]]
            return count
        if not (wired.layer.norm and theirs.layer.norm):
            return 0
        norm, before = wired.layer.norm_module, theirs.layer.norm_module
        for kind in ("weight", "bias", "running_mean", "running_var"):
            self._new[f"{norm}.{kind}"][kept] = self._old[f"{before}.{kind}"][rows[kept]]
        if f"{before}.num_batches_tracked" in self._old:
            batches = self._old[f"{before}.num_batches_tracked"]
            self._new[f"{norm}.num_batches_tracked"].copy_(batches)
        given, wanted = self._given.architecture.numerics, self._wanted.architecture.numerics
        if given.bn_eps != wanted.bn_eps:  # the same divisor: √(variance + eps)
            variance = self._new[f"{norm}.running_var"]
            variance[kept] = (variance[kept] + given.bn_eps - wanted.bn_eps).clamp(min=0)
        if self._map.by_position(wired.writes) and not wired.layer.depthwise:
            self._silence(wired.layer, ~kept)
        return 2 * count

    def _pass_through(self, wired: WiredLayer, before: Place) -> None:
        """Starts a new layer in a block that the source has as what hands on its channels."""
        layer, block = wired.layer, self._given.blocks[before]
        if layer.path is Path.GATE:
            return
        given, behind = self._given.inputs[before], self._given.outputs[before]
        weight, middle = self._new[f"{layer.module}.weight"], layer.kernel // 2
        if layer.depthwise:
            weight.zero_()
            weight[:, 0, middle, middle] = 1
        elif layer.path is Path.SHORTCUT and block.shortcut is Skip.IDENTITY:
            self._connect(weight, wired, given, behind)
        elif wired.local == "expand" and layer.kernel == 1:
            self._connect(weight, wired, given, given)
        elif wired.local == "project" and block.operator is Operator.CONV:
            self._connect(weight, wired, behind, behind)
        else:
            return
        eps = self._wanted.architecture.numerics.bn_eps
        self._new[f"{layer.norm_module}.weight"].fill_((1 + eps) ** 0.5)

    def _connect(self, weight: Tensor, wired: WiredLayer, given: int, behind: int) -> None:
        """Lets a 1×1 convolution hand on the channels of group `given` as those of `behind`."""
        columns = self._map.channels(wired.reads, given)
        rows = self._map.channels(wired.writes, behind)
        weight[:, :, 0, 0] = ((rows[:, None] == columns) & (columns >= 0)).to(weight)

    def _change_gate(self, place: Place, before: Place) -> None:
        """Starts a new gate at one half; leaves a dropped one's usual value in the weights."""
        block, theirs = self._wanted.blocks[place], self._given.blocks[before]
        last, source = self._wanted.last(place), self._given.last(before)
        weight = self._new[f"{last.layer.module}.weight"]
        if block.squeeze_channels and not theirs.squeeze_channels:
            gate = self._wanted.by_name[place, "squeeze.expand"].layer.module
            self._new[f"{gate}.weight"].zero_()
            self._new[f"{gate}.bias"].zero_()
            weight *= 2
        elif theirs.squeeze_channels and not block.squeeze_channels:
            columns = self._map.channels(last.reads, source.reads)
            known = columns >= 0
            usual = self._usual_gate(before)[columns[known]]
            weight[:, known] *= usual[:, None, None]

    def _usual_gate(self, place: Place) -> Tensor:
        """The gate of a source's block where its squeezed channels are what their biases say."""
        from space.blocks import ACTIVATIONS, GATES

        block = self._given.blocks[place]
        assert block.squeeze_activation
        assert block.gate
        reduce, expand = (
            self._given.by_name[place, f"squeeze.{name}"].layer.module
            for name in ("reduce", "expand")
        )
        squeezed = ACTIVATIONS[block.squeeze_activation]()(self._old[f"{reduce}.bias"])
        weight = self._old[f"{expand}.weight"].flatten(1)
        gate: Tensor = GATES[block.gate]()(weight @ squeezed + self._old[f"{expand}.bias"])
        return gate

    def _silence(self, layer: Layer, channels: Tensor | None = None) -> None:
        """Lets new channels (all where None are named) start at zero, and still learn."""
        norm = layer.norm_module
        start = _NEARLY_ZERO if layer.activation in _CLAMPING else 0.0
        for kind, value in (("weight", start), ("bias", 0.0)):
            tensor = self._new[f"{norm}.{kind}"]
            tensor[slice(None) if channels is None else channels] = value


def _with_kernel(old: Tensor, new: Tensor) -> Tensor:
    """Weights with the kernel of `new`: their middle, or in the middle of zeros."""
    import torch.nn.functional as F

    if old.ndim == 2 or new.ndim == 2:  # a linear layer, and a convolution of one pixel
        return old.reshape(*old.shape[:2], *new.shape[2:])
    margin = (new.shape[-1] - old.shape[-1]) // 2
    return F.pad(old, (margin,) * 4)  # a negative margin cuts


def _with_colours(old: Tensor, channels: int) -> Tensor:
    """Weights of a stem for images of other channels: grey is the sum of the colours' weights."""
    if old.shape[1] == channels:
        return old
    grey = old.sum(dim=1, keepdim=True)
    return grey.expand(-1, channels, -1, -1) / channels


def _notes(channel_map: ChannelMap) -> Iterator[str]:
    """Why the target does not compute what the source does."""
    given, wanted = channel_map.given, channel_map.wanted
    source, target = given.architecture, wanted.architecture
    if source.numerics.activation is not target.numerics.activation:
        yield (
            f"activation: {source.numerics.activation} becomes {target.numerics.activation}; "
            "accuracy has to be learned again"
        )
    if source.numerics.padding is not target.numerics.padding:
        yield f"padding: {source.numerics.padding} becomes {target.numerics.padding}"
    if source.resolution != target.resolution:
        yield f"resolution: {source.resolution} pixels become {target.resolution}"
    if source.in_channels != target.in_channels:
        yield f"image channels: {source.in_channels} become {target.in_channels}"
    if (source.stem.stride, source.stem.pool) != (target.stem.stride, target.stem.pool):
        yield "stem: its stride or pooling differs; accuracy has to be learned again"
    outputs = wanted.layers[-1]
    fresh = int((channel_map.channels(outputs.writes, given.layers[-1].writes) < 0).sum())
    if fresh:
        yield f"classes: {fresh} of {target.num_classes} are new to the source, and start at zero"
    for wired, theirs in channel_map.pairs:
        if theirs is None:
            continue
        if wired.layer.kernel < theirs.layer.kernel:
            yield "kernels: the middle of larger ones is kept"
        if wired.layer.out_channels < theirs.layer.out_channels and wired is not outputs:
            yield "channels: some of the source's are dropped"
        if wired.layer.stride != theirs.layer.stride and wired.place is not None:
            yield f"stage {wired.place[0] + 1}: its stride differs"
    yield from _block_notes(channel_map)
    kept = set(channel_map.blocks.values())
    if any(place not in kept for place in given.blocks):
        yield "blocks: the last ones of some stages are dropped"


def _block_notes(channel_map: ChannelMap) -> Iterator[str]:
    given, wanted = channel_map.given, channel_map.wanted
    for place, before in channel_map.blocks.items():
        block, where = wanted.blocks[place], f"stage {place[0] + 1}"
        if channel_map.carries_to_old(place):
            yield f"{where}: its pool shortcut adds new channels to old ones"
        if before is None:
            if block.shortcut is not Skip.IDENTITY:
                yield f"{where}: a new block that no shortcut joins changes what is computed"
            elif block.final_activation and block.final_activation not in _CLAMPING:
                activation = block.final_activation
                yield f"{where}: {activation} after a new block changes what is computed"
            continue
        theirs = given.blocks[before]
        if block.operator is not theirs.operator:
            yield f"{where}: {theirs.operator} becomes {block.operator}; what fits is kept"
        joins = (theirs.shortcut is Skip.NONE, block.shortcut is Skip.NONE)
        if joins[0] != joins[1]:
            yield f"{where}: a shortcut is {'new' if joins[0] else 'dropped'}"
        if theirs.squeeze_channels and not block.squeeze_channels:
            yield f"{where}: squeeze-and-excite is dropped; its usual value stays in the weights"
        if block.activation is not theirs.activation or block.linear != theirs.linear:
            yield f"{where}: its activation differs; accuracy has to be learned again"
        squeezes = block.squeeze_channels and theirs.squeeze_channels
        if squeezes and (block.gate, block.squeeze_activation) != (
            theirs.gate,
            theirs.squeeze_activation,
        ):
            yield f"{where}: its squeeze-and-excite has another activation or gate"
