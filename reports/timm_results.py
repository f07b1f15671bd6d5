"""timm's tables of results: the accuracy of published networks on ImageNet, their costs and times.

The folder is `results/` of a checkout of timm, or a copy: https://github.com/huggingface/
pytorch-image-models/tree/main/results. Nothing of it is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.load import readable
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

_ACCURACY = "results-imagenet.csv"
_TIMES = "benchmark-infer-*.csv"

#: Recipes that name the images of their training alone: each family has its own.
_UNNAMED = re.compile(r"in\d+k|dist_in1k")

#: The columns of a benchmark, and what they are here. Counts have two decimals of a unit.
_COSTS = {"param_count": "params", "infer_gmacs": "macs", "infer_macts": "activations"}
_TEXTS = ("name", "network")
#: The largest number of a table (assumed: images a second, the others are far below).
_MOST = 1_000_000_000
_UNITS = {"params": 1e6, "macs": 1e9, "activations": 1e6}


@dataclass(frozen=True)
class TimmResults:
    """What a folder holds.

    `networks` has a row for each trained network and test resolution: `name`, `network` (without
    its recipe), `recipe`, `maker` (the letters that the name begins with), `resolution` in pixels,
    `accuracy` (top-1 on ImageNet's 50,000 validation images), `params`, `macs` and `activations`.
    `times` has the `seconds` of an image for each `device`, network and resolution. `missing` says
    what is not there, and what follows; `hashes` has the SHA-256 of each file.
    """

    networks: pd.DataFrame
    times: pd.DataFrame
    missing: Sequence[str]
    hashes: Mapping[str, str]


def load(folder: Path) -> TimmResults:
    """Reads the tables of a folder; raises `InvalidInput` where it has no costs, or is damaged."""
    import pandas as pd

    benchmarks = sorted(folder.glob(_TIMES))
    if not benchmarks:
        raise InvalidInput(
            f"{folder}: has no {_TIMES}, which hold the costs of networks; give the folder "
            "`results` of a checkout of timm"
        )
    missing = []
    times = pd.concat([_times(path) for path in benchmarks], ignore_index=True)
    costs = times.drop_duplicates(["network", "resolution"]).drop(columns=["device", "seconds"])
    path = folder / _ACCURACY
    if path.is_file():
        networks = _accuracies(path).merge(costs, on=["network", "resolution"])
    else:
        missing.append(f"{path}: not found, so nothing is said of accuracy")
        networks = costs.assign(accuracy=0.0, name="", recipe="").iloc[:0]
    read = [path, *benchmarks] if path.is_file() else benchmarks
    hashes = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in read}
    return TimmResults(_named(networks), _named(times), missing, hashes)


def _read(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    with readable(path, "timm's results", "copy it from timm's repository again"):
        table = pd.read_csv(path, thousands=",", usecols=list(columns)).rename(columns=columns)
        numbers = dict.fromkeys(columns.values(), "float64") | {"resolution": "int64"}
        table = table.astype({key: kind for key, kind in numbers.items() if key not in _TEXTS})
        if table.empty:
            raise ValueError("it has no rows")
        found = table.select_dtypes("number").to_numpy()
        if not ((found >= 0) & (found <= _MOST)).all():
            raise ValueError(f"every number must be given and lie between 0 and {_MOST:,}")
        return table


def _accuracies(path: Path) -> pd.DataFrame:
    columns = {"model": "name", "img_size": "resolution", "top1": "accuracy"}
    table = _read(path, columns)
    table["accuracy"] /= 100
    table[["network", "recipe"]] = table["name"].str.partition(".")[[0, 2]]
    return table


def _times(path: Path) -> pd.DataFrame:
    columns = {"model": "network", "infer_img_size": "resolution", "infer_samples_per_sec": "rate"}
    table = _read(path, columns | _COSTS)
    for name, unit in _UNITS.items():
        table[name] = (unit * table[name]).round().astype(int)
    device = path.stem.removeprefix("benchmark-infer-")
    return table.assign(device=device, seconds=1 / table["rate"]).drop(columns="rate")


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the `maker` of each network; a recipe without a name gets it."""
    maker = table["network"].str.extract(r"^(?:tf_|dm_)?([a-z]+)", expand=False)
    table = table.assign(maker=maker)
    if "recipe" in table:
        unnamed = table["recipe"].str.match(_UNNAMED)
        table["recipe"] = table["recipe"].mask(unnamed, table["recipe"] + " of " + maker)
    return table
