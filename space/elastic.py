"""One elastic network for many architectures: narrower, shallower and smaller parts of its weights.

A part has the first channels of each layer, the first blocks of each stage and the middle of each
kernel (once-for-all: Cai et al. 2020, section 3.3). Where operators differ in kind, they are
parallel branches of a stage, of which a part has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from space.architecture import Architecture, Skip, Stage
from space.blocks import BLOCKS
from space.choices import Space
from space.cost import cost
from space.inherit import Inherited, inherit, sorted_by_importance
from space.layers import tensor_shapes
from space.network import Network, initialise
from space.validation import InvalidInput

#: The whole network has the first of these that its parts have: a pool shortcut ties channels by
#: position, so that they could not be sorted.
_SKIPS = (Skip.IDENTITY, Skip.POOL, Skip.NONE)

#: What a larger stage has more of.
_SIZES = ("channels", "repeats", "kernel", "start_kernel", "expansion")


@dataclass(frozen=True)
class Elastic:
    """The elastic form of a space, or of some architectures with as many stages each.

    Raises `InvalidInput` where one of `parts` is no part of a common network.
    """

    parts: Space | tuple[Architecture, ...]

    def __post_init__(self) -> None:
        for number, stages in enumerate(self._stages, start=1):
            for stage in stages:
                if stage.skip is Skip.PROJECTION:
                    raise InvalidInput(
                        f"an elastic network cannot share weights where stage {number} has skip: "
                        "projection; kernels, widths, layers, expansions, operators, "
                        "squeeze-and-excite and the other shortcuts may vary"
                    )
                if stage.operator.form.unexpanded and stage.expansion != 1 and stage.expansion < 2:
                    raise InvalidInput(
                        f"an elastic network needs expansions of 1 or of at least 2, but stage "
                        f"{number} has {stage.expansion:g}"
                    )

    def draw(self, rng: np.random.Generator) -> Architecture:
        """A random part."""
        if isinstance(self.parts, Space):
            chosen = {
                name: values[rng.integers(len(values))]
                for name, values in self.parts.choices.items()
            }
            return self.parts.decode(chosen)
        return self.parts[int(rng.integers(len(self.parts)))]

    @cached_property
    def largest(self) -> Architecture:
        """The whole network without the branches that stand beside the costliest."""
        return self._extreme(max)

    @cached_property
    def smallest(self) -> Architecture:
        """The part that has the least of everything."""
        return self._extreme(min)

    @cached_property
    def branches(self) -> tuple[tuple[Stage, ...], ...]:
        """The largest stage of each kind, for every stage; the costliest, the trunk, first."""
        return tuple(
            tuple(self._by_cost(number, self._bounds(stages, max))[::-1])
            for number, stages in enumerate(self._stages)
        )

    def branch_of(self, number: int, stage: Stage) -> int:
        """Which branch of stage `number` (from 0) the stage is a part of; 0 is the trunk."""
        return [*map(_kind, self.branches[number])].index(_kind(stage))

    def whole(self, part: Architecture) -> Architecture:
        """The largest network with the branches, the gates and the shortcuts of `part`."""
        stages = []
        for number, stage in enumerate(part.stages):
            branch = self.branches[number][self.branch_of(number, stage)]
            stages.append(replace(branch, se=stage.se and branch.se, skip=stage.skip))
        return replace(self.largest, stages=tuple(stages))

    def name(self, tensor: str, part: Architecture) -> str:
        """What the elastic network calls a tensor of `part`."""
        stages, _, rest = tensor.partition(".")
        if stages != "stages":
            return tensor
        number, _, rest = rest.partition(".")
        branch = self.branch_of(int(number), part.stages[int(number)])
        return f"branches.{number}.{branch - 1}.{rest}" if branch else tensor

    def cut(self, weights: Mapping[str, Tensor], part: Architecture) -> Inherited:
        """The weights of `part`, from a state dict of the `ElasticNetwork`.

        Its batch-norm statistics are wrong until they are measured again.
        """
        whole = self.whole(part)
        picked = {name: weights[self.name(name, whole)] for name in tensor_shapes(whole)}
        return inherit(picked, whole, part, order="first")

    @cached_property
    def _stages(self) -> list[list[Stage]]:
        """What each stage may be."""
        if isinstance(self.parts, Space):
            found: list[Iterable[Stage]] = [
                [stage for _, stage in self.parts.combinations(number)]
                for number in range(1, len(self.parts.base.stages) + 1)
            ]
        else:
            found = [*zip(*(part.stages for part in self.parts), strict=True)]
        return [list(dict.fromkeys(stages)) for stages in found]

    @property
    def _base(self) -> Architecture:
        return self.parts.base if isinstance(self.parts, Space) else self.parts[0]

    def _extreme(self, most: Callable[..., Any]) -> Architecture:
        """The network whose every size is the `most` (or the least)."""
        base = self._base
        networks = [base] if isinstance(self.parts, Space) else self.parts
        ends = -1 if most is max else 0
        return replace(
            base,
            stages=tuple(
                self._by_cost(number, self._bounds(stages, most))[ends]
                for number, stages in enumerate(self._stages)
            ),
            stem=replace(base.stem, channels=most(each.stem.channels for each in networks)),
            head=replace(base.head, channels=most(each.head.channels for each in networks)),
            resolution=most(each.resolution for each in networks),
        )

    @staticmethod
    def _bounds(stages: Iterable[Stage], most: Callable[..., Any]) -> list[Stage]:
        """For each kind of the stages, the one whose every size is the `most`."""
        kinds: dict[object, list[Stage]] = {}
        for stage in stages:
            kinds.setdefault(_kind(stage), []).append(stage)
        found = []
        for alike in kinds.values():
            gates = [stage.se for stage in alike if stage.se]
            gated = gates and (most is max or len(gates) == len(alike))
            found.append(
                replace(
                    alike[0],
                    **{name: most(getattr(stage, name) for stage in alike) for name in _SIZES},
                    se=most(gates, key=lambda gate: gate.ratio) if gated else None,
                    skip=min((stage.skip for stage in alike), key=_SKIPS.index),
                )
            )
        return found

    def _by_cost(self, number: int, stages: Iterable[Stage]) -> list[Stage]:
        """The stages, from few to many MACs in place of the base's stage `number`."""
        base = self._base
        before, behind = base.stages[:number], base.stages[number + 1 :]
        return sorted(
            stages, key=lambda stage: cost(replace(base, stages=(*before, stage, *behind))).macs
        )


def _kind(stage: Stage) -> tuple[object, ...]:
    """Equal for two stages that are larger and smaller parts of the same layers."""
    unexpanded = stage.operator.form.unexpanded if stage.expansion == 1 else None
    optional = stage.operator.optional_kernels
    return (
        unexpanded or stage.operator,
        optional and not stage.kernel,
        optional and not stage.start_kernel,
    )


class ElasticNetwork(Network):
    """The largest network of `elastic`, as which it runs, and the branches beside its trunk.

    Branches are never run themselves: they hold the weights of parts (see `Part`).
    """

    def __init__(self, elastic: Elastic) -> None:
        super().__init__(elastic.largest)
        self.elastic = elastic
        self.branches = nn.ModuleList(
            nn.ModuleList(self._branch(number, stage) for stage in others)
            for number, (_, *others) in enumerate(elastic.branches)
        )
        self.branches.apply(initialise)

    def prepare(self, *, inherited: bool) -> None:
        """Puts channels in order of importance, before training: parts have the first of them.

        Where the trunk is `inherited`, branches start from what fits of it.
        """
        weights = self.state_dict()
        trunk = {name: weights[name] for name in tensor_shapes(self.architecture)}
        trunk = sorted_by_importance(trunk, self.architecture)
        self.load_state_dict(trunk, strict=False)
        if not inherited:
            return
        for number, (_, *others) in enumerate(self.elastic.branches):
            for stage in others:
                whole = self._with_branch(number, stage)
                found = inherit(trunk, self.architecture, whole, order="first")
                for name, tensor in found.weights.items():
                    if name.startswith(f"stages.{number}."):
                        weights[self.elastic.name(name, whole)].copy_(tensor)

    def _with_branch(self, number: int, stage: Stage) -> Architecture:
        stages = list(self.architecture.stages)
        stages[number] = stage
        return replace(self.architecture, stages=tuple(stages))

    def _branch(self, number: int, stage: Stage) -> nn.Sequential:
        blocks = self._with_branch(number, stage).blocks()[number]
        numerics = self.architecture.numerics
        return nn.Sequential(*(BLOCKS[block.operator](block, numerics) for block in blocks))


class Part:
    """A part of an elastic network on its device, which runs with views of the latter's weights.

    Nothing is dropped in it: only the largest network needs that (BigNAS: Yu et al. 2020, section
    3.2). `accelerate` may change its layers, as it may those of a whole network. Batch norm
    must be in training mode: the statistics are of no use.
    """

    def __init__(
        self,
        elastic: Elastic,
        architecture: Architecture,
        device: torch.device,
        accelerate: Callable[[Network, torch.device], object] = lambda *_: None,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            self.network = Network(replace(architecture, dropout=0.0, stochastic_depth=0.0))
        accelerate(self.network.to(device), device)
        self.architecture = architecture
        self._names = {
            name: (elastic.name(name, architecture), parameter.shape)
            for name, parameter in self.network.named_parameters()
        }

    def __call__(self, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The logits of the images (N × C × H × W), by the `parameters` of the elastic network."""
        views = {
            name: _middle(parameters[whole], shape) for name, (whole, shape) in self._names.items()
        }
        logits: Tensor = functional_call(self.network, views, (images,))
        return logits


def _middle(whole: Tensor, shape: Sequence[int]) -> Tensor:
    """A view of the first channels, and of the middle of the kernel."""
    index = [slice(size) for size in shape[:2]]
    for have, wanted in zip(whole.shape[2:], shape[2:], strict=True):
        index.append(slice((have - wanted) // 2, (have + wanted) // 2))
    return whole[tuple(index)]
