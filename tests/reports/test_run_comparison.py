import json
import re
import shutil
from dataclasses import replace

import pytest

from reports import run_comparison
from reports.load import load
from reports.schema import COLUMNS, rows
from space.validation import InvalidInput


@pytest.fixture(scope="module")
def runs(finished_run):
    one = load(finished_run)
    members = [member | {"accuracy": member["accuracy"] - 0.05} for member in one.family["members"]]
    two = replace(
        one,
        recipe=dict(one.recipe) | {"name": "other", "seed": 8},
        family=dict(one.family) | {"members": members},
    )
    return {"synthetic": one, "other": two}


@pytest.fixture(scope="module")
def found(runs):
    return run_comparison.compare(runs)


def test_every_member_of_every_family_is_compared(runs, found):
    members = rows(found["families"])
    assert [(row["run"], row["name"]) for row in members] == [
        (name, f"b{number}") for name in runs for number in range(4)
    ]
    assert members[4]["accuracy"] == pytest.approx(members[0]["accuracy"] - 0.05)


def test_each_run_is_a_row(runs, found):
    for row, run in zip(rows(found["runs"]), runs.values(), strict=True):
        assert row["trials"] == sum(trial.finished for trial in run.study("search"))
        assert row["baseline_macs"] == run.baseline["cost"]["macs"]
        assert row["alpha"] == run.coefficients["alpha"]
        assert row["classes"] == 10


def test_only_differing_keys_are_listed(found):
    assert {row["recipe_key"] for row in rows(found["recipes"])} == {"name", "seed"}


def test_columns_are_documented(runs, found):
    for table in found.values():
        assert set(table.columns) <= set(COLUMNS) | set(runs)


def test_the_page_tells_the_best_of_each_run_and_no_warning_where_all_is_equal(runs, found):
    html = run_comparison.render(runs, found, ["runs.csv"])
    headline = re.search(r"<h1>(.*?)</h1>", html)[1]
    assert re.match(r"synthetic reaches .* MACs; other reaches .* MACs\.", headline)
    assert "not on one scale" not in html
    (text,) = re.findall(r'id="run-data">(.*?)</script>', html, re.S)
    data = json.loads(text)
    assert data["runs"] == ["synthetic", "other"]
    assert len(data["points"]["rows"]) == 8
    place = data["points"]["columns"].index("network")
    assert all(row[place] is not None for row in data["points"]["rows"])


def test_unlike_runs_are_not_compared_in_silence(runs):
    members = [member | {"images": 500} for member in runs["other"].family["members"]]
    other = replace(
        runs["other"],
        recipe=dict(runs["other"].recipe)
        | {"objective": {"metric": "balanced"}, "data": {"source": "elsewhere"}},
        family=dict(runs["other"].family) | {"members": members},
    )
    unlike = dict(runs) | {"other": other}
    html = run_comparison.render(unlike, run_comparison.compare(unlike), [])
    assert "different metrics, numbers of test images, data: their accuracies are not" in html


def test_hostile_run_names_are_inert(runs):
    hostile = {"</script><script>alert(1)</script>\u202e": runs["synthetic"], "b": runs["other"]}
    html = run_comparison.render(hostile, run_comparison.compare(hostile), [])
    assert "<script>alert" not in html
    assert "\u202e" not in html


def test_a_comparison_is_a_page_with_tables_beside_it(finished_run, copied_run, tmp_path):
    path = run_comparison.write([finished_run, copied_run], tmp_path / "both")
    assert {file.name for file in path.parent.iterdir()} == {
        "index.html",
        "runs.csv",
        "families.csv",
        "recipes.csv",
        "columns.csv",
    }
    assert str(copied_run) in path.read_text("utf-8"), "runs of one name are told apart"


def test_runs_without_a_family_can_be_compared(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    page = run_comparison.write([tmp_path / "a", tmp_path / "b"], tmp_path / "out").read_text(
        "utf-8"
    )
    assert "None of these runs has a family yet." in page


def test_one_run_is_no_comparison(finished_run, tmp_path):
    with pytest.raises(InvalidInput, match="at least two runs, but got 1"):
        run_comparison.write([finished_run], tmp_path)


def test_a_run_is_not_compared_with_itself(finished_run, tmp_path):
    with pytest.raises(InvalidInput, match="given twice"):
        run_comparison.write([finished_run, finished_run], tmp_path)


def test_passwords_in_recipes_are_not_shown(finished_run, tmp_path):
    folders = []
    for name in ("secret", "open"):
        folder = tmp_path / name
        shutil.copytree(finished_run, folder)
        recipe = {"name": name, "storage": None}
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        folders.append(folder)
    secret = load(folders[0])
    secret = replace(secret, recipe=dict(secret.recipe) | {"storage": "mysql://me:s3cret@host/x"})
    runs = {"secret": secret, "open": load(folders[1])}
    found = run_comparison.compare(runs)
    assert "s3cret" not in run_comparison.render(runs, found, [])
    assert "mysql://me:***@host/x" in set(found["recipes"]["secret"])
