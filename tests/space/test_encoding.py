from dataclasses import replace

import numpy as np
import pytest

from space import choices, presets
from space.encoding import Encoder


@pytest.mark.parametrize("name", choices.names())
def test_every_space_contains_its_base_and_what_it_decodes(name: str) -> None:
    space = choices.load(name)
    encode = Encoder(space)
    found = encode(space.base)
    assert found is not None
    assert space.decode(found).key == space.base.key
    rng = np.random.default_rng(0)
    for _ in range(5):
        drawn = {n: v[rng.integers(len(v))] for n, v in space.choices.items()}
        architecture = space.decode(drawn)
        again = encode(architecture)
        assert again is not None
        assert space.decode(again).key == architecture.key


@pytest.mark.parametrize(
    ("space", "preset", "contained"),
    [
        ("mnasnet_a1", "mnasnet_a1", True),
        ("efficientnet", "efficientnet_b0", True),
        ("accel_nasbench", "efficientnet_b0", True),
        ("efficientnet_v2", "efficientnet_v2_s", True),
        ("mobilenet_v3", "mobilenet_v3_large", True),
        ("mnasnet", "mobilenet_v2", True),
        ("mnasnet", "mnasnet_a1", False),  # 112 channels are no multiple offered of 96
        ("mnasnet", "efficientnet_b0", False),
        ("accel_nasbench", "mobilenet_v2", False),
        ("accel_nasbench", "resnet18", False),
    ],
)
def test_space_contains_the_published_network(space: str, preset: str, contained: bool) -> None:
    encode = Encoder(choices.load(space))
    assert (encode(presets.load(preset)) is not None) == contained


def test_a_space_of_several_resolutions_knows_which_a_network_has() -> None:
    space = choices.load("mnasnet_small")
    space = replace(space, choices={"resolution": (32, 24), **space.choices})
    encode = Encoder(space)
    found = encode(replace(space.base, resolution=24))
    assert found is not None
    assert found["resolution"] == 24
    assert encode(replace(space.base, resolution=28)) is None


def test_network_for_other_data_is_not_of_the_space() -> None:
    encode = Encoder(choices.load("efficientnet"))
    b0 = presets.load("efficientnet_b0")
    assert encode(replace(b0, num_classes=10)) is None
    assert encode(replace(b0, resolution=192)) is None
