"""Compound scaling: its invariants, and the scaled networks that papers print."""

import csv
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.compound import scale
from space import presets
from space.architecture import Architecture, Head, HeadScaling, ScalingRule, Stem
from space.cost import cost

NAMES = st.sampled_from(presets.names())
FACTORS = st.floats(0.3, 3.0)


@given(NAMES, FACTORS, FACTORS, FACTORS)
def test_scaling_never_changes_its_input(name, depth, width, resolution):
    architecture = presets.load(name)
    before = architecture.to_dict()
    scale(architecture, depth=depth, width=width, resolution=resolution)
    assert architecture.to_dict() == before


@given(NAMES)
def test_factors_of_one_change_nothing(name):
    architecture = presets.load(name)
    assert scale(architecture) == architecture
    assert scale(architecture).key == architecture.key


@given(NAMES, FACTORS)
def test_width_changes_nothing_of_a_head_but_its_channels(name, width):
    head = presets.load(name).head
    scaled = scale(presets.load(name), width=width).head
    assert replace(scaled, channels=head.channels, hidden=head.hidden) == head


@given(NAMES, FACTORS, FACTORS, FACTORS)
def test_a_scaled_network_comes_back_from_json(name, depth, width, resolution):
    scaled = scale(presets.load(name), depth=depth, width=width, resolution=resolution)
    again = Architecture.from_dict(scaled.to_dict())
    assert (again, again.key) == (scaled, scaled.key)


@given(NAMES, FACTORS, st.sampled_from([4, 8, 16]))
def test_scaled_channels_are_divisible(name, width, divisor):
    architecture = presets.load(name)
    architecture = replace(architecture, scaling=replace(architecture.scaling, divisor=divisor))
    if width == 1:
        return
    scaled = scale(architecture, width=width)
    widths = {stage.channels for stage in scaled.stages}
    if architecture.scaling.stem:
        widths.add(scaled.stem.channels)
    assert all(channels % divisor == 0 for channels in widths)


@given(NAMES, st.sampled_from(["depth", "width", "resolution"]), FACTORS, FACTORS)
def test_a_greater_factor_never_gives_a_smaller_network(name, dimension, one, other):
    architecture = presets.load(name)
    smaller, larger = sorted((one, other))
    less = scale(architecture, **{dimension: smaller})
    more = scale(architecture, **{dimension: larger})
    assert less.resolution <= more.resolution
    assert less.stem.channels <= more.stem.channels
    for a, b in zip(less.stages, more.stages, strict=True):
        assert a.channels <= b.channels
        assert a.repeats <= b.repeats
    assert all(a <= b for a, b in zip(cost(less)[:2], cost(more)[:2], strict=True))


@given(st.integers(1, 20), st.floats(0.2, 4.0))
def test_repeats_are_rounded_up(repeats, depth):
    architecture = presets.load("mobilenet_v2")
    stages = tuple(replace(stage, repeats=repeats) for stage in architecture.stages)
    scaled = scale(replace(architecture, stages=stages), depth=depth)
    for stage in scaled.stages:
        assert 0 <= stage.repeats - depth * repeats + 1e-6 < 1 + 2e-6


def test_repeats_do_not_grow_by_what_binary_fractions_add():
    twice = math.sqrt(2) ** 2
    assert twice > 2
    scaled = scale(presets.load("efficientnet_b0"), depth=twice)
    assert [stage.repeats for stage in scaled.stages] == [2, 4, 4, 6, 6, 8, 2]


@given(st.integers(8, 600), st.floats(0.5, 3.0), st.sampled_from([1, 8, 32]))
@settings(max_examples=200)
def test_resolution_is_the_nearest_multiple(pixels, factor, multiple):
    architecture = replace(presets.load("resnet18"), resolution=pixels)
    found = scale(architecture, resolution=factor, multiple=multiple).resolution
    assert found % multiple == 0
    assert abs(found - pixels * factor) <= multiple / 2 + 1e-6 or found == multiple


def test_halves_of_a_pixel_go_up():
    """1.15 · 224 is 257.6; B0 at γ = 1.15 is 258 pixels, as DESIGN's 2.57 × B0 assumes."""
    assert scale(presets.load("efficientnet_b0"), resolution=1.15).resolution == 258
    assert scale(replace(presets.load("resnet18"), resolution=5), resolution=1.5).resolution == 8


def test_the_published_coefficients_cost_more_than_their_product_says():
    b0 = presets.load("efficientnet_b0")
    scaled = scale(b0, depth=1.2, width=1.1, resolution=1.15)
    assert cost(scaled).macs / cost(b0).macs == pytest.approx(2.57, abs=0.005)
    assert pytest.approx(1.92, abs=0.005) == 1.2 * 1.1**2 * 1.15**2


def test_width_touches_stem_head_and_ends_only_as_the_rule_says():
    b0 = presets.load("efficientnet_b0")
    rule = ScalingRule(stem=False, head=HeadScaling.FIXED, ends=False)
    scaled = scale(replace(b0, scaling=rule), width=2, depth=2)
    assert (scaled.stem, scaled.head) == (Stem(32), Head(1280))
    assert [stage.repeats for stage in scaled.stages] == [1, 4, 4, 6, 6, 8, 1]

    mobilenet = presets.load("mobilenet_v2")
    assert mobilenet.scaling.head is HeadScaling.GROW
    assert scale(mobilenet, width=0.5).head == Head(1280)
    assert scale(mobilenet, width=1.5).head == Head(1920)


def test_a_head_that_is_not_there_stays_away():
    assert scale(presets.load("resnet50"), width=3).head == Head(0)


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("dimension", ["depth", "width", "resolution"])
def test_impossible_factors_are_refused(dimension, factor):
    with pytest.raises(ValueError, match=f"`{dimension} > 0` must hold"):
        scale(presets.load("resnet18"), **{dimension: factor})


def test_impossible_multiples_are_refused():
    with pytest.raises(ValueError, match="multiple >= 1"):
        scale(presets.load("resnet18"), multiple=0)


#: Rows that the usual rounding does not reach, with the GMACs that it gives (the reference's
#: README names them).
MISSED = {
    ("mobilenet_v1", "resolution"): 2.27,
    ("mobilenet_v1", "compound"): 2.47,
    ("resnet50", "depth"): 14.6,
    ("resnet50", "width"): 15.9,
    ("efficientnet_b0", "depth"): 1.58,
    ("efficientnet_b0", "width"): 1.45,
    ("efficientnet_b0", "resolution"): 1.54,
}


def test_published_scaled_networks_cost_what_is_printed_or_what_is_known(shared):
    text = (shared / "reference" / "published_scaling.csv").read_text("utf-8")
    checked = 0
    for row in csv.DictReader(text.splitlines()):
        if not row["depth"]:  # compound rows whose factors the paper does not print
            continue
        scaled = scale(
            presets.load(row["base"]),
            depth=float(row["depth"]),
            width=float(row["width"]),
            resolution=float(row["resolution"]),
        )
        found = cost(scaled).macs / 1e9
        known = MISSED.get((row["base"], row["method"]))
        printed = float(row["flops_billions"])
        expected, tolerance = (printed, 0.051) if known is None else (known, 0.05)
        assert found == pytest.approx(expected, abs=tolerance), (row["base"], row["method"])
        assert known is None or abs(found - printed) > 0.06
        checked += 1
    assert checked == 17
