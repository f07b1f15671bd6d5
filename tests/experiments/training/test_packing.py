"""How many training runs a device does at a time is measured by training."""

import pytest
import torch

from experiments.config import TrainConfig
from experiments.training.packing import measure_packs
from space.architecture import Architecture, Head, Operator, Stage, Stem

SMALL = Architecture(Stem(8), (Stage(Operator.SEPARABLE, 8),), Head(0), resolution=8)
CONFIG = TrainConfig(batch_size=4)


def test_counts_are_told_fastest_first() -> None:
    found = measure_packs(SMALL, CONFIG, "cpu", (1, 2), seconds=0.1)
    assert {each.runs for each in found} == {1, 2}
    assert found[0].speed >= found[1].speed > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that is not there")
def test_where_nothing_can_be_measured_nothing_is_packed() -> None:
    assert measure_packs(SMALL, CONFIG, "cuda") == [(1, 0.0)]
