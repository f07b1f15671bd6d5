"""Published ImageNet results, drawn beside runs on ImageNet's thousand classes.

Each network was trained with its authors' own recipe, so the accuracies were not measured under
equal conditions. Parameters and MACs (the papers' "FLOPS") are rounded as printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from reports import timm_results
from reports.load import Run
from reports.published_gains import trained
from reports.schema import read_rows, rows

#: Classes of ImageNet (ILSVRC 2012).
IMAGENET_CLASSES = 1000

#: The sources of `published_networks.csv`.
SOURCES = "EfficientNet, table 2 (Tan and Le 2019); MnasNet, table 1 (Tan and others 2019)"

#: The prefix in `NETWORKS` of the names of a base network's family.
_FAMILIES = {
    "efficientnet_b0": "EfficientNet-",
    "mnasnet_a1": "MnasNet-",
    "mobilenet_v2": "MobileNetV2",
    "resnet50": "ResNet-",
}


class PublishedNetwork(NamedTuple):
    """A network: parameters, MACs for one image, top-1 accuracy on the validation images."""

    name: str
    params: int
    macs: int
    accuracy: float


class PublishedScaling(NamedTuple):
    """A network scaled by `rule` (`baseline`: not scaled), as the EfficientNet paper prints it."""

    base: str
    rule: str
    macs: int
    accuracy: float


def _macs_and_accuracy(row: dict[str, str]) -> tuple[int, float]:
    return round(float(row["macs_billions"]) * 1e9), float(row["top1_percent"]) / 100


NETWORKS = tuple(
    PublishedNetwork(
        row["name"], round(float(row["params_millions"]) * 1e6), *_macs_and_accuracy(row)
    )
    for row in read_rows("published_networks.csv")
)

#: Scaling of four networks on ImageNet (EfficientNet, tables 3 and 7).
SCALED = tuple(
    PublishedScaling(row["base"], row["rule"], *_macs_and_accuracy(row))
    for row in read_rows("published_scaling.csv")
)


def points(run: Run) -> list[dict[str, Any]]:
    """The networks to draw beside a run on as many classes as ImageNet has; none beside others.

    Those of the papers, or of the recipe's `report.published`, at the smallest resolution tested.
    """
    if run.num_classes != IMAGENET_CLASSES:
        return []
    if folder := _folder(run):
        columns = ["name", "params", "macs", "activations", "resolution", "accuracy"]
        return rows(trained(timm_results.load(Path(folder)))[columns])
    return [network._asdict() for network in NETWORKS]


def sources(run: Run) -> str:
    """Where `points` come from."""
    return "timm's results, report.published" if _folder(run) else SOURCES


def _folder(run: Run) -> str | None:
    folder: str | None = run.recipe.get("report", {}).get("published")
    return folder


def scaled(base: str) -> tuple[PublishedScaling, ...]:
    """The published rows of a baseline."""
    return tuple(row for row in SCALED if row.base == base)


def family(base: str) -> tuple[PublishedNetwork, ...]:
    """The published networks of a base network's family, by rising MACs; may be empty."""
    own = (each for each in NETWORKS if base in _FAMILIES and each.name.startswith(_FAMILIES[base]))
    return tuple(sorted(own, key=lambda network: network.macs))
