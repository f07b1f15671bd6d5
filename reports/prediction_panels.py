"""The members' predictions, arranged for the report's template: a panel for each member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from reports.formatting import count, percent, shortened
from reports.load import Run
from reports.predictions import PredictionImages, picture, pictures
from reports.schema import rows
from reports.tables import Tables

#: Classes of the drawn matrix; if there are more, those that are most often confused.
MOST_CLASSES = 20
#: Classes up to which the cells of the matrix show their numbers.
_NUMBERED = 14
#: Classes listed with their accuracy: the hardest.
_HARDEST = 12
#: Pixels of a cell, about those of a letter, and letters of a name at most.
_CELL, _LETTER, _LONGEST = 26, 6.5, 14


def panels(run: Run, found: Tables) -> list[dict[str, Any]]:
    """Each member's mistakes, in the order of the family; empty if there are no predictions."""
    kept = pictures(run.path)
    return [_panel(member, found, kept) for member in found.confusions["member"].unique()]


def sentences(found: Tables) -> list[str]:
    """Each member's most frequent mistake, in a sentence."""
    return [
        _sentence(str(member), rows(pairs))
        for member, pairs in found.confusions.groupby("member", sort=False)
    ]


def _panel(member: str, found: Tables, kept: PredictionImages) -> dict[str, Any]:
    pairs, classes, wrong = (
        rows(table[table["member"] == member])
        for table in (found.confusions, found.class_accuracy, found.confused)
    )
    return {
        "member": member,
        "sentence": _sentence(member, pairs),
        "matrix": _matrix(pairs, [row["class"] for row in classes]),
        "classes": sorted(classes, key=lambda row: row["accuracy"])[:_HARDEST],
        "all_classes": len(classes),
        "confused": [
            row | {"picture": picture(kept.pixels[row["image"]])}
            for row in wrong
            if row["image"] in kept.pixels
        ],
    }


def _sentence(member: str, pairs: list[dict[str, Any]]) -> str:
    wrong = [row for row in pairs if row["label"] != row["predicted"]]
    mistakes, images = (sum(row["images"] for row in some) for some in (wrong, pairs))
    told = f"{member.upper()} gets {mistakes:,} of {images:,} test images wrong"
    if not wrong:
        return f"{told}."
    most = max(wrong, key=lambda row: row["images"])
    return (
        f"{told}; most often it predicts {most['predicted']} for {most['label']} "
        f"({most['images']:,} times)."
    )


def _matrix(pairs: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """The confusion matrix in pixels: rows are true classes, columns predicted ones.

    Shades from 0 to 8 rise with the part of the true class's images.
    """
    shown = _most_mistaken(pairs, classes)
    place = {name: _CELL * index for index, name in enumerate(shown)}
    names = [shortened(name, _LONGEST) for name in shown]
    totals: Counter[str] = Counter()
    for row in pairs:
        totals[row["label"]] += row["images"]
    cells = []
    for row in pairs:
        label, predicted, images = row["label"], row["predicted"], row["images"]
        if label in place and predicted in place:
            part = images / totals[label]
            cells.append(
                {
                    "x": place[predicted],
                    "y": place[label],
                    "right": label == predicted,
                    "shade": min(8, int(9 * part**0.5)),
                    "text": count(images) if len(shown) <= _NUMBERED else "",
                    "title": f"{label} predicted as {predicted}: {images:,} of "
                    f"{totals[label]:,} ({percent(part)})",
                }
            )
    return {
        "cells": cells,
        "names": [{"at": _CELL * (i + 0.5), "name": name} for i, name in enumerate(names)],
        "side": _CELL * len(shown),
        "margin": 16 + _LETTER * max(map(len, names)),
        "cell": _CELL,
        "left_out": len(classes) - len(shown),
    }


def _most_mistaken(pairs: list[dict[str, Any]], classes: list[str]) -> list[str]:
    if len(classes) <= MOST_CLASSES:
        return classes
    wrong: Counter[str] = Counter()
    for row in pairs:
        if row["label"] != row["predicted"]:
            wrong[row["label"]] += row["images"]
            wrong[row["predicted"]] += row["images"]
    most = sorted(classes, key=lambda name: -wrong[name])[:MOST_CLASSES]
    return [name for name in classes if name in most]


def activation_rows(run: Run, found: Tables) -> Iterator[dict[str, Any]]:
    """Some test images with the class activation maps and the answers of all members."""
    kept = pictures(run.path)
    for image, answers in found.activation_maps.groupby("image", sort=False):
        index = int(str(image))
        asked = rows(answers)
        yield {
            "image": index,
            "label": asked[0]["label"],
            "picture": picture(kept.pixels[index]),
            "members": [
                answer
                | {
                    "right": answer["label"] == answer["predicted"],
                    "picture": picture(kept.pixels[index], kept.maps[answer["member"]][index]),
                }
                for answer in asked
            ],
        }
