"""Learned growth on a user's table: what it reads, what it refuses, and how far it gets."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from experiments.benchmarks.growth import synthetic, uniform_row
from experiments.cli import app
from experiments.studies import growth_table
from experiments.studies.recipes import TableRecipe, table_recipe
from space.validation import InvalidInput

ROWS = [
    {"width1": first, "width2": second, "accuracy1": 90 + first, "accuracy2": 91.0}
    | {"macs": 1000 * first * second}
    for first, second in product((0.5, 1.0), (0.5, 1.0))
]


def written(folder: Path, rows: object, name: str = "table.csv") -> Path:
    path = folder / name
    if name.endswith("csv"):
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text(json.dumps(rows), "utf-8")
    return path


SPELLINGS = {
    "wide CSV": ("table.csv", ROWS),
    "short names": (
        "table.csv",
        [
            {" W1": row["width1"], "stage2_width": row["width2"], "acc_seed1": row["accuracy1"]}
            | {"test_acc_2": row["accuracy2"], "MAdds": row["macs"], "acc_std": 1}
            for row in ROWS
        ],
    ),
    "lists": (
        "table.json",
        [
            {"width": [row["width1"], row["width2"]], "macs": row["macs"]}
            | {"accuracy": [row["accuracy1"] / 100, row["accuracy2"] / 100]}
            for row in ROWS
        ],
    ),
    "a row for each seed": (
        "table.csv",
        [
            {"s1": row["width1"], "s2": row["width2"], "macs": row["macs"], "seed": seed}
            | {"accuracy": row[f"accuracy{seed}"]}
            for row in ROWS
            for seed in (1, 2)
        ],
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_tables_are_read_in_several_spellings(tmp_path, spelling):
    name, rows = SPELLINGS[spelling]
    table = growth_table.read(written(tmp_path, rows, name), "macs")
    assert table.columns == ("width1", "width2")
    order = np.lexsort(table.multipliers.T[::-1])
    assert table.multipliers[order].tolist() == [[0.5, 0.5], [0.5, 1], [1, 0.5], [1, 1]]
    assert table.accuracy[order][:, 0] == pytest.approx([0.905, 0.905, 0.91, 0.91])
    assert table.accuracy[order][:, 1] == pytest.approx([0.91] * 4)
    assert table.cost[order].tolist() == [250, 500, 500, 1000]


def without(row: int, column: str):
    return [
        {name: (None if (place, name) == (row, column) else value) for name, value in each.items()}
        for place, each in enumerate(ROWS)
    ]


def seeded(row: int, change: dict[str, object]):
    rows = SPELLINGS["a row for each seed"][1]
    return [*rows[:row], rows[row] | change, *rows[row + 1 :]]


def test_a_network_at_chance_may_be_below_one_percent(tmp_path):
    rows = [*ROWS[1:], ROWS[0] | {"accuracy1": 0.5}]
    assert growth_table.read(written(tmp_path, rows), "macs").accuracy.min() == 0.005


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (without(1, "accuracy2"), r"row 2 \(width1=0\.5, width2=1\): accuracy2: must be a number"),
        (without(2, "macs"), r"row 3 \(width1=1, width2=0\.5\): macs: must be a positive number"),
        ([*ROWS, ROWS[1]], r"row 5 \(width1=0\.5, width2=1\) is listed twice"),
        ([{"width1": 1, "accuracy": 0.9}], "no column macs was found"),
        ([{"macs": 1, "accuracy": 0.9}], "no column width1 was found"),
        ([{"macs": 1, "w1": 1, "width_1": 1, "acc": 0.9}], "two columns mean width1"),
        (SPELLINGS["a row for each seed"][1][:-1], r"no row has width1=1, width2=1 with seed 2"),
        (
            [ROWS[1], ROWS[0] | {"accuracy2": -0.1}],
            r"row 2 \(width1=0\.5, width2=0\.5\): accuracy2: must be a fraction, or percent, from "
            r"0 to 100, but got -0\.1",
        ),
        (
            [*ROWS[1:], ROWS[0] | {"accuracy1": 0.905}],
            r"row 4 .*: accuracy1: is 0\.905, but others",
        ),
        (seeded(3, {"seed": None}), r"row 4 \(width1=0\.5, width2=1\): seed: must be given"),
        (seeded(3, {"macs": 1}), r"row 4 .*: macs: must be the same .* got 1 and, above, 500"),
        ([row | {"seed": 1} for row in ROWS], "a column seed and several of accuracies"),
        (without(1, "accuracy2"), "but got nothing; measure it"),
        ([ROWS[0] | {"macs": -2}], "but got -2; measure it"),
    ],
)
def test_what_is_missing_is_refused_by_name(tmp_path, rows, message):
    with pytest.raises(InvalidInput, match=message):
        growth_table.read(written(tmp_path, rows), "macs")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("table.json", json.dumps([ROWS[0] | {"width1": 10**400}])),
        ("table.json", "[" * 100_000),
        ("table.json", '{"width1": 1}'),
        ("table.json", "[1, 2]"),
        ("table.csv", "width1,accuracy,macs\n1,1,1\n1,1,1,1,1\n"),
        ("table.csv", "width1,accuracy,macs\n1,1,1,\n2,1,1,\n"),
    ],
)
def test_a_damaged_table_is_refused_in_a_line(tmp_path, name: str, text: str):
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(
        InvalidInput, match=r"cannot be read as a table|must be a positive"
    ) as found:
        growth_table.read(tmp_path / name, "macs")
    assert "\n" not in str(found.value)
    assert "attribute" not in str(found.value)  # what Python says of its own objects


def test_a_name_that_heads_two_columns_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("width1,accuracy,accuracy,macs\n1,90,91,1\n", "utf-8")
    with pytest.raises(InvalidInput, match="two columns mean accuracy"):
        growth_table.read(path, "macs")


def test_a_network_is_named_by_its_row_in_the_file(tmp_path):
    rows = list(reversed(SPELLINGS["a row for each seed"][1]))
    table = growth_table.read(written(tmp_path, rows), "macs")
    for number, setting in zip(table.rows, table.multipliers.tolist(), strict=True):
        assert setting == [rows[number - 1]["s1"], rows[number - 1]["s2"]]


def test_a_target_without_rows_is_refused_with_the_nearest_costs(tmp_path):
    table = growth_table.read(written(tmp_path, ROWS), "macs")
    with pytest.raises(InvalidInput, match=r"800: no row of the table .* cost 500 and 1,000"):
        table.candidates((800,))


def test_the_first_candidate_is_the_most_uniform(tmp_path):
    rows = [
        {"width1": a, "width2": b, "accuracy1": 0.5, "macs": 100}
        for a, b in ((2, 0.5), (1, 1), (0.5, 2))
    ]
    table = growth_table.read(written(tmp_path, rows), "macs")
    assert table.candidates((100,)).pools[0][0] == 1


def recipe_of(folder: Path, table: Path, targets: list[int], **family: object) -> Path:
    path = folder / "recipe-of-table.yaml"
    recipe = {
        "name": "widths",
        "evaluator": {"kind": "records", "records": str(table)},
        "family": {"rule": "learned", "targets": targets, **family},
    }
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


def test_a_table_with_tabs_is_told_what_it_must_be(tmp_path):
    written(tmp_path, [{"width1": 1, "accuracy1": 0.5, "macs": 100}]).rename(tmp_path / "a.tsv")
    recipe = table_recipe(str(recipe_of(tmp_path, tmp_path / "a.tsv", [100])))
    assert recipe is not None
    with pytest.raises(InvalidInput, match=r"a\.tsv: cannot be read as a table: .* give a CSV"):
        growth_table.run(tmp_path / "run", recipe)


def test_few_look_ups_find_uniform_widths_accuracy_at_two_thirds_of_its_cost(tmp_path):
    table, truth = synthetic(0)
    large, small = (uniform_row(table, width) for width in (1.0, 0.75))
    targets = [int(0.65 * table["macs"][row]) for row in (large, small)]
    path = written(tmp_path, table)
    recipe = table_recipe(str(recipe_of(tmp_path, path, targets)))
    assert isinstance(recipe, TableRecipe)
    found = growth_table.run(tmp_path / "run", recipe)
    assert found["runs"] <= 50
    assert len(pd.read_csv(tmp_path / "run" / "lookups.csv")) == found["runs"]
    for target, row in zip(found["targets"], (large, small), strict=True):
        chosen = target["learned"]["row"] - 1
        assert table["macs"][chosen] <= target["target"]
        assert truth[chosen] > truth[row] - 0.002
        assert target["learned"]["accuracies"] == [
            pytest.approx(table[name][chosen]) for name in ("accuracy2", "accuracy3")
        ]


def test_the_command_takes_a_table_and_says_the_same_again(tmp_path):
    rows = [row | {"accuracy1": 0.9, "accuracy2": 0.9} for row in ROWS]
    path = recipe_of(tmp_path, written(tmp_path, rows), [500], runs=10)
    command = ["family", str(path), "--rule", "learned", "--rule", "compound", "--json"]
    command += ["--out", str(tmp_path / "run")]
    first, second = (CliRunner().invoke(app, command) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert json.loads(first.stdout)["targets"][0]["shipped"] == "compound"
    assert (tmp_path / "run" / "growth.png").is_file()
    said = CliRunner().invoke(app, [*command[:-3], "--out", str(tmp_path / "run")]).stdout
    assert "better at no member; compound scaling makes all of them." in said
    for other in ("status", "report", "trials", "coefficients", "estimate"):
        refused = CliRunner().invoke(app, [other, str(tmp_path / "run")])
        assert "is the recipe of learned growth on a table" in str(refused.exception)
    refused = CliRunner().invoke(app, [*command, "--set", "family.epochs=3"])
    assert "family.epochs: unknown key" in str(refused.exception)
