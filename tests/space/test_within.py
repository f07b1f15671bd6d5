from collections import Counter
from itertools import product

import numpy as np
import pytest

from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.choices import Space
from space.cost_table import CostTable, tabulate
from space.within import Within

RNG = np.random.default_rng


@pytest.fixture(scope="module", params=[(), (16, 20, 12)], ids=["", "resolutions"])
def table(request: pytest.FixtureRequest) -> CostTable:
    """2,304 combinations, of which widths of one stage change the cost of the next.

    With a choice of resolutions, which changes the cost of every stage, it has fewer of the others.
    """
    stages = tuple(
        Stage(Operator.INVERTED, channels=8 * width, repeats=2, stride=2, expansion=3)
        for width in (1, 2, 3)
    )
    base = Architecture(Stem(8, stride=1), stages, Head(32), resolution=16, num_classes=10)
    choices = {
        "stage1.operator": ("conv", "separable", "inverted_e3"),
        "stage1.width": (0.75, 1.0, 2.0),
        "stage2.operator": ("separable", "inverted_e6"),
        "stage2.width": (1.0, 2.0),
        "stage2.layers": (-1, 0),
        "stage3.kernel": (3, 5),
        "stage3.se": (0, 0.25),
        "stage3.layers": (-1, 0, 1, 2),
        "stage3.width": (1.0, 1.5),
    }
    if request.param:
        choices |= {"stage3.layers": (-1, 1), "stage2.layers": (-1,), "resolution": request.param}
    return tabulate(Space("tested", base, choices))


@pytest.fixture(scope="module")
def everything(table: CostTable) -> np.ndarray:
    return np.array(list(product(*(range(size) for size in table.sizes))))


BOUNDS = [
    {"macs": (300_000, 400_000)},
    {"macs": (300_000, 301_000)},
    {"macs": (1, 10**9)},
    {"params": (1, 9_000)},
    {"macs": (200_000, 400_000), "params": (5_000, 9_000)},
    {"macs": (200_000, 400_000), "params": (5_000, 9_000), "activations": (1, 25_000)},
]


def _inside(table: CostTable, rows: np.ndarray, bounds: dict[str, tuple[int, int]]) -> np.ndarray:
    column = {"macs": 0, "params": 1, "activations": 2}
    costs = table(rows)
    keep = [
        (costs[:, column[n]] >= least) & (costs[:, column[n]] <= most)
        for n, (least, most) in bounds.items()
    ]
    return np.asarray(rows[np.all(keep, axis=0)])


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_every_combination_within_the_bounds_is_listed_once(
    table: CostTable, everything: np.ndarray, bounds: dict[str, tuple[int, int]]
) -> None:
    expected = Counter(map(tuple, _inside(table, everything, bounds).tolist()))
    listed = Counter(tuple(row.tolist()) for row in Within(table, bounds).every())
    assert listed == expected
    assert len(expected) > 0


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_draws_lie_within_the_bounds(table: CostTable, bounds: dict[str, tuple[int, int]]) -> None:
    drawn = Within(table, bounds).draw(200, RNG(0))
    assert len(drawn) > 20
    assert len(_inside(table, drawn, bounds)) == len(drawn)


@pytest.mark.parametrize("bounds", [BOUNDS[0], BOUNDS[4]], ids=str)
def test_draws_are_uniform(
    table: CostTable, everything: np.ndarray, bounds: dict[str, tuple[int, int]]
) -> None:
    expected = _inside(table, everything, bounds)
    drawn = Within(table, bounds).draw(6_000, RNG(1))
    counts = Counter(map(tuple, drawn.tolist()))
    mean = len(drawn) / len(expected)
    statistic = sum((counts[tuple(row)] - mean) ** 2 / mean for row in expected.tolist())
    freedom = len(expected) - 1
    # chi-squared has mean `freedom` and variance 2 · freedom: six deviations, from a fixed seed
    assert abs(statistic - freedom) < 6 * np.sqrt(2 * freedom)


def test_bounds_wide_open_count_all_combinations(table: CostTable, everything: np.ndarray) -> None:
    assert Within(table, {"macs": (1, 10**9)}).count == len(everything)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("bounds", [{"macs": (10, 20)}, {"params": (10**8, 10**9)}], ids=str)
def test_impossible_bounds_count_nothing(
    table: CostTable, bounds: dict[str, tuple[int, int]], clip: bool
) -> None:
    within = Within(table, bounds, clip=clip)
    assert within.count == 0
    assert len(within.draw(100, RNG(0))) == 0
    assert list(within.every()) == []


def test_nearest_to_impossible_bounds_is_the_nearest_there_is(
    table: CostTable, everything: np.ndarray
) -> None:
    macs = table(everything)[:, 0]
    for bounds, extreme in (({"macs": (10, 20)}, macs.min()), ({"macs": (10**9,) * 2}, macs.max())):
        found = table(Within(table, bounds, clip=False).nearest(200, RNG(0)))[:, 0]
        assert extreme in found
