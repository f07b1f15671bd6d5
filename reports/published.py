"""Published ImageNet results, drawn beside runs on ImageNet's thousand classes.

Each network was trained with its authors' own recipe, so the accuracies were not measured under
equal conditions. Parameters and MACs (the papers' "FLOPS") are rounded as printed.
"""

from __future__ import annotations

from typing import NamedTuple

#: Classes of ImageNet (ILSVRC 2012).
IMAGENET_CLASSES = 1000

#: Where the numbers are printed.
SOURCES = "EfficientNet, table 2 (Tan and Le 2019); MnasNet, table 1 (Tan and others 2019)"


class PublishedNetwork(NamedTuple):
    """A network: parameters, MACs for one image, top-1 accuracy on the validation images."""

    name: str
    params: int
    macs: int
    accuracy: float


NETWORKS = tuple(
    PublishedNetwork(name, round(params * 1e6), round(macs * 1e9), top1 / 100)
    for name, params, macs, top1 in (
        ("EfficientNet-B0", 5.3, 0.39, 77.1),
        ("EfficientNet-B1", 7.8, 0.70, 79.1),
        ("EfficientNet-B2", 9.2, 1.0, 80.1),
        ("EfficientNet-B3", 12, 1.8, 81.6),
        ("EfficientNet-B4", 19, 4.2, 82.9),
        ("EfficientNet-B5", 30, 9.9, 83.6),
        ("EfficientNet-B6", 43, 19, 84.0),
        ("EfficientNet-B7", 66, 37, 84.3),
        ("MobileNetV2", 3.4, 0.300, 72.0),
        ("MnasNet-A1", 3.9, 0.312, 75.2),
        ("MnasNet-A2", 4.8, 0.340, 75.6),
        ("MnasNet-A3", 5.2, 0.403, 76.7),
        ("ResNet-50", 26, 4.1, 76.0),
        ("ResNet-152", 60, 11, 77.8),
        ("DenseNet-169", 14, 3.5, 76.2),
        ("DenseNet-264", 34, 6.0, 77.9),
        ("Inception-v3", 24, 5.7, 78.8),
        ("Inception-v4", 48, 13, 80.0),
        ("Inception-ResNet-v2", 56, 13, 80.1),
        ("Xception", 23, 8.4, 79.0),
        ("ResNeXt-101", 84, 32, 80.9),
        ("PolyNet", 92, 35, 81.3),
        ("SENet", 146, 42, 82.7),
        ("NASNet-A", 89, 24, 82.7),
        ("AmoebaNet-A", 87, 23, 82.8),
        ("PNASNet", 86, 23, 82.9),
        ("AmoebaNet-C", 155, 41, 83.5),
    )
)


def for_classes(classes: int) -> tuple[PublishedNetwork, ...]:
    """The networks to draw beside a run with this number of classes: all, or none."""
    return NETWORKS if classes == IMAGENET_CLASSES else ()


class PublishedScaling(NamedTuple):
    """A network scaled by `rule` (`baseline`: not scaled), as the EfficientNet paper prints it."""

    base: str
    rule: str
    macs: int
    accuracy: float


#: Scaling of four networks on ImageNet (EfficientNet, tables 3 and 7).
SCALED = tuple(
    PublishedScaling(base, rule, round(macs * 1e9), top1 / 100)
    for base, rule, macs, top1 in (
        ("mobilenet_v1", "baseline", 0.6, 70.6),
        ("mobilenet_v1", "width", 2.2, 74.2),
        ("mobilenet_v1", "resolution", 2.2, 72.7),
        ("mobilenet_v1", "compound", 2.3, 75.6),
        ("mobilenet_v2", "baseline", 0.3, 72.0),
        ("mobilenet_v2", "depth", 1.2, 76.8),
        ("mobilenet_v2", "width", 1.1, 76.4),
        ("mobilenet_v2", "resolution", 1.2, 74.8),
        ("mobilenet_v2", "compound", 1.3, 77.4),
        ("resnet50", "baseline", 4.1, 76.0),
        ("resnet50", "depth", 16.2, 78.1),
        ("resnet50", "width", 14.7, 77.7),
        ("resnet50", "resolution", 16.4, 77.5),
        ("resnet50", "compound", 16.7, 78.8),
        ("efficientnet_b0", "baseline", 0.4, 77.3),
        ("efficientnet_b0", "depth", 1.8, 79.0),
        ("efficientnet_b0", "width", 1.8, 78.9),
        ("efficientnet_b0", "resolution", 1.9, 79.1),
        ("efficientnet_b0", "compound", 1.8, 81.1),
    )
)


def scaled(base: str) -> tuple[PublishedScaling, ...]:
    """The published rows of a baseline."""
    return tuple(row for row in SCALED if row.base == base)


#: The prefix in `NETWORKS` of the names of a base network's family.
_FAMILIES = {
    "efficientnet_b0": "EfficientNet-",
    "mnasnet_a1": "MnasNet-",
    "mobilenet_v2": "MobileNetV2",
    "resnet50": "ResNet-",
}


def family(base: str) -> tuple[PublishedNetwork, ...]:
    """The published networks of a base network's family, by rising MACs; may be empty."""
    own = (each for each in NETWORKS if base in _FAMILIES and each.name.startswith(_FAMILIES[base]))
    return tuple(sorted(own, key=lambda network: network.macs))
