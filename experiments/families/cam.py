"""Class activation maps: where in an image a network finds evidence for a class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from space.network import Network

#: The smallest side of a map that shows places rather than corners (assumed: ImageNet's 224 pixels
#: at a stride of 32).
LEAST_SIDE = 7


def activation_maps(network: Network, images: Tensor, labels: Tensor) -> NDArray[np.float32]:
    """The evidence for class `labels` (N) at each place of `images` (N × C × H × W, normalised).

    Returns N × h × w, the size of the network's last feature maps of at least 7 × 7, or of its
    first ones if all are smaller. On the maps that are averaged for the classifier, this is class
    activation mapping (Zhou et al. 2016, section 2): the mean of the evidence plus the classifier's
    bias is the logit. Earlier maps, and those before a hidden layer, are weighted by the gradient
    of the logit (Grad-CAM, Selvaraju et al. 2017, section 3); without a hidden layer both agree.
    """
    network.eval()
    with torch.enable_grad():
        features = network.features(images.detach().requires_grad_())
        last = network.head(features[-1])
        logits = network.classifier(network.hidden(network.mean(last)).flatten(1))
        chosen = logits.gather(1, labels[:, None]).sum()
    large = [maps for maps in (*features, last) if min(maps.shape[2:]) >= LEAST_SIDE]
    maps = large[-1] if large else features[0]
    (slopes,) = torch.autograd.grad(chosen, maps)
    evidence = torch.einsum("nc,nchw->nhw", slopes.sum((2, 3)), maps.detach())
    found: NDArray[np.float32] = evidence.cpu().numpy()
    return found
