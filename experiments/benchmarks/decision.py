"""How often the report's recommendation is right, over simulated families whose truth is known.

    python -m experiments.benchmarks.decision

Each simulated family has members of known accuracies, tested on the same images. An image has a
difficulty that all members share, so that their answers go together as those of real networks do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from reports.recommendation import compare_members, recommend
from reports.schema import rows
from reports.statistics import interval
from space.files import write_file

RESULT = Path("experiments/results/decision.json")
#: Simulated families of each truth.
FAMILIES = 400
#: The correlation of two members' chances of being right about an image (assumed).
SHARED = 0.7
#: The true accuracies of members, each of twice the MACs of the one before.
TRUTHS: dict[str, tuple[float, ...]] = {
    "all equal": (0.97, 0.97, 0.97, 0.97),
    "rising by 1 point": (0.94, 0.95, 0.96, 0.97),
    "rising, then level": (0.90, 0.94, 0.95, 0.95),
    "falling by 1 point": (0.97, 0.96, 0.95, 0.94),
}
IMAGES = (300, 1_000, 3_000)


def family(truth: Sequence[float], images: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A simulated family and its answers, as `tables.family` and `predictions.answers` give them.

    The label of every image is `right`; who errs says `wrong`.
    """
    draw = np.random.default_rng(seed)
    difficulty = np.sqrt(SHARED) * draw.standard_normal((1, images))
    own = np.sqrt(1 - SHARED) * draw.standard_normal((len(truth), images))
    right: NDArray[np.bool_] = difficulty + own < np.asarray(norm.ppf(truth))[:, None]
    names = [f"b{index}" for index in range(len(truth))]
    members = pd.DataFrame(
        {"name": name, "macs": 10**6 * 2**index} | interval(float(right[index].mean()), images)
        for index, name in enumerate(names)
    )
    answers = pd.DataFrame(
        {
            "member": np.repeat(names, images),
            "image": np.tile(np.arange(images), len(names)),
            "label": "right",
            "predicted": np.where(right.ravel(), "right", "wrong"),
        }
    )
    return members, answers


def simulate(truth: Sequence[float], images: int, families: int = FAMILIES) -> dict[str, Any]:
    """What is stated about `families` simulated families, beside what is true.

    Of the recommended member's comparisons with all others, `false_statements` is the share of
    families of which any is told apart in the wrong direction, or without a difference;
    `missed_intervals` that of which any interval lacks the true difference. `regret` is by how much
    the recommended member is truly less accurate than the best.
    """
    names = [f"b{index}" for index in range(len(truth))]
    true = dict(zip(names, truth, strict=True))
    false, missed, regret, chosen = 0, 0, 0.0, dict.fromkeys(names, 0)
    for seed in range(families):
        members, answers = family(truth, images, seed)
        table = compare_members(members, answers)
        advice = recommend(members, table)
        assert advice is not None  # it has members
        shown = table[(table["member"] == advice.member) | (table["other"] == advice.member)]
        gaps = [(row, true[row["other"]] - true[row["member"]]) for row in rows(shown)]
        false += any(row["told_apart"] and row["difference"] * gap <= 0 for row, gap in gaps)
        missed += any(not row["low"] <= gap <= row["high"] for row, gap in gaps)
        chosen[advice.member] += 1
        regret += max(truth) - true[advice.member]
    return {
        "false_statements": false / families,
        "missed_intervals": missed / families,
        "regret": regret / families,
        "recommended": {name: times / families for name, times in chosen.items()},
    }


def main() -> None:
    """Simulates every truth with every number of test images, and writes the result."""
    found = [
        {"truth": name, "accuracies": truth, "images": images} | simulate(truth, images)
        for name, truth in TRUTHS.items()
        for images in IMAGES
    ]
    for row in found:
        print({name: value for name, value in row.items() if name != "accuracies"})
    result = {"families": FAMILIES, "correlation": SHARED, "cases": found}
    write_file(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
