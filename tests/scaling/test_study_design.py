"""The design of scaling studies: networks grown by rules to the same cost."""

import math
from dataclasses import replace

import pytest
from scipy.stats import t

from scaling import rules
from scaling.coefficients import PUBLISHED
from scaling.comparison import half_widths
from scaling.study_design import UNSCALED, grown, jobs, narrowed, sized, small_image_form
from space import choices, presets
from space.cost import cost
from space.evaluation import Budget

BASE = choices.load("mnasnet_small").adapted(num_classes=10, resolution=32, in_channels=3).base
WAYS = {name: rules.load(name, PUBLISHED) for name in ("depth", "width", "resolution", "compound")}


def test_single_dimensions_change_nothing_else():
    start, *points = grown("base", BASE, WAYS, [2, 4])
    assert (start.rule, start.architecture) == (UNSCALED, BASE)
    for point in points:
        deeper = [stage.repeats for stage in point.architecture.stages]
        wider = [stage.channels for stage in point.architecture.stages]
        changed = {
            "depth": deeper != [stage.repeats for stage in BASE.stages],
            "width": wider != [stage.channels for stage in BASE.stages],
            "resolution": point.architecture.resolution != BASE.resolution,
        }
        if point.rule != "compound":
            assert {name for name, each in changed.items() if each} == {point.rule}


def test_points_of_one_factor_cost_about_the_same():
    for point in grown("base", BASE, WAYS, [4]):
        assert abs(point.miss) < 0.15, point.name


def test_baselines_are_brought_to_the_same_targets():
    small = presets.load("mobilenet_v2", num_classes=10)
    small = small_image_form(replace(small, resolution=32))
    for name, network in (("ours", BASE), ("theirs", small)):
        for point in sized(name, network, {"width": WAYS["width"]}, [5e6, 20e6]):
            assert abs(point.miss) < 0.15, point.name


def test_every_point_is_trained_with_the_same_seeds():
    points = list(grown("base", BASE, WAYS, [2]))
    table = jobs(points, Budget(epochs=2, seed=7), seeds=3)
    assert [[job.budget.seed for job in row] for row in table] == [[7, 8, 9]] * len(points)
    names = [job.name for row in table for job in row]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v1", "mobilenet_v2", "mnasnet_a1"])
@pytest.mark.parametrize("pixels", [16, 32])
def test_small_images_keep_two_pixels_to_the_end(name, pixels):
    published = replace(presets.load(name, num_classes=10), resolution=pixels)
    small = small_image_form(published)
    size = pixels
    for stride in (small.stem.stride, *(stage.stride for stage in small.stages)):
        size = -(-size // stride)
    assert size >= 2
    assert not small.stem.pool
    assert [stage.channels for stage in small.stages] == [
        stage.channels for stage in published.stages
    ]


def test_images_that_are_large_enough_leave_a_network_as_it_is():
    published = presets.load("resnet50")
    assert small_image_form(published) is published


def test_a_network_is_narrowed_to_a_cost():
    published = small_image_form(replace(presets.load("resnet50", num_classes=10), resolution=32))
    assert cost(narrowed(published, 10e6)).macs == pytest.approx(10e6, rel=0.15)


def test_a_head_is_narrowed_with_the_rest_and_scales_by_its_rule_afterwards():
    published = small_image_form(replace(presets.load("mobilenet_v2"), resolution=16))
    small = narrowed(published, 3e6)
    assert small.head.channels < published.head.channels / 2
    assert small.scaling == published.scaling


def test_intervals_of_means_are_students_with_a_pooled_deviation():
    rows = [[0.5, 0.6, 0.7], [0.1, 0.3]]
    variance = (0.1**2 + 0.1**2 + 0.1**2 + 0.1**2) / 3
    three, two = half_widths(rows, level=0.9)
    assert three == pytest.approx(t.ppf(0.95, 3) * math.sqrt(variance / 3))
    assert two == pytest.approx(t.ppf(0.95, 3) * math.sqrt(variance / 2))
    assert half_widths([[0.5], [0.6]]) == (math.inf, math.inf)
