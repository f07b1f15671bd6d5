"""Learned growth on a table of measured networks: the rule `learned`, with look-ups for training.

    runs/NAME/  recipe.yaml  growth.json  lookups.csv  growth.png

docs/scaling.md says what a table looks like. Only its rows are candidates, and what is not in it is
refused: nothing is interpolated.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import config
from experiments.data.messages import reason_of
from experiments.progress import log
from experiments.runs.recipe_changes import changed
from experiments.stages.growth import growth_model
from experiments.studies.recipes import TableRecipe
from reports import figure_style
from reports.figures import growth as growth_figure
from reports.formatting import to_csv
from scaling.coefficients import PUBLISHED
from scaling.growth import Candidates, Floats, Grown, Request, search
from space.files import read_text, write_file
from space.validation import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

#: What columns are called, in spellings that tables of others use; a bare stage is its width.
_KINDS = {"d": "depth"}
_STAGE = re.compile(
    r"(?P<kind>widths?|depths?|w|d|s|stage|block|m|mult|multipliers?)(?:_mult)?[._ ]?(?:stage)?"
    r"[._ ]?(?P<number>\d+)"
    r"|(?:stage|block|s)[._ ]?(?P<place>\d+)[._ ](?P<of>width|depth|w|d|m|mult|multiplier)"
    r"(?:_mult)?"
)
_RESOLUTION = re.compile(r"res|resolution|r")
_ACCURACY = re.compile(
    r"(?:(?:val|test)[._ ]?)?(?:accurac(?:y|ies)|acc|top1|seed)[._ ]?(?:seed)?[._ ]?(\d*)"
)
_COSTS = {"madds": "macs", "mult_adds": "macs", "multiply_adds": "macs"}

#: How far below a target a candidate may cost, as a fraction (assumed).
_BELOW = 0.1


@dataclass(frozen=True)
class GrowthTable:
    """N measured networks: `multipliers` of K `columns`, `accuracy` with S `seeds`, and `cost`.

    `rows` are their rows in the file, from 1; where each seed has one, the first.
    """

    columns: tuple[str, ...]
    multipliers: Floats
    seeds: tuple[str, ...]
    accuracy: Floats
    cost: Floats
    rows: tuple[int, ...]

    @property
    def combinations(self) -> int:
        """How many settings there would be, of the values that each column has."""
        return math.prod(len(np.unique(column)) for column in self.multipliers.T)

    def setting(self, row: int) -> dict[str, float]:
        """The multipliers of a row, by column."""
        return dict(zip(self.columns, self.multipliers[row].tolist(), strict=True))

    def candidates(self, targets: Sequence[float]) -> Candidates:
        """The rows that cost up to 10 % less than each target.

        The first of a pool is compound scaling's: the row nearest to it in all multipliers and in
        cost. Raises `InvalidInput` for a target without rows.
        """
        settings = np.log(self.multipliers)
        letters = {"depth": PUBLISHED.alpha, "width": PUBLISHED.beta, "resolution": PUBLISHED.gamma}
        uniform = np.log([letters[re.sub(r"\d+", "", name)] for name in self.columns])
        uniform /= np.linalg.norm(uniform)
        off = np.linalg.norm(settings - np.outer(settings @ uniform, uniform), axis=1)
        off /= math.sqrt(len(self.columns))
        pools = []
        for target in targets:
            pool = np.flatnonzero((self.cost <= target) & (self.cost >= (1 - _BELOW) * target))
            if not len(pool):
                below, above = self.cost[self.cost < target], self.cost[self.cost > target]
                near = [f"{max(below):,.12g}" if len(below) else "none below"]
                near += [f"{min(above):,.12g}" if len(above) else "none above"]
                raise InvalidInput(
                    f"family.targets: {target:,.12g}: no row of the table costs from "
                    f"{100 * (1 - _BELOW):.0f} % to 100 % of it; the nearest cost "
                    f"{' and '.join(near)}"
                )
            distance = off[pool] + np.log(target / self.cost[pool])
            pools.append(tuple(pool[np.argsort(distance, kind="stable")].tolist()))
        return Candidates(settings, self.cost, tuple(pools))


def read(path: Path, cost: str) -> GrowthTable:
    """The table in a CSV or JSON file, with its column `cost`.

    Raises `InvalidInput`, naming the column or the row, for what is missing, is not a number, or
    is listed twice.
    """
    import pandas as pd

    frame = _frame(path)
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    names = {name: _meaning(name) for name in frame.columns if name != "seed"}
    frame = frame.rename(columns={name: new for name, new in names.items() if new})
    meanings = {*filter(None, names.values()), cost, "seed"}
    if twice := sorted(meanings & {*frame.columns[frame.columns.duplicated()]}):
        raise InvalidInput(f"{path}: two columns mean {twice[0]}; rename or remove one")
    columns = sorted(
        (name for name in frame.columns if re.fullmatch(r"(depth|width)\d+|resolution", name)),
        key=lambda name: (re.sub(r"\d+", "", name), int(re.sub(r"\D+", "", name) or 0)),
    )
    seeds = [name for name in frame.columns if re.fullmatch(r"accuracy\d+", name)]
    if not seeds and "accuracy" in frame.columns:  # beside those of seeds it is their mean
        seeds = ["accuracy"]
    for found, what in ((columns, "width1"), (seeds, "accuracy1"), ({cost} & {*frame}, cost)):
        if not found:
            raise InvalidInput(
                f"{path}: no column {what} was found among {', '.join(map(str, names))}; "
                "docs/scaling.md (Tables of measured networks) says what a table looks like"
            )
    if unread := [name for name, new in names.items() if not new and name != cost]:
        log.note(f"columns of the table that are not used: {', '.join(unread)}")
    used = [*columns, *seeds, cost]
    numbers = frame[used].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(numbers.to_numpy(float))
    bad[:, : len(columns)] |= numbers[columns].to_numpy(float) <= 0
    bad[:, -1] |= numbers[cost].to_numpy(float) <= 0
    for row, column in np.argwhere(bad):
        raise InvalidInput(
            f"{path}: row {row + 1} ({_named(numbers[columns].iloc[row])}): {used[column]}: must "
            f"be a{' positive' if column not in range(len(columns), len(used) - 1) else ''} "
            f"number, but got {_shown(frame[used[column]].iloc[row])}; measure it, or remove the "
            "row"
        )
    rows = [*range(1, len(numbers) + 1)]
    if "seed" in frame.columns:
        if len(seeds) > 1:
            raise InvalidInput(
                f"{path}: has a column seed and several of accuracies ({', '.join(seeds)}); give "
                "one accuracy in each row, or remove the column seed"
            )
        numbers, seeds = _wide(path, numbers.assign(seed=frame["seed"]), columns, seeds[0], cost)
        rows = [int(place) + 1 for place in numbers.index]
    if (repeated := numbers.duplicated(columns)).any():
        row = int(repeated.to_numpy().argmax())
        raise InvalidInput(
            f"{path}: row {rows[row]} ({_named(numbers[columns].iloc[row])}) is listed twice; "
            "give accuracies of several seeds in columns accuracy1, accuracy2 …, or a column seed"
        )
    accuracy = numbers[seeds].to_numpy(float)
    scale = 100.0 if accuracy.max() > 1 else 1.0
    if (outside := (accuracy < 0) | (accuracy > scale)).any():
        row, seed = np.argwhere(outside)[0]
        raise InvalidInput(
            f"{path}: row {rows[row]} ({_named(numbers[columns].iloc[row])}): {seeds[seed]}: must "
            f"be a fraction, or percent, from 0 to 100, but got {accuracy[row, seed]:g}"
        )
    percents, hundredfold = accuracy[accuracy > 1], 100 * accuracy
    # An accuracy by chance may be below 1 %; a fraction of the table's percents is one by mistake.
    mixed = (accuracy <= 1) & (hundredfold >= min(percents, default=math.inf))
    if (mixed := mixed & (hundredfold <= max(percents, default=0))).any():
        row, seed = np.argwhere(mixed)[0]
        raise InvalidInput(
            f"{path}: row {rows[row]} ({_named(numbers[columns].iloc[row])}): {seeds[seed]}: is "
            f"{accuracy[row, seed]:g}, but others are above 1; give all accuracies in percent, or "
            "all as fractions"
        )
    return GrowthTable(
        tuple(columns),
        numbers[columns].to_numpy(float),
        tuple(seeds),
        accuracy / scale,
        numbers[cost].to_numpy(float),
        tuple(rows),
    )


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix.lower() == ".csv":
            text = read_text(path)
            found = pd.read_csv(io.StringIO(text), skipinitialspace=True)
            if not isinstance(found.index, pd.RangeIndex):
                raise ValueError("its rows have more values than its header has names")
            header = filter(None, csv.reader(io.StringIO(text), skipinitialspace=True))
            found.columns = next(header)  # pandas renames a column that is listed twice
        else:
            data = json.loads(read_text(path), parse_int=_integer)
            if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
                raise ValueError("it is not a list of objects")
            found = pd.DataFrame([dict(_flat(row)) for row in data])
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(
            f"{path}: cannot be read as a table: {reason_of(error)}; give a CSV with a header, or "
            "a JSON list of objects"
        ) from None
    if not len(found):
        raise InvalidInput(f"{path}: contains no rows")
    return found


def _integer(digits: str) -> int | float:
    """An integer; one that may not fit 64 bits as a floating-point number, maybe infinite."""
    return int(digits) if len(digits) < 19 else float(digits)


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """`width: [0.5, 1]` as width1 and width2; `accuracy: {a: …}` as accuracy_a."""
    for name, value in row.items():
        if isinstance(value, list):
            yield from ((f"{name}{place}", each) for place, each in enumerate(value, 1))
        elif isinstance(value, dict):
            yield from ((f"{name}_{inner}", each) for inner, each in value.items())
        else:
            yield name, value


def _meaning(name: str) -> str | None:
    """What a column is called here; None for one that is not used."""
    if stage := _STAGE.fullmatch(name):
        kind = _KINDS.get((stage["kind"] or stage["of"])[0], "width")
        return f"{kind}{int(stage['number'] or stage['place'])}"
    if _RESOLUTION.fullmatch(name):
        return "resolution"
    if accuracy := _ACCURACY.fullmatch(name):
        return f"accuracy{accuracy[1]}"
    return _COSTS.get(name, name if name in ("macs", "params", "activations", "latency") else None)


def _named(setting: pd.Series[Any]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in setting.items())


def _shown(cell: object) -> str:
    """What a cell holds, for people."""
    return "nothing" if cell is None or cell != cell else str(cell)


def _wide(
    path: Path, rows: pd.DataFrame, columns: list[str], accuracy: str, cost: str
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of one seed each as rows of one network each, with the index of its first."""

    def named(row: int) -> str:
        return f"{path}: row {row + 1} ({_named(rows[columns].iloc[row])})"

    if (missing := rows["seed"].isna()).any():
        raise InvalidInput(f"{named(int(missing.to_numpy().argmax()))}: seed: must be given")
    if (repeated := rows.duplicated([*columns, "seed"])).any():
        row = int(repeated.to_numpy().argmax())
        raise InvalidInput(
            f"{named(row)} is listed twice with seed {_shown(rows['seed'].iloc[row])}"
        )
    networks = rows.groupby(columns, sort=False)
    price = networks[cost].transform("first")
    if (other := rows[cost] != price).any():
        row = int(other.to_numpy().argmax())
        raise InvalidInput(
            f"{named(row)}: {cost}: must be the same with each seed, but got "
            f"{rows[cost].iloc[row]:,.12g} and, above, {price.iloc[row]:,.12g}"
        )
    found = rows.assign(network=networks.ngroup()).pivot(
        index="network", columns="seed", values=accuracy
    )
    first = rows.drop_duplicates(columns)
    if (gaps := found.isna()).to_numpy().any():
        row, column = np.argwhere(gaps.to_numpy())[0]
        raise InvalidInput(
            f"{path}: no row has {_named(first[columns].iloc[row])} with seed "
            f"{found.columns[column]}; measure it, or remove the other rows of this network"
        )
    found.columns = [f"accuracy{seed}" for seed in found.columns]
    found.index = first.index
    return first[[*columns, cost]].join(found), list(found.columns)


def grow(
    table: GrowthTable, targets: Sequence[float], *, runs: int, seed: int
) -> tuple[tuple[Grown, ...], list[Request]]:
    """The answer for each target, and every look-up; the table's first accuracy chooses."""
    candidates = table.candidates(targets)
    model, judges = growth_model(candidates), len(table.seeds) - 1
    rounds = search(candidates, model, runs=runs, seeds=judges, seed=seed)
    lookups: list[Request] = []
    try:
        requests = next(rounds)
        while True:
            lookups += requests
            requests = rounds.send({each: float(table.accuracy[each]) for each in requests})
    except StopIteration as end:
        grown: tuple[Grown, ...] = end.value
        return grown, lookups


def run(folder: Path, recipe: TableRecipe) -> dict[str, Any]:
    """Searches the table for each target, writes the results into `folder`, and returns them."""
    family = recipe.family
    assert recipe.evaluator.records is not None
    table = read(recipe.evaluator.records, family.cost)
    if len(table.cost) < table.combinations:
        log.note(
            f"the table has {len(table.cost):,} of the {table.combinations:,} combinations of its "
            "multipliers; the others are not candidates"
        )
    if len(table.seeds) == 1:
        log.remark("The table has one seed, so nothing judges what it chooses.")
    order = np.roll(np.arange(len(table.seeds)), -(recipe.seed % len(table.seeds))).tolist()
    names = [table.seeds[place] for place in order]
    table = replace(table, seeds=tuple(names), accuracy=table.accuracy[:, order])
    grown, lookups = grow(table, family.targets, runs=family.runs, seed=recipe.seed)
    targets = [
        {"name": f"b{number}", "target": target}
        | answer.to_dict(
            *(
                {"row": table.rows[each], **table.setting(each), family.cost: table.cost[each]}
                for each in answer[:2]
            )
        )
        for number, (target, answer) in enumerate(zip(family.targets, grown, strict=True))
    ]
    found = {
        "table": str(recipe.evaluator.records),
        "rows": len(table.cost),
        "combinations": table.combinations,
        "cost": family.cost,
        "chosen_by": names[0],
        "judged_by": names[1:],
        "runs": len(lookups),
        "targets": targets,
    }
    written = changed(recipe, {"evaluator.records": recipe.evaluator.records.resolve()})
    write_file(folder / "recipe.yaml", config.dump(written))
    write_file(folder / "growth.json", json.dumps(found, indent=2) + "\n")
    write_file(folder / "lookups.csv", _lookups(table, lookups, family.cost))
    figure_style.save(growth_figure(found), folder / "growth.png")
    return found


def _lookups(table: GrowthTable, lookups: Sequence[Request], cost: str) -> str:
    import pandas as pd

    rows = [
        {"row": table.rows[each.candidate], **table.setting(each.candidate)}
        | {cost: table.cost[each.candidate], "seed": table.seeds[each.seed]}
        | {"accuracy": table.accuracy[each]}
        for each in lookups
    ]
    return to_csv(pd.DataFrame(rows))
