"""A search space around one network, such as a published one whose weights are to be inherited.

Every choice is a little less or more of what the network is, so that all of the space's networks
inherit most of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from space import presets
from space.architecture import Architecture, Operator, Stage

#: Pixels, most of them an eighth more than the one before at most, so that bounds of MACs can be
#: met nearly (assumed).
_RESOLUTIONS = (
    *(16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 88, 96, 104, 112, 120, 128),
    *(144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448, 480, 512, 576, 600),
)
_KERNELS, _EXPANSIONS = (3, 5, 7), (3, 4, 6)
_WIDTHS, _LAYERS = (0.5, 0.75, 1.0, 1.25), (-2, -1, 0, 1)


def space_around(architecture: Architecture, description: str) -> dict[str, Any]:
    """The content of a space's YAML file: `architecture`, and what is a step away from it.

    Stages may have half to 1.25 times its channels, two layers less to one more, the neighbours of
    its kernels, and smaller expansions. The resolution may be the network's own, or less.

    >>> from space.around import space_around
    >>> from space.presets import load
    >>> space_around(load("efficientnet_lite0"), "around Lite0")["stages"]["2"]["kernel"]
    [3, 5]
    """
    own = architecture.resolution
    return {
        "description": description,
        "base": _base(architecture),
        "resolution": [*(each for each in _RESOLUTIONS if each < own), own],
        "choices": {"width": list(_WIDTHS)},
        "stages": {
            str(number): _choices(stage) for number, stage in enumerate(architecture.stages, 1)
        },
    }


def _base(architecture: Architecture) -> str | dict[str, Any]:
    for name in presets.names():
        if presets.load(name, architecture.num_classes) == architecture:
            return name
    return architecture.to_dict()


def _choices(stage: Stage) -> dict[str, list[Any]]:
    choices: dict[str, list[Any]] = {"layers": _layers(stage.repeats)}
    if stage.operator is not Operator.CONV and stage.kernel in _KERNELS:
        choices["kernel"] = _near(stage.kernel, _KERNELS)
    if stage.operator.expands:
        smaller = [each for each in _EXPANSIONS if each < stage.expansion]
        choices["operator"] = [f"{stage.operator}_e{e}" for e in (*smaller, stage.expansion)]
    return {kind: values for kind, values in choices.items() if len(values) > 1}


def _near(value: int, values: Sequence[int]) -> list[int]:
    """`value` and its neighbours among `values`."""
    place = values.index(value)
    return list(values[max(0, place - 1) : place + 2])


def _layers(repeats: int) -> list[int]:
    """Differences of repeats that give different numbers of layers, at least one."""
    return [change for change in _LAYERS if repeats + change >= 1]
