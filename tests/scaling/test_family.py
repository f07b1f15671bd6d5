"""Planned families: members by φ and by target, their regularisation, their twins."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.coefficients import PUBLISHED, Coefficients
from scaling.compound import scale
from scaling.family import family_at, family_for, regularised
from space import presets
from space.architecture import Stem
from space.cost import cost
from space.evaluation import Budget
from space.validation import InvalidInput

B0 = presets.load("efficientnet_b0")
SMALL = replace(B0, stem=Stem(16, stride=1), resolution=32, num_classes=10)


def test_members_are_the_baseline_scaled_in_the_order_given() -> None:
    phis = (2, 0, 0.5, -1)
    family = family_at(B0, PUBLISHED, phis)
    assert [member.name for member in family.members] == ["b0", "b1", "b2", "b3"]
    assert [member.phi for member in family.members] == list(phis)
    for member, phi in zip(family.members, phis, strict=True):
        factors = PUBLISHED.at(phi)
        assert (member.depth, member.width) == (factors.depth, factors.width)
        network = scale(B0, **factors._asdict())
        assert replace(member.architecture, dropout=0.2, stochastic_depth=0.2) == replace(
            network, dropout=0.2, stochastic_depth=0.2
        )
        assert member.cost == cost(network)
        assert member.resolution == network.resolution
    assert family.members[1].architecture == B0


def test_costs_rise_with_phi_and_fall_below_zero() -> None:
    macs = [member.cost.macs for member in family_at(B0, PUBLISHED, range(-3, 8)).members]
    assert macs == sorted(macs)
    assert len(set(macs)) == len(macs)


def test_resolutions_are_multiples_where_asked() -> None:
    family = family_at(B0, PUBLISHED, (0, 1, 2, 3), multiple=16)
    assert [member.resolution for member in family.members] == [224, 256, 304, 336]


def test_a_member_above_the_baseline_is_not_rounded_to_fewer_pixels() -> None:
    small = replace(B0, resolution=40)
    family = family_at(small, Coefficients(1.4, 1.2, 1.0), (-1, 0, 1, 2), multiple=32)
    assert [member.resolution for member in family.members] == [32, 32, 64, 64]


def test_dropout_grows_as_published(shared: Path) -> None:
    """Linear from B0's 0.2 to B7's 0.5; the official table rounds it to tenths, upwards or down."""
    with (shared / "reference" / "efficientnet.csv").open() as file:
        published = [float(row["dropout"]) for row in csv.DictReader(file)]
    ours = [regularised(B0, phi).dropout for phi in range(8)]
    assert ours == [0.2, 0.2429, 0.2857, 0.3286, 0.3714, 0.4143, 0.4571, 0.5]
    assert ours == pytest.approx(published, abs=0.05)


def test_stochastic_depth_grows_to_the_published_rate_and_no_further() -> None:
    assert [regularised(B0, phi).stochastic_depth for phi in (0, 3, 7)] == [0.2, 0.2, 0.2]
    tenth = replace(B0, stochastic_depth=0.1)
    assert [regularised(tenth, phi).stochastic_depth for phi in (0, 1, 7)] == [0.1, 0.1214, 0.2]


@given(
    rate=st.floats(0, 0.9).map(lambda rate: round(rate, 3)),
    phi=st.floats(-20, 20),
    more=st.floats(0, 20),
)
def test_regularisation_is_monotone_in_phi_and_a_valid_rate(
    rate: float, phi: float, more: float
) -> None:
    baseline = replace(B0, dropout=rate, stochastic_depth=rate)
    low, high = regularised(baseline, phi), regularised(baseline, phi + more)
    assert 0 <= low.dropout <= high.dropout <= max(rate, 0.5)
    assert 0 <= low.stochastic_depth <= high.stochastic_depth <= max(rate, 0.2)
    assert regularised(baseline, 0) == baseline


def test_a_baseline_without_regularisation_has_members_without() -> None:
    plain = replace(B0, dropout=0.0, stochastic_depth=0.0)
    for member in family_at(plain, PUBLISHED, (-2, 0, 5)).members:
        assert (member.architecture.dropout, member.architecture.stochastic_depth) == (0, 0)


def test_members_for_targets_say_how_far_they_are() -> None:
    targets = (10_000_000, 50_000_000, 80_000_000, 160_000_000)
    family = family_for(SMALL, PUBLISHED, targets)
    for member, target in zip(family.members, targets, strict=True):
        assert member.target == target
        assert member.miss == member.cost.macs / target - 1
        assert abs(member.miss) <= 0.01
        factors = PUBLISHED.at(member.phi)
        assert (member.depth, member.width) == pytest.approx(factors[:2])
    phis = [member.phi for member in family.members]
    assert phis == sorted(phis)
    assert regularised(SMALL, phis[-1]).dropout == family.members[-1].architecture.dropout


def test_members_that_round_to_one_network_are_pointed_out() -> None:
    family = family_at(SMALL, Coefficients(1.2, 1.1, 1.05), (0, 0.001, 1, 1.001, 0))
    names = {(later, earlier) for later, earlier in family.duplicates}
    assert names == {("b3", "b2"), ("b4", "b0")}
    assert family_at(B0, PUBLISHED, (0, 1, 2)).duplicates == ()


def test_every_member_is_one_job_of_its_name() -> None:
    family = family_at(SMALL, PUBLISHED, (0, 1))
    budget = Budget(epochs=2, seed=3)
    jobs = family.jobs(budget)
    assert [(job.name, job.budget) for job in jobs] == [("b0", budget), ("b1", budget)]
    assert [job.architecture for job in jobs] == [each.architecture for each in family.members]


def test_an_absurd_phi_is_refused_with_its_value() -> None:
    with pytest.raises(InvalidInput) as error:
        family_at(B0, PUBLISHED, (0, 99))
    assert str(error.value).startswith("family.phi: no network can be made at φ = 99: `")


def test_planning_a_family_never_changes_the_baseline() -> None:
    before = B0.to_dict()
    family_at(B0, PUBLISHED, (-1, 3))
    family_for(B0, PUBLISHED, (10**9,))
    assert B0.to_dict() == before
