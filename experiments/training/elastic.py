"""An elastic network in training, by the sandwich rule."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.training.acceleration import accelerate
from experiments.training.cuda_graphs import Step
from experiments.training.learner import Learner, distillation, mixed_precision
from space.architecture import Architecture
from space.elastic import ElasticNetwork, Part

#: Parts that learn in a step besides the largest and the smallest. Source: Yu et al. 2020 (BigNAS),
#: section 3.1.
RANDOM_PARTS = 2


class ElasticLearner(Learner):
    """Takes steps with the largest part of a network, the smallest and random ones.

    The largest learns from the labels, the others from its logits for the same images (BigNAS,
    section 3.1). Gradients are means over the parts.
    """

    def __init__(self, network: ElasticNetwork, *args: Any) -> None:
        super().__init__(network, *args)
        if isinstance(self.optimizer, torch.optim.SGD):  # fused, it begins with all of them at once
            for parameter in network.parameters():
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self._elastic = network.elastic
        self._smallest = self._part(self._elastic.smallest)

    def _learn(self, images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """As of `Learner`; the loss and the logits are the largest part's."""
        parts = 2 + RANDOM_PARTS
        loss, taught = super()._learn(images, targets, share / parts)
        parameters = dict(self.network.named_parameters())
        for part in (self._smallest, *map(self._part, self._drawn())):
            with mixed_precision(self._device):
                logits = part(parameters, self._seen_by(part, images))
            divergence = distillation(logits.float(), taught, temperature=1.0)
            (divergence * (share / parts)).backward()  # type: ignore[no-untyped-call]
        return loss * parts, taught

    def captured(self, step: Step) -> Step:
        """The step itself: each has other parts, so that no graph of one could be replayed."""
        return step

    def _drawn(self) -> list[Architecture]:
        """The random parts of this step: the same ones after an interruption."""
        rng = np.random.default_rng((self.generator.initial_seed(), self.steps))
        return [self._elastic.draw(rng) for _ in range(RANDOM_PARTS)]

    def _part(self, architecture: Architecture) -> Part:
        # Every step has parts of other shapes, which all would have to be measured.
        fast = partial(accelerate, may_measure=False)
        return Part(self._elastic, architecture, self._device, fast)

    def _seen_by(self, part: Part, images: Tensor) -> Tensor:
        """The images at the resolution of a part, in proportion to the largest's."""
        side = images.shape[-1] * part.architecture.resolution // self._elastic.largest.resolution
        if side == images.shape[-1]:
            return images
        return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
