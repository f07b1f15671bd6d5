"""Grids on the realised cost, and candidates steered to one cost."""

from dataclasses import replace

import pytest

from scaling.coefficients import Coefficients
from scaling.compound import scale
from scaling.grid import candidates, equal_cost, grid, realised
from scaling.targets import macs
from space import presets
from space.architecture import Architecture, Stem
from space.validation import InvalidInput

B0 = presets.load("efficientnet_b0")
SMALL = replace(B0, stem=Stem(16, stride=1), resolution=32, num_classes=10)
BASELINES = pytest.mark.parametrize("baseline", [B0, SMALL], ids=["B0", "small"])


def test_one_nominal_product_makes_very_different_costs() -> None:
    ratios = [each.realised_ratio for each in candidates(B0, grid(step=0.1, tolerance=0.1))]
    assert max(ratios) / min(ratios) > 1.4


@BASELINES
@pytest.mark.parametrize("phi", [1, 2, -1])
@pytest.mark.parametrize("make", [realised, equal_cost])
def test_candidates_really_cost_the_factor(baseline: Architecture, phi: float, make) -> None:
    found = make(baseline, 0.1, 0.1, phi=phi)
    assert len(found) >= 3
    assert len({each.architecture.key for each in found}) == len(found)
    for each in found:
        assert each.realised_ratio == macs(each.architecture) / macs(baseline)
        assert abs(each.realised_ratio ** (1 / phi) - 2) <= 0.1
        for name in each.names:
            assert scale(baseline, **name.at(phi)._asdict()) == each.architecture


def test_realised_finds_all_on_the_grid() -> None:
    tenths = [1 + step / 10 for step in range(31)]
    expected = {
        network.key
        for alpha in tenths
        for beta in tenths[:11]
        for gamma in tenths[:11]
        if abs(
            macs(network := scale(SMALL, depth=alpha, width=beta, resolution=gamma)) / macs(SMALL)
            - 2
        )
        <= 0.1
    }
    assert {each.architecture.key for each in realised(SMALL, 0.1, 0.1)} == expected


def test_steered_candidates_compare_shapes_at_one_cost() -> None:
    """Nine shapes of B0 within 4 %, where the nominal grid spreads over 47 %."""
    found = equal_cost(B0, step=0.1, tolerance=0.04)
    assert len({(each.coefficients.alpha, each.coefficients.beta) for each in found}) >= 5
    ratios = [each.realised_ratio for each in found]
    assert max(ratios) / min(ratios) < 1.041


def test_no_candidate_says_which_tolerance_would_give_one() -> None:
    with pytest.raises(InvalidInput) as error:
        realised(B0, step=0.5, tolerance=0.001)
    message = str(error.value)
    assert message.startswith("coefficients: some network must cost within 0.001 of 2 times")
    advised = float(message.split("; tolerance ")[1].split()[0])
    assert realised(B0, step=0.5, tolerance=advised)


def test_what_scales_nothing_is_no_candidate() -> None:
    assert Coefficients(1, 1, 1) not in grid(0.1, tolerance=1.0)
    names = [name for each in realised(SMALL, 0.5, tolerance=1.0) for name in each.names]
    assert Coefficients(1, 1, 1) not in names
    assert all(sum(each.shares) == pytest.approx(1) for each in realised(SMALL, 0.5, 1.0))
