"""Compound scaling and its rivals: what each of them enlarges, and by how much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import rules
from scaling.coefficients import PUBLISHED, Coefficients
from scaling.compound import scale
from scaling.family import family_for
from scaling.rules import Shares, Uniform
from scaling.targets import activations, macs, reach
from space import presets
from space.architecture import Architecture
from space.validation import InvalidInput

B0 = presets.load("efficientnet_b0")
RESNET = presets.load("resnet50")

shares = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5)).map(
    lambda parts: Shares(*(part / sum(parts) for part in parts))
)


def shape(network: Architecture) -> tuple[list[int], list[int], int]:
    stages = network.stages
    return [each.repeats for each in stages], [each.channels for each in stages], network.resolution


@given(shares=shares, factor=st.floats(0.1, 100))
def test_uniform_factors_multiply_to_the_rules_factor(shares: Shares, factor: float) -> None:
    depth, width, resolution = Uniform(shares).factors(factor)
    assert depth * width**2 * resolution**2 == pytest.approx(factor)


@given(phi=st.floats(-2, 7))
def test_the_compound_rule_scales_by_the_coefficients_to_the_phi(phi: float) -> None:
    rule = rules.compound(PUBLISHED)
    assert rule.factors(PUBLISHED.nominal**phi) == pytest.approx(PUBLISHED.at(phi))


@pytest.mark.parametrize(
    ("name", "same"),
    [("depth", (1, 2)), ("width", (0, 2)), ("resolution", (0, 1))],
)
@pytest.mark.parametrize("baseline", [B0, RESNET], ids=["B0", "ResNet-50"])
def test_a_single_dimension_rule_leaves_the_others(
    baseline: Architecture, name: str, same: tuple[int, int]
) -> None:
    rule = rules.load(name, PUBLISHED)
    before, after = shape(baseline), shape(rule(baseline, 4))
    assert all(before[part] == after[part] for part in same)
    assert before != after
    assert macs(rule(baseline, 4)) == pytest.approx(4 * macs(baseline), rel=0.15)


def test_fast_scaling_gives_the_published_shares() -> None:
    """pycls, d1_w8_g8_r1: d = s^0.1, w = s^0.4, r = s^0.05."""
    rule = rules.load("fast", PUBLISHED)
    expected = scale(B0, depth=8**0.1, width=8**0.4, resolution=8**0.05)
    assert rule(B0, 8) == expected


def test_fast_scaling_keeps_activations_low() -> None:
    """Activations grow with about the root of MACs, against compound scaling's 0.8th power."""
    target = 8 * macs(B0)
    fast, compound = (
        reach(rules.load(name, PUBLISHED), B0, target).architecture for name in ("fast", "compound")
    )
    assert 8**0.5 < activations(fast) / activations(B0) < 8**0.65
    assert activations(compound) / activations(B0) > 8**0.75


@pytest.mark.parametrize("name", rules.NAMES)
def test_every_rule_reaches_equal_macs(name: str) -> None:
    family = family_for(
        B0, PUBLISHED, (10**9, 3 * 10**9), rule=rules.load(name, PUBLISHED), multiple=1
    )
    # Pixels alone leave steps of several percent.
    most = 0.05 if name == "resolution" else 0.01
    assert [abs(member.miss or 0) <= most for member in family.members] == [True, True]
    phis = [member.phi for member in family.members]
    assert 0 < phis[0] < phis[1]


def test_members_of_equal_cost_are_regularised_alike_whatever_the_rule() -> None:
    dropouts = [
        family_for(B0, PUBLISHED, (4 * 10**9,), rule=rules.load(name, PUBLISHED))
        .members[0]
        .architecture.dropout
        for name in ("compound", "resolution")
    ]
    assert dropouts[0] == pytest.approx(dropouts[1], abs=0.03)


def test_an_unknown_rule_gets_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match=r"family\.rule: there is no 'widht'; .* 'width'"):
        rules.load("widht", PUBLISHED)


def test_coefficients_that_change_nothing_make_no_rule() -> None:
    with pytest.raises(InvalidInput, match="one of α, β, γ must be above 1"):
        rules.compound(Coefficients(1, 1, 1))
