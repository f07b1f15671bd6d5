import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest

from reports import page, page_context, tables
from reports.chart_data import _json, points_table
from reports.load import load
from reports.schema import COLUMNS, rows

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "=HYPERLINK(1)",
    "a\u202eb\u2066c",
    "javascript:alert(1)//'",
)


class Elements(HTMLParser):
    """All elements with their attributes, and the text of the scripts and styles."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.found, self.raw, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        inside = self.found[-1][0] if self.found else ""
        (self.raw if inside in ("script", "style") and self.cdata_elem else self.text).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def written(finished_run):
    return _render(load(finished_run))


def _render(run):
    return page.render(run, tables.collect(run))


def _data(html):
    (text,) = re.findall(
        r'<script type="application/json" id="run-data">(.*?)</script>', html, re.S
    )
    return json.loads(text)


@pytest.fixture(scope="module")
def reported(finished_run, tmp_path_factory):
    """A run whose recipe holds a password, with its report, and what wrote it."""
    run = shutil.copytree(finished_run, tmp_path_factory.mktemp("report") / "run")
    recipe = json.loads((run / "recipe.yaml").read_text("utf-8"))
    recipe["storage"] = "postgresql://me:s3cret@host/db"
    (run / "recipe.yaml").write_text(json.dumps(recipe))
    write = partial(page.write, run, f"sqlite:///{run / 'study.db'}")
    assert write() == run / "report" / "index.html"
    return run / "report", write


def test_a_report_is_a_page_with_tables_and_figures_beside_it(reported):
    folder, _ = reported
    names = {file.name for file in folder.iterdir()}
    assert {"trials.csv", "family.csv", "stages.csv", "columns.csv"} <= names
    assert {"accuracy_macs.png", "accuracy_macs.svg", "coefficients.pdf"} <= names
    links = {each["href"] for each in Elements((folder / "index.html").read_text("utf-8")).all("a")}
    assert {link for link in links if not link.startswith("#")} == names - {"index.html"}


def test_a_report_can_be_written_again_and_is_the_same(reported):
    folder, write = reported
    first = {file: file.read_bytes() for file in folder.iterdir()}
    (folder / "index.html").write_text("an older report")
    write()
    assert {file: file.read_bytes() for file in folder.iterdir()} == first


def test_passwords_are_not_shown(reported):
    folder, _ = reported
    for file in folder.iterdir():
        assert b"s3cret" not in file.read_bytes(), file.name


def test_a_run_that_has_not_begun_has_a_report(tmp_path):
    assert "No network of this run has been trained yet." in page.write(tmp_path).read_text("utf-8")


@pytest.mark.parametrize("ended", [0, 1, 2, 3])
def test_an_unfinished_run_has_a_report(finished_run, ended):
    whole = load(finished_run)
    html = _render(
        replace(
            whole,
            trials=dict(list(whole.trials.items())[:ended]),
            baseline=whole.baseline if ended >= 2 else None,
            coefficients=whole.coefficients if ended >= 3 else None,
            family=None,
            driven=True,
        )
    )
    sections = {each["id"] for each in Elements(html).all("section")}
    assert ("search" in sections) == (ended >= 1)
    assert ("coefficients" in sections) == (ended >= 3)
    assert "family" not in sections
    headline = re.search(r"<h1>(.*?)</h1>", html)[1]
    assert headline.startswith(
        ("No network of this run", "The search is under way", "The search found a baseline")[
            min(ended, 2)
        ]
    )


def test_the_first_screen_says_the_result(written, finished_run):
    members = {member["name"]: member for member in load(finished_run).family["members"]}
    headline = re.search(r"<h1>(.*?)</h1>", written)[1].replace("\N{NO-BREAK SPACE}", " ")
    (taken,) = re.findall(r"^Start with (\w+) \(", headline)
    assert f"{100 * members[taken.lower()]['accuracy']:.1f} % ±" in headline
    assert written.index("More MACs would buy") > written.index("test images can show")
    assert "2,000 test images" in written


def test_nothing_comes_from_outside(written):
    elements = Elements(written)
    assert not elements.all("link")
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in elements.all("img"))
    assert not [each for each in elements.all("script") if "src" in each]
    hrefs = [each["href"] for each in elements.all("a")]
    assert all(re.fullmatch(r"#[a-z]+|[a-z_]+\.(csv|svg|png|pdf)", href) for href in hrefs)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", written)


def test_the_policy_admits_this_style_and_script_alone(written):
    (policy,) = [
        each["content"]
        for each in Elements(written).all("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    inline = {
        "style-src": re.findall(r"<style>(.*?)</style>", written, re.S),
        "script-src": re.findall(r"<script>(.*?)</script>", written, re.S),
    }
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for rule, (content,) in inline.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_no_element_has_what_the_policy_forbids(written):
    for tag, attributes in Elements(written).found:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_hostile_names_are_inert(finished_run):
    whole = load(finished_run)
    members = [dict(member) for member in whole.family["members"]]
    members[-1]["name"] = HOSTILE[0]
    classes = [*HOSTILE, *HOSTILE[:4]]
    run = replace(
        whole,
        recipe=dict(whole.recipe) | {"name": HOSTILE[0], "space": HOSTILE[1]},
        recipe_text="\n".join(HOSTILE),
        manifest=dict(whole.manifest) | {"data": {"classes": classes}, HOSTILE[1]: HOSTILE[0]},
        family=dict(whole.family) | {"members": members, "classes": classes},
    )
    html = _render(run)
    elements, plain = Elements(html), Elements(_render(whole))
    assert {tag for tag, _ in elements.found} == {tag for tag, _ in plain.found}
    assert len(elements.all("script")) == len(plain.all("script"))
    text = "".join(elements.text)
    assert HOSTILE[0] in text
    assert HOSTILE[2] in text
    assert "a⟨U+202E⟩b⟨U+2066⟩c" in text
    assert "\u202e" not in html
    assert any(row[1] == HOSTILE[0].upper() for row in _data(html)["points"]["rows"])


def test_hostile_reasons_and_jobs_are_inert(finished_run):
    run = load(finished_run)
    trials = [
        replace(trial, job=HOSTILE[0], measurement=trial.measurement | {"reason": HOSTILE[1]})
        for trial in run.study("search")
    ]
    html = _render(replace(run, trials=dict(run.trials) | {"search": tuple(trials)}))
    assert "<img src=x" not in html
    assert "</script><script>alert" not in html


def test_the_charts_data_are_the_tables(written, finished_run):
    data, found = _data(written), tables.collect(load(finished_run))
    columns = data["points"]["columns"]
    points = [dict(zip(columns, row, strict=True)) for row in data["points"]["rows"]]
    assert {
        layer: sum(point["layer"] == layer for point in points)
        for layer in ("complete", "pruned", "finalists", "coefficients", "baseline", "family")
    } == {
        "complete": sum(found.search_progress["state"] == "complete"),
        "pruned": sum(found.search_progress["state"] == "pruned"),
        "finalists": 5,
        "coefficients": len(found.coefficients),
        "baseline": 1,
        "family": 4,
    }
    by_name = {point["name"]: point for point in points}
    for row in rows(found.family):
        point = by_name[row["name"].upper()]
        assert point["macs"] == row["macs"]
        assert point["accuracy"] == pytest.approx(row["accuracy"], abs=1e-6)
        stages = [
            dict(zip(data["stage_columns"], data["stage_rows"][index], strict=True))
            for index in data["networks"][point["network"]]
        ]
        assert sum(stage["macs"] for stage in stages) == row["macs"]
    assert [macs for macs, _ in data["front"]] == list(found.pareto["macs"])


def test_the_data_hide_passwords_and_have_no_nan():
    assert _json("mysql://a:b@c") == "mysql://a:***@c"
    assert _json(float("nan")) is None


def _loaded(module, name):
    code = f"import {module}, sys; print({name!r} in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return out.stdout.strip() == "True"


@pytest.mark.parametrize("heavy", ["pandas", "matplotlib", "optuna", "jinja2", "torch"])
def test_importing_the_reports_is_light(heavy):
    assert not _loaded("reports.page", heavy)


def test_the_lightness_test_can_fail():
    assert _loaded("pandas", "pandas")


def test_a_thousand_trials_stay_under_three_megabytes(thousand_trials):
    html = _render(thousand_trials)
    assert len(_data(html)["points"]["rows"]) > 900
    assert len(html.encode()) < 3_000_000


def test_the_points_of_the_figure_are_a_table(finished_run):
    run = load(finished_run)
    found = tables.collect(run)
    points = rows(points_table(run, found))
    drawn = _data(page.render(run, found))["points"]
    assert [row["macs"] for row in points] == [
        row[drawn["columns"].index("macs")] for row in drawn["rows"]
    ]
    assert set(points[0]) <= set(COLUMNS)


def test_a_run_whose_keys_were_made_otherwise_has_a_report(finished_run):
    run = load(finished_run)
    rekeyed = {
        name: tuple(replace(trial, key=f"old-{trial.key}") for trial in trials)
        for name, trials in run.trials.items()
    }
    old = [member | {"key": f"old-{member['key']}"} for member in run.family["members"]]
    run = replace(
        run,
        trials=rekeyed,
        baseline=dict(run.baseline) | {"key": f"old-{run.baseline['key']}"},
        family=dict(run.family) | {"members": old},
    )
    assert "B0, the baseline" in _render(run)


def test_failures_are_grouped_by_reason(finished_run):
    run = load(finished_run)
    failed = [trial for trial in run.study("search") if trial.state == "failed"]
    other = replace(failed[0], number=900, measurement={"reason": "out of memory"})
    run = replace(run, trials=dict(run.trials) | {"search": (*run.study("search"), other)})
    assert [
        (row["reason"], row["times"]) for row in page_context.failures(tables.collect(run))
    ] == [
        ("the loss became NaN in epoch 2", len(failed)),
        ("out of memory", 1),
    ]


def test_a_search_that_was_stopped_is_not_under_way(finished_run):
    whole = load(finished_run)
    stopped = replace(
        whole,
        trials={"search": whole.study("search")},
        baseline=None,
        family=None,
        coefficients=None,
    )
    assert "The search has stopped: its best network so far" in _render(stopped)
    assert "The search is under way" in _render(replace(stopped, driven=True))
