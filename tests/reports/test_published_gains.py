"""What published networks say of scaling, on tables whose truth is known and on timm's."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import published_gains, published_page, timm_results
from reports.published_gains import TESTED
from reports.schema import COLUMNS, read_rows
from reports.statistics import clustered
from space.validation import InvalidInput

#: Points of accuracy for each doubling of MACs, in the tables made here.
TRUTH = {"depth": 1.0, "width": 2.0, "compound": 3.0}
LINES = {
    "depth": ("resnet50", "resnet101", "resnet152"),
    "width": ("mobilenetv2_100", "mobilenetv2_140"),
    "compound": ("mobilenetv2_100", "mobilenetv2_110d", "mobilenetv2_120d"),
}
#: MACs in billions; 140 lies between 110d and 120d.
MACS = dict(zip(LINES["depth"], (2.0, 4.0, 8.0), strict=True)) | {
    "mobilenetv2_100": 1.0,
    "mobilenetv2_110d": 2.0,
    "mobilenetv2_140": 4.0,
    "mobilenetv2_120d": 8.0,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tables of seven networks with two recipes each; ResNets are tested at more pixels too."""
    accuracies, costs = [], []
    for dimension, names in LINES.items():
        for name, recipe in itertools.product(names, ("a_in1k", "b_in1k")):
            top1 = 70 + (recipe == "b_in1k") + TRUTH[dimension] * math.log2(MACS[name])
            accuracies.append((f"{name}.{recipe}", 224, top1))
            if dimension == "depth":
                accuracies.append((f"{name}.{recipe}", 448, top1 + 0.5 * 2))
    for name, macs in MACS.items():
        costs += [(name, 224, 100 / macs**2, "1,025.5", macs, 10.0)]
        costs += [(name, 448, 25 / macs**2, "1,025.5", 4 * macs, 40.0)]
    pd.DataFrame(accuracies, columns=["model", "img_size", "top1"]).drop_duplicates(
        ["model", "img_size"]
    ).to_csv(tmp_path / "results-imagenet.csv", index=False)
    columns = ("model", "infer_img_size", "infer_samples_per_sec", "param_count")
    columns += ("infer_gmacs", "infer_macts")
    made = pd.DataFrame(costs, columns=columns)
    made.to_csv(tmp_path / "benchmark-infer-amp-here.csv", index=False)
    return tmp_path


def test_gains_are_the_points_of_each_doubling(folder):
    results = timm_results.load(folder)
    assert set(results.networks["params"]) == {1_025_500_000}
    found = published_gains.gains(results)
    assert len(found) == 2 * 3 + 2 * 3  # the lines, and the ResNets at more pixels
    for row in found.to_dict("records"):
        expected = 0.5 if row["dimension"] == TESTED else TRUTH[row["dimension"]]
        assert row["gain"] == pytest.approx(expected / 100)
    errors = {"depth": np.log2([0.29, 0.28, 0.27])}  # 71, 72 and 73 points
    removed = 1 - 2 ** np.polyfit([1, 2, 3], errors["depth"], 1)[0]
    first = found[(found["dimension"] == "depth") & (found["recipe"] == "a_in1k")]
    assert first["removed"].item() == pytest.approx(removed)


def test_compound_is_compared_at_equal_macs_and_never_beyond_its_networks(folder):
    ahead = published_gains.against_compound(timm_results.load(folder))
    assert set(ahead["name"]) == {"mobilenetv2_140.a_in1k", "mobilenetv2_140.b_in1k"}
    assert ahead["ahead"].to_numpy() == pytest.approx((TRUTH["compound"] - TRUTH["width"]) * 0.02)


def test_recipes_are_compared_on_lines_of_the_same_networks(folder):
    results = timm_results.load(folder)
    found = published_gains.collect(results)["recipes"]
    assert {row["recipe"] for row in found} == {"a_in1k", "b_in1k"}
    assert all(row["n"] == 3 and abs(row["gain"]) < 1e-9 for row in found)
    fewer = results.networks[results.networks["name"] != "resnet50.b_in1k"]
    found = published_gains.collect(replace(results, networks=fewer))["recipes"]
    assert [row["n"] for row in found] == [2, 2]


def test_verdicts_follow_from_intervals(folder):
    found = published_page.collect(timm_results.load(folder))
    (row,) = found["compound"]
    assert (row["dimension"], row["n"], row["ahead_low"]) == ("width", 2, None)
    said = "\n".join(found["sentences"])
    assert "by +2.00 points from more width alone (n = two networks; MobileNetV2 +2.00)" in said
    assert "one family alone, so no verdict" in said
    assert "Not told apart by the errors that a doubling removes" in said
    every = (*found["dimensions"], *found["families"], *found["recipes"])
    assert all(row["n"] > 0 for row in every)
    for row in every:
        if row["gain_told_apart"]:
            assert not row["gain_low"] <= 0 <= row["gain_high"]


def test_rank_correlations_are_those_of_pairs(folder):
    times = timm_results.load(folder).times
    (row,) = published_gains.collect(timm_results.load(folder))["times"]
    for cost in ("macs", "activations"):
        x, y = times[cost].to_numpy(), times["seconds"].to_numpy()
        pairs = list(itertools.combinations(range(len(x)), 2))
        signs = [np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in pairs]
        untied = [sum(v[i] != v[j] for i, j in pairs) for v in (x, y)]
        assert row[cost] == pytest.approx(sum(signs) / math.prod(untied) ** 0.5)
    assert row["params"] is row["params_low"] is None  # all have as many


def test_a_folder_may_lack_accuracies_but_not_costs(folder, tmp_path):
    (folder / "results-imagenet.csv").unlink()
    results = timm_results.load(folder)
    found = published_page.collect(results)
    assert found["missing"] == [
        f"{folder / 'results-imagenet.csv'}: not found, so nothing is said of accuracy"
    ]
    assert found["dimensions"] == found["compound"] == []
    assert len(found["sentences"]) == len(found["times"]) == 1
    page = published_page.write(results, found, tmp_path / "out")
    assert "Skipped: " in page.read_text("utf-8")
    (folder / "benchmark-infer-amp-here.csv").unlink()
    with pytest.raises(InvalidInput, match=r"has no benchmark-infer-\*\.csv"):
        timm_results.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model,img_size\na,224\n",
        "model,img_size,top1\na.b,224,high\n",
        "model,img_size,top1\n",
        "model,img_size,top1\na.b,224,\n",
        "model,img_size,top1\na.b,224,inf\n",
    ],
)
def test_a_damaged_table_is_named(folder, text):
    (folder / "results-imagenet.csv").write_text(text, "utf-8")
    with pytest.raises(InvalidInput, match=r"results-imagenet\.csv: cannot read timm's results"):
        timm_results.load(folder)


def test_the_page_has_its_sentences_figure_and_tables(folder, tmp_path):
    results = timm_results.load(folder)
    found = published_page.collect(results)
    page = published_page.write(results, found, tmp_path / "out")
    html = page.read_text("utf-8")
    assert "one family alone, so no verdict" in html
    assert json.loads((page.parent / "published.json").read_text("utf-8")) == json.loads(
        json.dumps(found)
    )
    for name in ("gains", "compound"):
        assert set(pd.read_csv(page.parent / f"{name}.csv").columns) <= set(COLUMNS)
    assert (page.parent / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("deviations", [(1, 0, 1), (0, 1, 1), (1, 1, 0.3)])
def test_intervals_cover_where_rows_share_a_recipe_and_a_maker(deviations):
    random = np.random.default_rng(0)
    recipes, makers = (random.integers(0, count, 60) for count in (20, 12))
    labels = [pd.Series(each.astype(str)) for each in (recipes, makers)]
    right = naive = 0
    for _ in range(200):
        effects = (random.standard_normal(60)[recipes], random.standard_normal(60)[makers])
        rows = (*effects, random.standard_normal(60))
        values = sum(sd * each for sd, each in zip(deviations, rows, strict=True))
        found = clustered(lambda kept, values=values: float(values[kept].mean()), *labels)
        right += not found.told_apart
        naive += abs(values.mean()) < 2 * values.std(ddof=1) / len(values) ** 0.5
    assert right / 200 >= 0.92  # 95 % within two standard errors of 200 simulations
    assert naive / 200 < 0.88  # intervals of independent rows do not cover


def test_one_cluster_gives_no_interval():
    values, label = np.array([1.0, 2.0]), pd.Series(["a", "a"])
    found = clustered(lambda kept: float(values[kept].mean()), label)
    assert found.value == 1.5
    assert found.high == math.inf
    assert not found.told_apart


def test_lines_of_timm_grow_in_the_dimension_that_they_name(shared):
    """Activations grow with MACs about in proportion by depth, with their root by width."""
    results = timm_results.load(shared / "data" / "timm_results")
    known = set(results.networks["network"])
    named = {name for line in read_rows("published_lines.csv") for name in line["networks"].split()}
    assert named <= known
    bounds = {"depth": (0.5, 1.1), "width": (0.2, 0.66)}
    for line in published_gains.lines(published_gains.trained(results)):
        slope = np.polyfit(np.log2(line["macs"]), np.log2(line["activations"]), 1)[0]
        low, high = bounds.get(line["dimension"].iloc[0], (0, 2))
        assert low <= slope <= high, line[["family", "dimension", "name"]]
