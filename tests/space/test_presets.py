"""Presets: the golden table of all of them, and what people meet when they ask for one."""

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.compound import scale
from space import presets
from space.architecture import Architecture
from space.cost import cost
from space.explain import operations
from space.memory import peak_memory
from space.validation import InvalidInput

GOLDEN = Path(__file__).with_name("golden_costs.csv")

#: What each scaled member was published with: its base, width, depth and resolution.
PUBLISHED = {
    # EfficientNet official code, `efficientnet_params`: width, depth, resolution.
    "efficientnet_b0": ("efficientnet_b0", 1.0, 1.0, 224),
    "efficientnet_b1": ("efficientnet_b0", 1.0, 1.1, 240),
    "efficientnet_b2": ("efficientnet_b0", 1.1, 1.2, 260),
    "efficientnet_b3": ("efficientnet_b0", 1.2, 1.4, 300),
    "efficientnet_b4": ("efficientnet_b0", 1.4, 1.8, 380),
    "efficientnet_b5": ("efficientnet_b0", 1.6, 2.2, 456),
    "efficientnet_b6": ("efficientnet_b0", 1.8, 2.6, 528),
    "efficientnet_b7": ("efficientnet_b0", 2.0, 3.1, 600),
    "efficientnet_b8": ("efficientnet_b0", 2.2, 3.6, 672),
    # EfficientNet-Lite official code, `efficientnet_lite_params`.
    "efficientnet_lite0": ("efficientnet_lite0", 1.0, 1.0, 224),
    "efficientnet_lite1": ("efficientnet_lite0", 1.0, 1.1, 240),
    "efficientnet_lite2": ("efficientnet_lite0", 1.1, 1.2, 260),
    "efficientnet_lite3": ("efficientnet_lite0", 1.2, 1.4, 280),
    "efficientnet_lite4": ("efficientnet_lite0", 1.4, 1.8, 300),
    # EfficientNetV2 official code, `efficientnetv2_params` (evaluation size).
    "efficientnet_v2_b0": ("efficientnet_v2_b0", 1.0, 1.0, 224),
    "efficientnet_v2_b1": ("efficientnet_v2_b0", 1.0, 1.1, 240),
    "efficientnet_v2_b2": ("efficientnet_v2_b0", 1.1, 1.2, 260),
    "efficientnet_v2_b3": ("efficientnet_v2_b0", 1.2, 1.4, 300),
    # MnasNet-B1's width multipliers, as torchvision ships them.
    "mnasnet_b1_050": ("mnasnet_b1_100", 0.5, 1.0, 224),
    "mnasnet_b1_075": ("mnasnet_b1_100", 0.75, 1.0, 224),
    "mnasnet_b1_100": ("mnasnet_b1_100", 1.0, 1.0, 224),
    "mnasnet_b1_130": ("mnasnet_b1_100", 1.3, 1.0, 224),
}


def golden_table() -> str:
    """The table of all presets, as CSV; `python tests/space/test_presets.py` writes it anew."""
    rows = []
    for name in presets.names():
        architecture = presets.load(name)
        work, memory = operations(architecture), peak_memory(architecture)
        rows.append(
            {"preset": name, "resolution": architecture.resolution}
            | cost(architecture)._asdict()
            | {key: getattr(work, key) for key in ("bias", "norm", "activation", "mean", "add")}
            | {"inference_bytes": memory.inference, "training_bytes": memory.training}
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_golden_table_is_reproduced():
    assert golden_table() == GOLDEN.read_text("utf-8")


def test_presets_are_those_that_are_promised():
    promised = [f"efficientnet_b{i}" for i in range(9)]
    promised += [f"efficientnet_lite{i}" for i in range(5)]
    promised += [f"efficientnet_v2_{size}" for size in ("s", "m", "l", "b0", "b1", "b2", "b3")]
    promised += ["mnasnet_a1", "mnasnet_small", "mobilenet_v1", "mobilenet_v2"]
    promised += [f"mnasnet_b1_{width}" for width in ("050", "075", "100", "130")]
    promised += ["mobilenet_v3_large", "mobilenet_v3_small", "wide_resnet50_2", "wide_resnet101_2"]
    promised += ["mobilenet_v4_conv_small", "mobilenet_v4_conv_medium"]
    promised += [f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 200)]
    assert sorted(presets.names()) == sorted(promised)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(InvalidInput, match="no 'efficientnet_B0'; did you mean 'efficientnet_b0'"):
        presets.load("efficientnet_B0")


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_comes_back_from_json(name):
    architecture = presets.load(name, num_classes=21_000)
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert architecture.num_classes == 21_000


@pytest.mark.parametrize("name", PUBLISHED)
def test_scaling_by_the_published_factors_gives_the_published_network(name):
    """The tables are written out, so this compares two sources; only what acts in training and
    numerics are each member's own."""
    of, width, depth, resolution = PUBLISHED[name]
    base, member = presets.load(of), presets.load(name)
    scaled = scale(base, depth=depth, width=width, resolution=resolution / base.resolution)
    assert replace(scaled, numerics=member.numerics, dropout=member.dropout) == member


def test_published_factors_are_those_of_the_reference(shared):
    text = (shared / "reference" / "efficientnet.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        factors = PUBLISHED[row["model"]][1:]
        assert factors == (float(row["width"]), float(row["depth"]), int(row["resolution"]))
        assert presets.load(row["model"]).dropout == float(row["dropout"])


if __name__ == "__main__":
    sys.stdout.write(f"{GOLDEN.write_text(golden_table(), 'utf-8')} characters in {GOLDEN}\n")
