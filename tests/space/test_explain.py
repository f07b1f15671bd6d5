"""Other tools' totals follow from ours, by rules that the tools themselves confirm."""

import importlib
import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from space import presets
from space.cost import cost
from space.explain import explain, operations
from space.memory import peak_memory
from space.network import build
from space.trace import Kind, trace

NAMES = ["efficientnet_b0", "mobilenet_v3_small", "resnet18", "efficientnet_v2_b0", "mobilenet_v1"]


def totals(architecture):
    return {row.tool: row.total for row in explain(architecture)}


def image(architecture):
    return torch.zeros(1, 3, architecture.resolution, architecture.resolution)


def test_b0_is_explained_as_people_meet_it():
    found = totals(presets.load("efficientnet_b0"))
    assert found["phiscale"] == 385_814_752
    assert found["fvcore"] == 401_659_392
    assert found["thop"] == 415_145_024
    assert found["torch FlopCounterMode"] == 771_629_504


@pytest.mark.parametrize("name", NAMES)
def test_fvcore_says_what_is_explained(name):
    architecture = presets.load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(build(architecture).eval(), image(architecture))
        found = analysis.unsupported_ops_warnings(False).total()
    assert found == totals(architecture)["fvcore"]


@pytest.mark.parametrize("name", NAMES)
def test_thop_says_what_is_explained(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            thop = importlib.import_module("thop")
        except ImportError:
            pytest.skip("thop is not installed (pip install thop)")
        architecture = presets.load(name)
        module = build(architecture)
        macs, params = thop.profile(module, (image(architecture),), verbose=False)
    assert macs == totals(architecture)["thop"]
    assert params == cost(architecture).params


@pytest.mark.parametrize("name", NAMES)
def test_the_counter_of_torch_says_what_is_explained(name):
    architecture = presets.load(name)
    with torch.device("meta"):
        network, given = build(architecture).eval(), image(architecture)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(given)
    assert counter.get_total_flops() == totals(architecture)["torch FlopCounterMode"]


@pytest.mark.parametrize("name", presets.names())
def test_the_trace_does_what_the_cost_counts(name):
    architecture = presets.load(name)
    for resolution in (architecture.resolution, 97):
        traced = trace(architecture, resolution)
        assert (
            sum(operation.macs for operation in traced.operations)
            == cost(architecture, resolution).macs
        )
        outputs = [o.output.elements for o in traced.operations if o.kind is Kind.CONVOLUTION]
        assert sum(outputs) == cost(architecture, resolution).activations


def test_operations_of_a_network_that_can_be_counted_by_hand():
    """MobileNetV1 at 224 pixels has 27 convolutions with batch norm and ReLU6, no bias but the
    classifier's, and one mean over 7 × 7 × 1,024."""
    found = operations(presets.load("mobilenet_v1"))
    assert found.norm == found.activation == cost(presets.load("mobilenet_v1")).activations
    assert (found.mean, found.mean_outputs) == (7 * 7 * 1_024, 1_024)
    assert (found.bias, found.linear) == (1_000, 1_024_000)
    assert found.add == found.multiply == found.pooling == 0


def test_pooling_is_counted_where_there_is_some():
    assert operations(presets.load("resnet18")).pooling == 64 * 112 * 112


def test_a_finer_image_needs_more_memory_and_training_more_than_inference():
    b0 = presets.load("efficientnet_b0")
    coarse, fine = peak_memory(b0, 112), peak_memory(b0, 224)
    assert coarse.inference < fine.inference < fine.training
