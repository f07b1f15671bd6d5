"""What the page states is in a CSV beside it."""

import csv
import io
import re
from dataclasses import replace
from html import unescape

import pytest

from reports import page, page_facts, trial_tables
from reports.formatting import to_csv
from reports.load import load
from reports.schema import rows


@pytest.fixture(scope="module")
def run(finished_run):
    return replace(
        load(finished_run),
        pareto={
            "objectives": ["accuracy", "macs"],
            "most": {"macs": 2_200_000},
            "hypervolume": 0.4321,
            "front": [{}, {}, {}],
        },
    )


def _shown(html, pattern):
    return [
        " ".join(unescape(re.sub(r"<[^>]+>", "", text)).split())
        for text in re.findall(pattern, html, re.S)
    ]


def test_sentences_of_the_manifest_follow_each_other_without_a_comma():
    facts = {"warnings": ["One image is bad.", "Two are grey."], "classes": ["cat", "dog"]}
    assert dict(page_facts.provenance(facts)) | {"start 1": ""} == {
        "warnings": "One image is bad. Two are grey.",
        "classes": "cat, dog",
        "start 1": "",
    }


def test_every_sentence_of_the_page_is_in_a_table(run, found):
    html = page.render(run, found)
    told = [" ".join(row["statement"].split()) for row in rows(page_facts.statements(run, found))]
    spoken = _shown(html, r"<h1>(.*?)</h1>") + _shown(html, r'<p class="lead">(.*?)</p>')
    fixed = "Each block is a bar"
    assert len(spoken) > 8
    for text in spoken:
        assert text.startswith(fixed) or any(text.startswith(line) for line in told), text
    assert any("a hypervolume of 0.432" in text for text in spoken)


def test_every_fact_of_the_page_is_in_a_table(run, found):
    html = page.render(run, found)
    stated = list(csv.DictReader(io.StringIO(to_csv(page_facts.facts(run, found)))))
    (listed,) = re.findall(r'<dl class="columns">(.*?)</dl>', html, re.S)
    known = {(row["fact"], " ".join(row["value"].split())) for row in stated}
    shown = list(
        zip(_shown(listed, "<dt>(.*?)</dt>"), _shown(listed, "<dd>(.*?)</dd>"), strict=True)
    )
    assert len(shown) >= 10
    assert set(shown) <= known
    by_name = {(row["section"], row["fact"]): row["value"] for row in stated}
    assert by_name["search", "pareto · hypervolume"] == "0.4321"
    assert by_name["recipe", "objective · target"] == "4000000"
    assert float(by_name["coefficients", "alpha"]) == run.coefficients["alpha"]


def test_times_are_the_stages_wall_clock_and_their_training_runs_device_time(run):
    found = {row["stage"]: row for row in rows(trial_tables.times(run))}
    assert found["search"]["wall_seconds"] == 1240.5
    spent = sum(
        trial.measurement["train_seconds"] + trial.measurement["validation_seconds"]
        for study in ("family", "rivals")
        for trial in run.study(study)
    )
    assert found["family"]["device_seconds"] == pytest.approx(spent)
    assert found["family"]["device_hours"] == pytest.approx(spent / 3600)
    assert found["family"]["training_runs"] == 8
    searched = [t for t in run.study("search") if t.answered_from is None and t.reports]
    assert found["search"]["training_runs"] == len(searched) + len(run.study("finalists"))
