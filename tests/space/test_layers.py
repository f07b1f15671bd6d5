"""The list of layers against the torch modules that it describes."""

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from space import presets
from space.architecture import Numerics, Operator, Skip
from space.blocks import ACTIVATIONS, BLOCKS, GATES, ConvNorm, SqueezeExcitation
from space.layers import At, Channels, Path, layers, tensor_shapes
from space.network import build
from tests.space.strategies import ARCHITECTURES


def shapes_of(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def executed(module, image):
    """Name, stride, input and output sides of every convolution and linear layer as it runs."""
    seen = []

    def hook(name):
        def note(layer, _, output):
            strided = layer.stride[0] if isinstance(layer, nn.Conv2d) else 1
            seen.append((name, strided, output.shape[-1] if output.ndim == 4 else 1))

        return note

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(hook(name.removesuffix(".conv")))
    with torch.no_grad():
        module.eval()(image)
    return seen


def following(module, layer):
    """The class of what the module applies after a layer, None for nothing."""
    owner = module.get_submodule(layer.name)
    if isinstance(owner, ConvNorm):
        return None if isinstance(owner.activation, nn.Identity) else type(owner.activation)
    parent = module.get_submodule(layer.name.rpartition(".")[0])
    if isinstance(parent, SqueezeExcitation):
        return type(parent.activation if layer.name.endswith("reduce") else parent.gate)
    return type(parent.activation) if layer.name == "hidden.linear" else None


@pytest.mark.parametrize("name", presets.names())
def test_layers_name_every_tensor_of_every_preset(name):
    architecture = presets.load(name)
    with torch.device("meta"):
        network = build(architecture)
    assert tensor_shapes(architecture) == shapes_of(network)


@given(ARCHITECTURES)
@settings(max_examples=60, deadline=None)
def test_layers_say_what_runs_in_which_order_on_which_map(architecture):
    with torch.device("meta"):
        network = build(architecture)
    found = layers(architecture)
    assert tensor_shapes(architecture) == shapes_of(network)
    functions = ACTIVATIONS | GATES
    for layer in found:
        expected = functions[layer.activation] if layer.activation else None
        assert following(network, layer) is expected, layer.name
    for block in (block for stage in architecture.blocks() for block in stage):
        with torch.device("meta"):
            module = BLOCKS[block.operator](block, Numerics())
            seen = executed(module, torch.zeros(1, block.in_channels, 17, 17))
        sides = {At.INPUT: 17, At.OUTPUT: -(-17 // block.stride), At.IMAGE: 1}
        assert seen == [(layer.name, layer.stride, sides[layer.at]) for layer in layers(block)]
        after = getattr(module, "activation", None)
        wanted = block.final_activation and ACTIVATIONS[block.final_activation]
        assert (after and type(after)) is wanted


def test_every_operator_has_one_form_and_one_module():
    assert set(BLOCKS) == set(Operator)
    assert all(operator.form.parts[-1].writes is Channels.OUTPUT for operator in Operator)


def test_a_layer_is_on_the_path_that_its_block_runs_it_on():
    block = presets.load("resnet50").blocks()[0][0]
    assert block.shortcut is Skip.PROJECTION
    assert [(layer.name, layer.path) for layer in layers(block)] == [
        ("reduce", Path.MAIN),
        ("conv", Path.MAIN),
        ("expand", Path.MAIN),
        ("shortcut", Path.SHORTCUT),
    ]
