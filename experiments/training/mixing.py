"""Two images in one: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

Every image of a batch is mixed with the one before it, in the same way.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def draw_mixes(steps: int, *, mixup: float, cutmix: float, generator: torch.Generator) -> Tensor:
    """How each step's images are mixed, steps × 5: an image's weight, and the top, bottom, left
    and right edge, in parts of the image, of the box in which it has none.

    `mixup` and `cutmix` are the parameters of the Beta distribution of what is kept; where both
    are above 0, each step draws one of the two.
    """
    seed = torch.randint(2**62, (), generator=generator).item()
    random = np.random.default_rng(int(seed))
    cuts = random.random(steps) < (0.5 if mixup and cutmix else float(cutmix > 0))
    mixes = np.zeros((steps, 5))
    mixes[:, 0] = 1.0
    if mixup:
        mixes[~cuts, 0] = random.beta(mixup, mixup, steps)[~cuts]
    if cutmix:
        side = np.sqrt(1 - random.beta(cutmix, cutmix, (steps, 1)))
        edges = random.random((steps, 2)).repeat(2, axis=1) + side / 2 * [-1, 1, -1, 1]
        mixes[cuts, 1:] = edges[cuts]
    return torch.from_numpy(mixes).float()


def mix(x: Tensor, labels: Tensor, mixes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """`x` (N × C × H × W) mixed as `mixes` (5) says, and the probabilities of its classes (N ×
    num_classes): each image's class by the part of it that is left."""
    weight, top, bottom, left, right = mixes.unbind()
    rows, columns = (
        (torch.arange(side, device=x.device) + 0.5) / side for side in (x.shape[2], x.shape[3])
    )
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    weights = weight * ~(in_rows[:, None] & in_columns)
    expected = F.one_hot(labels, num_classes).float()
    return (
        x.roll(1, 0).lerp(x, weights),
        expected.roll(1, 0).lerp(expected, weights.mean()),
    )
