"""Class activation maps: where in an image a network finds what speaks for a class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from space.network import Network


def activation_maps(network: Network, images: Tensor, labels: Tensor) -> NDArray[np.float32]:
    """The evidence for class `labels` (N) at each place of `images` (N × C × H × W, normalised).

    N × h × w, as large as the network's last maps; their mean and the classifier's bias are the
    logit. Source: class activation mapping (Zhou et al. 2016, section 2). Behind a hidden layer
    the maps are weighed by the logit's gradient instead (Grad-CAM, Selvaraju et al. 2017, section
    3), which is the same without one, and the mean is the logit's only to first order.
    """
    network.eval()
    with torch.no_grad():
        maps = network.head(network.features(images)[-1])
    pooled = network.mean(maps).flatten(1).requires_grad_()
    with torch.enable_grad():
        logits = network.classifier(network.hidden(pooled))
        chosen = logits.gather(1, labels[:, None]).sum()
    (weights,) = torch.autograd.grad(chosen, pooled)
    found: NDArray[np.float32] = torch.einsum("nc,nchw->nhw", weights, maps).cpu().numpy()
    return found
