"""The measured memory of LiteRT for Microcontrollers, and what the product makes of it."""

import json

import numpy as np
import pytest

from experiments.benchmarks import arena
from space.device import litert_micro

UNITS = json.loads(arena.RESULT.read_text("utf-8"))["units"]


def test_what_the_runtime_takes_in_the_lite_space_is_as_measured() -> None:
    own = [n for n, unit in enumerate(UNITS) if unit["space"] == "efficientnet_lite_small"]
    assert len(own) == 34
    for number in own:
        unit = UNITS[number]
        _, network = arena.drawn(number, np.random.default_rng(number))
        assert network.key == unit["key"]
        estimate = litert_micro(network)
        assert estimate.sram == pytest.approx(unit["tail"], rel=0.005)
        assert estimate.flash == pytest.approx(unit["file"] - unit["flash"], rel=0.025)
        assert 1 <= unit["head"] / unit["sram"] <= 16 / 15 + 1e-9  # gaps: 1/16 of all
