"""Compound scaling and its rivals: what each of them enlarges, and by how much."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import rules
from scaling.coefficients import PUBLISHED, Coefficients
from scaling.compound import scale
from scaling.family import family_for
from scaling.rules import Shares, Uniform
from scaling.stagewise import Dimension, Stagewise, enlarge
from scaling.targets import activations, macs, reach
from space import presets
from space.architecture import Architecture
from space.cost import cost
from space.evaluation import Budget, Measurement, Status
from space.validation import InvalidInput

B0 = presets.load("efficientnet_b0")
RESNET = presets.load("resnet50")
BUDGET = Budget(epochs=1)

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


@pytest.mark.parametrize("dimension", list(Dimension))
@pytest.mark.parametrize("stage", range(7))
def test_enlarging_a_stage_touches_no_other(stage: int, dimension: Dimension) -> None:
    larger = enlarge(B0, stage, dimension, 1.3 * macs(B0))
    changed = [new != old for new, old in zip(larger.stages, B0.stages, strict=True)]
    assert changed == [number == stage for number in range(7)]
    assert replace(larger, stages=B0.stages) == B0
    assert macs(larger) == pytest.approx(1.3 * macs(B0), rel=0.06)


def test_enlarging_adds_at_least_one_step() -> None:
    assert enlarge(B0, 2, Dimension.DEPTH, macs(B0)).stages[2].repeats == 3
    assert enlarge(B0, 2, Dimension.WIDTH, 0).stages[2].channels == 48


def grow(baseline: Architecture, target: float, worth: dict[str, float]) -> Stagewise:
    """A growth in which a stage's enlargement is worth what is said, failing where it is not."""
    proposer = Stagewise(baseline, target, BUDGET)
    names = set()
    while (job := proposer.ask()) is not None:
        assert job.name not in names
        names.add(job.name)
        choice = job.name.split(": ")[1]
        result = Measurement(Status.FAILED, reason="no value")
        if choice in worth:
            result = Measurement(Status.COMPLETE, accuracy=worth[choice])
        proposer.tell(job, result)
    return proposer


def test_stagewise_growth_takes_the_best_stage_each_round_until_the_target() -> None:
    target = 4 * macs(B0)
    grown = grow(B0, target, {"stage 5, depth": 0.8, "stage 6, width": 0.7, "stage 1, width": 0.1})
    sizes = [macs(network) for network in grown.path]
    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(target, rel=0.02)
    assert len(sizes) == 1 + 4  # 1.4^4 = 3.84: within half a step of the target
    last = grown.path[-1]
    assert last.stages[4].repeats > 20
    assert replace(last, stages=B0.stages) == B0
    unchanged = [last.stages[stage] == B0.stages[stage] for stage in (0, 1, 2, 3, 5, 6)]
    assert all(unchanged)


def test_stagewise_growth_gives_the_cheaper_of_equals() -> None:
    everything = {f"stage {n}, {d}": 0.5 for n in range(1, 8) for d in ("depth", "width")}
    grown = grow(B0, 1.4 * macs(B0), everything)
    options = [enlarge(B0, n, d, 1.4 * macs(B0)) for n in range(7) for d in Dimension]
    assert macs(grown.path[1]) == min(macs(option) for option in options)


def test_stagewise_growth_ends_where_all_training_runs_fail() -> None:
    assert grow(B0, 4 * macs(B0), {}).path == [B0]


def test_a_round_is_finished_before_the_next_is_asked_for() -> None:
    proposer = Stagewise(B0, 4 * macs(B0), BUDGET)
    jobs = [proposer.ask() for _ in range(14)]
    assert proposer.ask() is None
    for job in jobs:
        assert job is not None
        assert proposer.ask() is None
        proposer.tell(job, Measurement(Status.COMPLETE, accuracy=0.5))
    following = proposer.ask()
    assert following is not None
    assert following.name.startswith("step 2: ")


def test_a_path_of_networks_is_a_rule() -> None:
    path = grow(B0, 4 * macs(B0), {"stage 5, depth": 0.8}).path
    rule = rules.AlongPath(tuple(path))
    assert rule(B0, 1) == B0
    assert rule(B0, 0.1) == B0
    assert rule(B0, 1000) == path[-1]
    for network in path:
        assert rule(B0, cost(network).macs / cost(B0).macs * (1 + 1e-9)) == network
    reached = reach(rule, B0, 2 * macs(B0))
    assert abs(reached.miss) <= 0.02


def test_steps_that_do_not_grow_are_refused() -> None:
    with pytest.raises(ValueError, match="`step > 1` must hold"):
        Stagewise(B0, 1e9, BUDGET, step=1)


def test_coefficients_that_change_nothing_make_no_rule() -> None:
    with pytest.raises(InvalidInput, match="one of α, β, γ must be above 1"):
        rules.compound(Coefficients(1, 1, 1))
