"""How many training runs at a time are fastest is measured by training."""

import pytest
import torch

from experiments.config import TrainConfig
from experiments.training import throughput
from space.architecture import Architecture, Head, Operator, Stage, Stem

SMALL = Architecture(Stem(8), (Stage(Operator.SEPARABLE, 8),), Head(0), resolution=8)
CONFIG = TrainConfig(batch_size=4)


def test_a_cpu_is_divided_in_steps_of_two_and_the_fastest_comes_first(monkeypatch) -> None:
    speeds = {1: 2.0, 2: 3.0, 4: 5.0, 8: 9.0, 12: 1.0}
    monkeypatch.setattr(throughput, "_speed", lambda *_, processes, threads: speeds[processes])  # noqa: ARG005
    found = throughput.measure_cpu(SMALL, CONFIG, 12)
    assert [each[:-1] for each in found] == [
        (8, 1, 1),
        (4, 1, 3),
        (2, 1, 6),
        (1, 1, 12),
        (12, 1, 1),
    ]


def test_processes_train_side_by_side() -> None:
    assert throughput._speed(SMALL, CONFIG, "cpu", processes=2, threads=1, seconds=0.1) > 0


def test_threads_of_a_process_train_side_by_side() -> None:
    found = throughput.measure_gpu(SMALL, CONFIG, "cpu", (1, 2), seconds=0.1)
    assert {each.runs for each in found} == {1, 2}
    assert found[0].speed >= found[1].speed > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that is not there")
def test_where_nothing_can_be_measured_nothing_is_packed() -> None:
    ((_, runs, _, speed),) = throughput.measure_gpu(SMALL, CONFIG, "cuda")
    assert (runs, speed) == (1, 0.0)
