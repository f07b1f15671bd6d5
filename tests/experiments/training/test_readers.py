"""Images on a device are looked up without a copy in every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.data.images import DecodedImages
from experiments.training.readers import Kept, open_reader


class Copies(TorchDispatchMode):
    """Counts copies from one device to another."""

    count = 0

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._to_copy.default
        return function(*args, **(kwargs or {}))


def test_the_order_of_an_epoch_is_sent_to_the_device_at_once() -> None:
    images = DecodedImages(np.zeros((40, 8, 8, 3), np.uint8), np.arange(40), np.arange(40))
    read = open_reader(images, torch.device("meta"), 8, Kept())  # another device, of pretence
    with Copies() as copies:
        shapes = [tuple(pixels.shape) for pixels in read(torch.arange(40).split(16))]
    assert shapes == [(16, 8, 8, 3), (16, 8, 8, 3), (8, 8, 8, 3)]
    assert copies.count == 1
