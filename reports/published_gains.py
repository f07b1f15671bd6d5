"""What published ImageNet networks say of scaling: points per doubling of MACs, and time.

`published_lines.csv` names networks that differ in depth alone, in width alone, or along the rule
of their family (`compound`), as their papers say; lines without a dimension are families that
follow no such rule. Accuracies and costs are those of `reports.timm_results`. The smallest
resolution at which a network was tested stands for the one it was trained at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from reports.schema import read_rows
from reports.statistics import LEVEL, Estimate, clustered
from reports.timm_results import TimmResults

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.bool_]], float]

#: Below this, the files round MACs (to hundredths of a billion) by more than 5 %.
_LEAST_MACS = 1e8

#: A line that grows less says nothing of a doubling (assumed).
_LEAST_GROWTH = 1.2

#: What a trained network that is tested at more pixels grows in.
TESTED = "test resolution"

#: The costs that may foretell time, as people call them.
COSTS = {"macs": "MACs", "activations": "activations", "params": "parameters"}


def collect(results: TimmResults) -> dict[str, Any]:
    """All tables, each a list of plain rows, and how many rows they come from."""
    networks, found = trained(results), gains(results)
    return {
        "counts": {
            "accuracies": len(results.networks),
            "networks": len(networks),
            "architectures": int(networks["network"].nunique()),
            "recipes": int(networks["recipe"].nunique()),
        },
        "dimensions": _dimensions(found),
        "differences": _differences(found),
        "families": _families(networks),
        "recipes": _recipes(found),
        "compound": _compound(against_compound(results)),
        "times": _times(results.times),
        "missing": list(results.missing),
        "sha256": dict(results.hashes),
    }


# --------------------------------------------------------------------------------------- lines


def trained(results: TimmResults) -> pd.DataFrame:
    """A row for each trained network, at the smallest resolution it was tested at."""
    found = results.networks.sort_values(["resolution", "name"], kind="stable")
    return found.drop_duplicates("name")


def lines(networks: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The networks of each line that one recipe trained, two or more, by rising MACs.

    Those of a line of depth or width have one resolution. Adds the columns `family` and
    `dimension`.
    """
    for line in read_rows("published_lines.csv"):
        own = networks[networks["network"].isin(line["networks"].split())]
        fixed = line["dimension"] in ("depth", "width")
        for _, some in own.groupby(["recipe", "resolution"] if fixed else ["recipe"]):
            yield from _grown(some, line["family"], line["dimension"])


def families(networks: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """All networks of a family that one recipe trained, three or more over two doublings."""
    members: dict[str, set[str]] = {}
    for line in read_rows("published_lines.csv"):
        members.setdefault(line["family"], set()).update(line["networks"].split())
    for family, names in members.items():
        own = networks[networks["network"].isin(names)]
        for _, some in own.groupby("recipe"):
            for grown in _grown(some, family, ""):
                low, high = _ends(grown)
                if len(grown) > 2 and high >= 4 * low:
                    yield grown


def _grown(some: pd.DataFrame, family: str, dimension: str) -> Iterator[pd.DataFrame]:
    """A line, unless it has too few networks or grows too little."""
    some = some[some["macs"] >= _LEAST_MACS].sort_values("macs", kind="stable")
    if len(some) > 1 and _ends(some)[1] >= _LEAST_GROWTH * _ends(some)[0]:
        yield some.assign(family=family, dimension=dimension)


def _ends(line: pd.DataFrame) -> tuple[int, int]:
    """The MACs of the smallest and of the largest network."""
    return line["macs"].iloc[0], line["macs"].iloc[-1]


# --------------------------------------------------------------------------------------- gains


def gains(results: TimmResults) -> pd.DataFrame:
    """A row for each line of a recipe, and for each network that was tested at more pixels.

    `gain` is the accuracy gained per doubling of MACs (least squares), `removed` the part of the
    errors that a doubling removes, `networks` names those of the line.
    """
    import pandas as pd

    tested = (
        grown
        for name, some in results.networks.groupby("name")
        for grown in _grown(some, str(name), TESTED)
    )
    found = [_gain(line) for line in (*lines(trained(results)), *tested)]
    columns = ("family", "dimension", "recipe", "maker", "networks", "gain", "removed")
    return pd.DataFrame(found, columns=columns)


def _gain(line: pd.DataFrame) -> dict[str, Any]:
    import numpy as np

    doublings = np.log2(line["macs"])
    gain, _ = np.polyfit(doublings, line["accuracy"], 1)
    errors, _ = np.polyfit(doublings, np.log2(1 - line["accuracy"]), 1)
    return {
        **line[["family", "dimension", "recipe", "maker"]].iloc[0],
        "networks": " ".join(line["network"]),
        "gain": float(gain),
        "removed": float(1 - 2**errors),
    }


def _dimensions(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The mean over the lines of each dimension; lines share recipes, and makers of networks."""
    return [
        {"dimension": name, "recipes": some["recipe"].nunique(), "makers": some["maker"].nunique()}
        | _columns("gain", _mean(some, "gain", "recipe", "maker"))
        | _columns("removed", _mean(some, "removed", "recipe", "maker"))
        for name, some in found[found["dimension"] != ""].groupby("dimension", sort=False)
    ]


def _mean(table: pd.DataFrame, column: str, *clusters: str) -> Estimate:
    values = table[column].to_numpy()
    return clustered(lambda kept: float(values[kept].mean()), *(table[name] for name in clusters))


def _mean_of(values: NDArray[np.float64], own: NDArray[np.bool_]) -> Statistic:
    """The mean of `own` rows; not a number where none is kept."""
    return lambda kept: float(values[kept & own].mean()) if (kept & own).any() else math.nan


def _difference(one: Statistic, other: Statistic) -> Statistic:
    return lambda kept: one(kept) - other(kept)


def _differences(found: pd.DataFrame) -> list[dict[str, Any]]:
    """How much more of the errors one dimension removes than another, for each two."""
    every = found["dimension"][found["dimension"] != ""].unique()
    pairs = list(combinations(every, 2))
    made = []
    for one, other in pairs:
        some = found[found["dimension"].isin([one, other])]
        values = some["removed"].to_numpy()
        means = (_mean_of(values, (some["dimension"] == each).to_numpy()) for each in (one, other))
        ahead = _difference(*means)
        estimate = clustered(ahead, some["recipe"], some["maker"], comparisons=len(pairs))
        made.append({"one": one, "other": other} | _columns("removed", estimate))
    return made


def _families(networks: pd.DataFrame) -> list[dict[str, Any]]:
    """The mean gain of each family over its recipes."""
    groups: dict[str, list[float]] = {}
    for line in families(networks):
        groups.setdefault(line["family"].iloc[0], []).append(_gain(line)["gain"])
    return _pooled("family", groups, LEVEL)


def _recipes(found: pd.DataFrame) -> list[dict[str, Any]]:
    """How much more a line gains with each recipe than with the others that trained it.

    Only recipes that share two lines or more, of the same networks, with others; their intervals
    hold together.
    """
    ahead: dict[str, list[float]] = {}
    own = found[found["dimension"].isin(["depth", "width", "compound"])]
    for _, line in own.groupby("networks"):
        by_recipe = line.groupby("recipe")["gain"].mean()
        for recipe, gain in by_recipe.items() if len(by_recipe) > 1 else ():
            ahead.setdefault(str(recipe), []).append(float(gain - by_recipe.drop(recipe).mean()))
    several = {recipe: values for recipe, values in ahead.items() if len(values) > 1}
    return _pooled("recipe", several, 1 - (1 - LEVEL) / max(1, len(several)))


def _pooled(what: str, groups: Mapping[str, list[float]], level: float) -> list[dict[str, Any]]:
    """Means, the greatest first, with Student's interval; the deviation is pooled over groups."""
    from scaling.comparison import half_widths

    made = []
    halves = half_widths(list(groups.values()), level)
    for (name, values), half in zip(groups.items(), halves, strict=True):
        mean = sum(values) / len(values)
        estimate = Estimate(mean, mean - half, mean + half, len(values))
        made.append({what: name} | _columns("gain", estimate))
    return sorted(made, key=lambda row: -row["gain"])


def _columns(name: str, estimate: Estimate) -> dict[str, Any]:
    """A statistic with its interval; None where there is none."""
    known = math.isfinite(estimate.high)
    return {
        "n": estimate.n,
        name: None if math.isnan(estimate.value) else estimate.value,
        f"{name}_low": estimate.low if known else None,
        f"{name}_high": estimate.high if known else None,
        f"{name}_told_apart": known and estimate.told_apart,
    }


# --------------------------------------------------------------------- compound against single


def against_compound(results: TimmResults) -> pd.DataFrame:
    """How far compound scaling is `ahead` of networks that grew in one dimension, at their MACs.

    A row for each network of a line of depth or width of the same family and recipe, and for each
    network of the compound line that was tested at more pixels. Between its networks, the compound
    line's accuracy is interpolated over the logarithm of MACs; it is never extrapolated.
    """
    import numpy as np
    import pandas as pd

    every, found = list(lines(trained(results))), []
    for line in every:
        family, dimension, recipe = line[["family", "dimension", "recipe"]].iloc[0]
        if dimension != "compound":
            continue
        tested = results.networks[results.networks["name"].isin(line["name"])]
        for single in (tested.assign(family=family, dimension=TESTED), *every):
            kind = single[["family", "dimension", "recipe"]].iloc[0]
            if kind["family"] != family or kind["dimension"] == dimension:
                continue
            more = single[(single["recipe"] == recipe) & single["macs"].between(*_ends(line))]
            more = more[~more["macs"].isin(line["macs"])]
            level = np.interp(np.log2(more["macs"]), np.log2(line["macs"]), line["accuracy"])
            found.append(more.assign(ahead=level - more["accuracy"]))
    columns = ["family", "dimension", "recipe", "name", "resolution", "macs", "ahead"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def _compound(ahead: pd.DataFrame) -> list[dict[str, Any]]:
    """How far compound scaling is ahead of each dimension, on average and by family."""
    return [
        {"dimension": dimension}
        | _columns("ahead", _mean(some, "ahead", "family"))
        | {"families": some.groupby("family")["ahead"].mean().to_dict()}
        for dimension, some in ahead.groupby("dimension")
    ]


# ----------------------------------------------------------------------------------------- time


def _times(times: pd.DataFrame) -> list[dict[str, Any]]:
    """How well each cost foretells the time of an image: Kendall's τ over networks, by device.

    `ahead` is how much better activations do than MACs.
    """
    made = []
    for device, some in times.groupby("device", sort=False):
        taus = {cost: _tau(some[cost].to_numpy(), some["seconds"].to_numpy()) for cost in COSTS}
        row: dict[str, Any] = {"device": device, "makers": some["maker"].nunique()}
        for cost, tau in taus.items():
            row |= _columns(cost, clustered(tau, some["maker"]))
        one, other = taus["activations"], taus["macs"]
        ahead = clustered(_difference(one, other), some["maker"])
        made.append(row | _columns("ahead", ahead))
    return made


def _tau(cost: NDArray[np.float64], seconds: NDArray[np.float64]) -> Statistic:
    from scipy.stats import kendalltau

    return lambda kept: float(kendalltau(cost[kept], seconds[kept]).statistic)
