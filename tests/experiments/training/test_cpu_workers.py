"""How a CPU is divided among trainings."""

from experiments.training import cpu_workers
from space.architecture import Architecture, Head, Operator, Stage, Stem


def test_divisions_are_measured_by_trainings_and_told_fastest_first(monkeypatch) -> None:
    monkeypatch.setattr(cpu_workers, "_speed", lambda _, __, workers, cores: workers % cores + 1)
    small = Architecture(Stem(8), (Stage(Operator.SEPARABLE, 8),), Head(0), resolution=8)
    found = cpu_workers.measure_layouts(small, 4, 12)
    assert [(each.workers, each.threads) for each in found] == [
        (8, 1),
        (4, 3),
        (2, 6),
        (1, 12),
        (12, 1),
    ]
    assert [each.speed for each in found] == sorted((each.speed for each in found), reverse=True)


def test_processes_train_side_by_side() -> None:
    small = Architecture(Stem(8), (Stage(Operator.SEPARABLE, 8),), Head(0), resolution=8)
    assert cpu_workers._speed(small, 4, 2, 2) > 0
