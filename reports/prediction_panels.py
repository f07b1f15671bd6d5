"""The members' predictions, arranged as the report's template shows them: a panel a member."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reports.formatting import count, percent, shortened
from reports.load import Run
from reports.predictions import PredictionImages, picture, pictures
from reports.schema import rows
from reports.tables import Tables

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Classes of the drawn matrix; of more, those that are most often mistaken are drawn.
MOST_CLASSES = 20
#: Classes up to which each cell of the matrix says its number.
_NUMBERED = 14
#: Classes listed with their accuracy: the hardest.
_HARDEST = 12
#: Pixels of a cell, and about those of a letter of a name; letters of a name at most.
_CELL, _LETTER, _LONGEST = 26, 6.5, 14


def panels(run: Run, found: Tables) -> list[dict[str, Any]]:
    """What each member mistook, in the order of the family; empty where no member was asked."""
    if found.confusions.empty:
        return []
    kept = pictures(run)
    return [
        _panel(str(member), found, kept) for member in dict.fromkeys(found.confusions["member"])
    ]


def sentences(found: Tables) -> list[str]:
    """What each member mistook most often, a sentence each."""
    members = dict.fromkeys(found.confusions["member"])
    return [
        _sentence(str(member), rows(found.confusions[found.confusions["member"] == member]))
        for member in members
    ]


def _panel(member: str, found: Tables, kept: PredictionImages) -> dict[str, Any]:
    pairs = rows(found.confusions[found.confusions["member"] == member])
    classes = rows(found.class_accuracy[found.class_accuracy["member"] == member])
    wrong = rows(found.confused[found.confused["member"] == member])
    return {
        "member": member,
        "sentence": _sentence(member, pairs),
        "matrix": _matrix(pairs, [row["class"] for row in classes]),
        "classes": sorted(classes, key=lambda row: row["accuracy"])[:_HARDEST],
        "all_classes": len(classes),
        "confused": [
            row | {"picture": _embedded(kept.pixels[row["image"]])}
            for row in wrong
            if row["image"] in kept.pixels
        ],
    }


def _sentence(member: str, pairs: list[dict[str, Any]]) -> str:
    mistakes = sum(row["images"] for row in pairs if row["label"] != row["predicted"])
    images = sum(row["images"] for row in pairs)
    told = f"{member.upper()} gets {mistakes:,} of {images:,} test images wrong"
    wrong = [row for row in pairs if row["label"] != row["predicted"]]
    if not wrong:
        return f"{told}."
    most = max(wrong, key=lambda row: row["images"])
    return (
        f"{told}; most often it predicts {most['predicted']} for {most['label']} "
        f"({most['images']:,} times)."
    )


def _matrix(pairs: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """The confusion matrix in pixels: rows are what images show, columns what they were taken for.

    Shades from 0 to 8 are parts of the class's images.
    """
    shown = _most_mistaken(pairs, classes)
    place = {name: index for index, name in enumerate(shown)}
    totals = dict.fromkeys(classes, 0)
    for row in pairs:
        totals[row["label"]] += row["images"]
    cells = [
        {
            "x": _CELL * place[row["predicted"]],
            "y": _CELL * place[row["label"]],
            "right": row["label"] == row["predicted"],
            "shade": min(8, int(9 * (row["images"] / totals[row["label"]]) ** 0.5)),
            "text": count(row["images"]) if len(shown) <= _NUMBERED else "",
            "title": f"{row['label']} predicted as {row['predicted']}: {row['images']:,} of "
            f"{totals[row['label']]:,} ({percent(row['images'] / totals[row['label']])})",
        }
        for row in pairs
        if row["label"] in place and row["predicted"] in place
    ]
    return {
        "cells": cells,
        "names": [
            {"at": _CELL * index + _CELL / 2, "name": shortened(name, _LONGEST)}
            for index, name in enumerate(shown)
        ],
        "side": _CELL * len(shown),
        "margin": 16 + _LETTER * max(len(shortened(name, _LONGEST)) for name in shown),
        "cell": _CELL,
        "left_out": len(classes) - len(shown),
    }


def _most_mistaken(pairs: list[dict[str, Any]], classes: list[str]) -> list[str]:
    if len(classes) <= MOST_CLASSES:
        return classes
    wrong = dict.fromkeys(classes, 0)
    for row in pairs:
        if row["label"] != row["predicted"]:
            wrong[row["label"]] += row["images"]
            wrong[row["predicted"]] += row["images"]
    most = sorted(classes, key=lambda name: -wrong[name])[:MOST_CLASSES]
    return [name for name in classes if name in set(most)]


def _embedded(pixels: NDArray[np.uint8], evidence: NDArray[np.float32] | None = None) -> str:
    return base64.b64encode(picture(pixels, evidence)).decode()


def activation_rows(run: Run, found: Tables) -> Iterator[dict[str, Any]]:
    """Some test images, each as every member sees it: lit where the evidence for its class is."""
    kept = pictures(run)
    for image, answers in found.activation_maps.groupby("image", sort=False):
        index = int(str(image))
        asked = rows(answers)
        yield {
            "image": index,
            "label": asked[0]["label"],
            "picture": _embedded(kept.pixels[index]),
            "members": [
                answer
                | {
                    "right": answer["label"] == answer["predicted"],
                    "picture": _embedded(kept.pixels[index], kept.maps[answer["member"]][index]),
                }
                for answer in asked
            ],
        }
