"""A trained member at other resolutions than its own: the same weights, more or fewer pixels.

Networks gain from more pixels in a test than in training (Touvron et al. 2019, "Fixing the
train-test resolution discrepancy"), at no cost of training. Held-out images choose, test images
judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.data.images import Images
from experiments.training.measure import Metric, accuracy, class_accuracies, evaluate
from experiments.training.readers import Kept, open_reader
from reports.statistics import paired_difference
from scaling.export import Trained
from scaling.saved_family import ResolutionRecord
from space.convert import PixelStatistics
from space.cost import cost
from space.network import Network, build

#: Images classified at a time (assumed, as for predictions).
_BATCH = 128


@dataclass(frozen=True)
class ResolutionTest:
    """Measures members at `factors` of their resolution, in multiples of `multiple` pixels.

    `held_out` is None where the members were trained on these images, which then choose nothing.
    """

    factors: Sequence[float]
    multiple: int
    held_out: Images | None
    test: Images
    metric: Metric
    device: torch.device
    normalisation: PixelStatistics

    def __call__(self, network: Network, trained: Trained) -> tuple[Network, Trained]:
        """The network at the chosen resolution, and its results there beside those of the others.

        Its own resolution stays unless the held-out images tell a more accurate one from it, at
        95 % over all comparisons.
        """
        own, classes = network.architecture.resolution, network.architecture.num_classes
        factors = {self._pixels(own * factor): factor for factor in self.factors} | {own: 1.0}
        networks = {pixels: _at(network, pixels) for pixels in sorted(factors)}
        tested = {pixels: self._answers(each, self.test) for pixels, each in networks.items()}
        held_out, chosen = dict[int, float](), own
        if self.held_out is not None:
            held = {p: self._answers(each, self.held_out) for p, each in networks.items()}
            held_out = {p: self._accuracy(a, self.held_out, classes) for p, a in held.items()}
            chosen = self._best(held, own, self.held_out, classes)
        records = tuple(
            ResolutionRecord(
                resolution_factor=factors[pixels],
                resolution=pixels,
                macs=cost(each.architecture).macs,
                held_out_accuracy=held_out.get(pixels),
                accuracy=self._accuracy(tested[pixels], self.test, classes),
                chosen=pixels == chosen,
            )
            for pixels, each in networks.items()
        )
        trained = replace(trained, resolutions=records)
        if chosen != own:
            labels = torch.from_numpy(self.test.labels)
            of_classes = class_accuracies(tested[chosen], labels, classes).tolist()
            trained = replace(
                trained,
                accuracy=self._accuracy(tested[chosen], self.test, classes),
                class_accuracies=tuple(None if math.isnan(each) else each for each in of_classes),
            )
        return networks[chosen], trained

    def _pixels(self, wanted: float) -> int:
        return max(1, round(wanted / self.multiple)) * self.multiple

    def _best(self, answers: dict[int, Tensor], own: int, images: Images, classes: int) -> int:
        """The resolution of the most accurate answers that the images tell from its own."""
        labels = torch.from_numpy(images.labels)
        right = {pixels: (found == labels).numpy() for pixels, found in answers.items()}

        def ahead(pixels: int) -> bool:
            found = paired_difference(
                right[own],
                right[pixels],
                classes=images.labels if self.metric == "balanced" else None,
                comparisons=max(1, len(answers) - 1),
            )
            return found.difference > 0 and found.told_apart

        better = [pixels for pixels in answers if pixels != own and ahead(pixels)]
        return max(better, key=lambda p: self._accuracy(answers[p], images, classes), default=own)

    def _accuracy(self, answers: Tensor, images: Images, classes: int) -> float:
        return accuracy(answers, torch.from_numpy(images.labels), classes, self.metric)

    def _answers(self, network: Network, images: Images) -> Tensor:
        """The predicted classes of the images (N), on the CPU."""
        read = open_reader(images, self.device, network.architecture.resolution, Kept())
        labels = torch.from_numpy(images.labels).to(self.device)
        found = evaluate(network.to(self.device), read, labels, _BATCH, self.normalisation)
        return found.predictions.cpu()


def _at(network: Network, pixels: int) -> Network:
    """The same weights in a network for images of so many pixels."""
    other = build(replace(network.architecture, resolution=pixels))
    other.load_state_dict(network.state_dict())
    return other
