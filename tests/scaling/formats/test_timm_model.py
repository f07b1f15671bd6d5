"""timm_model.py: timm's blocks with the same weights, whole and as a backbone."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scaling.formats import WEIGHTS, timm
from space import presets


@pytest.mark.parametrize(
    ("name", "stem_stride"),
    [
        ("efficientnet_lite0", 1),
        ("efficientnet_v2_b0", 2),
        ("mnasnet_b1_050", 2),
        ("mobilenet_v1", 2),
        ("mobilenet_v3_small", 2),
        ("mobilenet_v4_conv_small", 2),
    ],
)
def test_timm_computes_the_same_logits_and_maps(
    name, stem_stride, portable, trained, tmp_path, request
):
    library = request.getfixturevalue("timm")
    preset = presets.load(name, num_classes=10)
    architecture = replace(preset, stem=replace(preset.stem, stride=stem_stride), resolution=65)
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    network, given = trained(architecture, images), portable(architecture, name=f"pets-{name}")
    save_file(network.state_dict(), tmp_path / WEIGHTS)
    code = timm.source(given).encode()
    logits = timm.open_(code, tmp_path / timm.FILE, given)(images.numpy())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        backbone = library.create_model(given.identifier, pretrained=True, features_only=True)
        expected = network(images).numpy()
        assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
        maps, ours = backbone.eval()(images), network.features(images)
    assert len(maps) == len(ours)
    for found, one in zip(maps, ours, strict=True):
        assert (found - one).abs().max() <= 1e-4 * one.abs().max()
    assert backbone.feature_info.channels() == [each.shape[1] for each in ours]
    strides = {architecture.stem.stride, *architecture.strides[1:]}
    assert backbone.feature_info.reduction() == sorted(strides)
