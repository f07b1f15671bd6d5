"""Growth stage by stage, where training runs choose each step.

Scaling all stages equally is suboptimal (EfficientNetV2, section 4.1), but no rule for scaling them
differently was published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from space.architecture import Architecture, round_channels
from space.cost import cost
from space.evaluation import Budget, Epoch, Job, Measurement, Status


class Dimension(StrEnum):
    """The dimension in which a single stage grows."""

    DEPTH = "depth"
    WIDTH = "width"


def enlarge(
    architecture: Architecture, stage: int, dimension: Dimension, macs: float
) -> Architecture:
    """The network with one stage (counted from 0) deeper or wider, and the cost nearest to `macs`.

    The stage grows by at least one repeat or one step of channels, so the network may cost more.
    """
    smaller = architecture
    for larger in _enlargements(architecture, stage, dimension):
        if cost(larger).macs >= macs:
            break
        smaller = larger
    nearer = macs - cost(smaller).macs < cost(larger).macs - macs
    return smaller if nearer and smaller is not architecture else larger


def _enlargements(
    architecture: Architecture, index: int, dimension: Dimension
) -> Iterator[Architecture]:
    stages, divisor = list(architecture.stages), architecture.scaling.divisor
    while True:
        stage = stages[index]
        if dimension is Dimension.DEPTH:
            stages[index] = replace(stage, repeats=stage.repeats + 1)
        else:
            channels = round_channels(stage.channels + divisor, divisor)
            stages[index] = replace(stage, channels=channels)
        yield replace(architecture, stages=tuple(stages))


class Stagewise:
    """A `Proposer` that grows a network to `target` MACs, one stage at a time.

    Each round trains one network for each stage and dimension, with that stage enlarged to about
    `step` times the MACs, and continues from the most accurate (the cheaper if equal). `path` holds
    the chosen networks, the baseline first; `scaling.rules.AlongPath` makes it a rule.
    """

    def __init__(
        self, baseline: Architecture, target: float, budget: Budget, *, step: float = 1.4
    ) -> None:
        if step <= 1:
            raise ValueError(f"`step > 1` must hold, but got step={step}")
        self.path = [baseline]
        self._target, self._budget, self._step = target, budget, step
        self._round: list[Job] = []
        self._asked = 0
        self._told: dict[str, Measurement] = {}
        self._begin()

    @property
    def most(self) -> int:
        """The maximum number of training runs: each round grows by about `step` or more."""
        growth = math.log(self._target / cost(self.path[0]).macs, self._step)
        return max(0, math.ceil(growth)) * len(self.path[0].stages) * len(Dimension)

    def ask(self) -> Job | None:
        """The next job of this round; None while results are missing, and at the end."""
        if self._asked == len(self._round):
            return None
        self._asked += 1
        return self._round[self._asked - 1]

    def report(self, job: Job, epoch: Epoch) -> bool:  # noqa: ARG002 (Proposer's)
        """Never stops a job."""
        return False

    def tell(self, job: Job, measurement: Measurement) -> None:
        """Keeps a result; the last of a round starts the next round."""
        self._told[job.name] = measurement
        if len(self._told) == len(self._round):
            ranked = sorted(
                (-measured.accuracy, cost(each.architecture).macs, order)
                for order, each in enumerate(self._round)
                if (measured := self._told[each.name]).status is Status.COMPLETE
                and measured.accuracy is not None
            )
            if ranked:  # if all failed, growth ends here
                self.path.append(self._round[ranked[0][-1]].architecture)
                self._begin()

    def _begin(self) -> None:
        """Prepares the next round, or none if the target is reached."""
        current = self.path[-1]
        goal = min(self._target, cost(current).macs * self._step)
        self._asked, self._told, self._round = 0, {}, []
        # Less than half a step from the target, the current network is the nearest.
        if self._target > cost(current).macs * math.sqrt(self._step):
            self._round = [
                Job(
                    f"step {len(self.path)}: stage {stage + 1}, {dimension}",
                    enlarge(current, stage, dimension, goal),
                    self._budget,
                )
                for stage in range(len(current.stages))
                for dimension in Dimension
            ]
