import csv
import io
import json
import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from reports import tables, trial_tables
from reports.formatting import to_csv
from reports.load import load
from reports.schema import COLUMNS, rows
from reports.statistics import wilson
from reports.summary import summarise
from space import presets
from space.architecture import Architecture
from space.cost import cost
from space.device import Precision, device_memory


@given(st.integers(1, 50_000), st.data())
def test_intervals_are_wilsons(images, data):
    right = data.draw(st.integers(0, images))
    low, high = wilson(right / images, images)
    truth = binomtest(right, images).proportion_ci(method="wilson")
    assert low == pytest.approx(truth.low, abs=1e-6)
    assert high == pytest.approx(truth.high, abs=1e-6)


def test_every_column_is_documented(run, found):
    choices = {name for trial in run.study("search") for name in trial.choices}
    for name, frame in vars(found).items():
        assert not set(frame.columns) - set(COLUMNS) - choices, name


def test_every_trial_is_a_row(run, found):
    assert len(found.trials) == sum(len(trials) for trials in run.trials.values())
    for trial, row in zip(run.study("search"), rows(found.trials), strict=False):
        assert row["macs"] == trial.cost["macs"]
        assert row["accuracy"] == trial.measurement["accuracy"]
        assert row["stage1.kernel"] == trial.choices["stage1.kernel"]
        assert row["epochs_trained"] == len(trial.measurement["epochs"])


def test_a_pruned_trials_reward_is_its_last(run, found):
    pruned = found.trials[found.trials["state"] == "pruned"]
    assert len(pruned)
    for row in rows(pruned):
        trial = run.study("search")[row["trial"]]
        assert row["reward"] == trial.reports[max(trial.reports)]


def test_a_run_that_bounds_a_device_has_columns_of_its_bytes(run, found):
    assert not {"sram", "flash"} & {*found.trials.columns, *found.family.columns}
    objective = run.recipe["objective"] | {"bounds": {"sram": 256_000}, "precision": "int8"}
    bounded = replace(run, recipe={**run.recipe, "objective": objective})
    for made in (trial_tables.trials(bounded), tables.family(bounded)):
        networks = {trial.key: trial.architecture for trial in run.all_trials}
        for row in rows(made):
            network = Architecture.from_dict(networks[row["key"]])
            expected = device_memory(network, Precision.INT8)
            assert (row["sram"], row["flash"]) == (expected.sram, expected.flash)


def test_the_page_names_the_members_above_the_bounds_of_the_device(run, found):
    members = {row["name"]: row["key"] for row in rows(found.family)}
    networks = {trial.key: trial.architecture for trial in run.all_trials}
    needs = {
        name: device_memory(Architecture.from_dict(networks[key]), Precision.INT8)
        for name, key in members.items()
    }
    most = sorted(each.sram for each in needs.values())[0]
    bounds = {"sram": most + 1_000, "flash": 10**9, "macs": [1, 10**9]}
    device = {"bounds": bounds, "overhead": {"sram": 1_000, "flash": None}, "precision": "int8"}
    bounded = replace(run, recipe={**run.recipe, "objective": run.recipe["objective"] | device})
    assert summarise(bounded, tables.collect(bounded))["over_bounds"] == tuple(
        f"In int8, {name.upper()} needs {each.sram:,} bytes of SRAM, more than the {most:,} that "
        "objective.bounds allow with an overhead of 1,000."
        for name, each in needs.items()
        if each.sram > most
    )
    assert summarise(run, found)["over_bounds"] == ()


_POINTS = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([0.1, 0.2, 0.3, 0.4, None])), max_size=30
)


@given(_POINTS)
def test_the_front_is_what_nothing_beats(points):
    frame = pd.DataFrame(
        {
            "study": "search",
            "state": "complete",
            "trial": range(len(points)),
            "macs": pd.array([macs for macs, _ in points], dtype="Int64"),
            "accuracy": pd.array([a for _, a in points], dtype="float64"),
        }
    )
    front = {(row["macs"], row["accuracy"]) for row in rows(trial_tables.pareto(frame))}
    known = {(macs, accuracy) for macs, accuracy in points if accuracy is not None}

    def beaten(macs, accuracy):
        return any((m, -a) != (macs, -accuracy) and m <= macs and a >= accuracy for m, a in known)

    assert front == {point for point in known if not beaten(*point)}


def test_only_complete_trials_of_the_search_compete(found):
    front = found.pareto
    assert set(front["study"]) == {"search"}
    assert set(front["state"]) == {"complete"}
    assert front["macs"].is_monotonic_increasing


def test_the_best_so_far_is_the_greatest_complete_reward_yet(found):
    progress = found.search_progress
    best = -math.inf
    for row in rows(progress):
        if row["state"] == "complete":
            best = max(best, row["reward"])
        assert row["best_reward"] == best
    assert 9 not in set(progress["trial"]), "an answered trial is no training"


def test_counts_add_up_to_the_trials(run, found):
    ends = ["complete", "pruned", "failed", "answered", "unfinished"]
    for row in rows(found.counts):
        assert sum(row[name] for name in ends) == len(run.study(row["study"]))
    search = rows(found.counts)[0]
    assert search["answered"] == 1
    assert search["retried"] == 1
    assert search["in_pieces"] == 1
    trials = found.trials[found.trials["study"] == "search"]
    assert dict(zip(trials["trial"], trials["pieces"], strict=True))[13] == 4
    assert dict(zip(trials["trial"], trials["inherited"], strict=True))[13] == 0.5
    assert dict(zip(trials["trial"], trials["teacher"], strict=True))[13] == "9f86d081884c7d65"
    assert search["rejected"] == sum(trial.rejected for trial in run.study("search"))
    assert len(found.failures) == search["failed"] > 0
    assert all("NaN" in reason for reason in found.failures["reason"])


def test_candidates_are_ordered_and_one_has_won(run, found):
    candidates = found.coefficients
    assert candidates["accuracy"].is_monotonic_decreasing
    (winner,) = rows(candidates[candidates["winner"]])
    for name in ("alpha", "beta", "gamma", "accuracy"):
        assert winner[name] == run.coefficients[name]


def test_candidates_beyond_the_images_resolution_are_told_apart(found):
    candidates = rows(found.coefficients)
    (best,) = [row for row in candidates if row["winner"]]
    for row in candidates:
        error = math.hypot(
            *(math.sqrt(r["accuracy"] * (1 - r["accuracy"]) / r["images"]) for r in (row, best))
        )
        assert row["tied"] == (best["accuracy"] - row["accuracy"] <= 1.96 * error)
    assert {row["tied"] for row in candidates} == {True, False}


def test_members_have_the_interval_of_their_images(run, found):
    for row, member in zip(rows(found.family), run.family["members"], strict=True):
        assert row["macs"] == member["cost"]["macs"]
        assert (row["low"], row["high"]) == wilson(member["accuracy"], member["images"])
        assert row["low"] < row["accuracy"] < row["high"]


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v3_large", "resnet50"])
def test_stages_add_up_to_the_network(name):
    architecture = presets.load(name)
    rows = tables.stage_rows(architecture)
    assert [row["stage"] for row in rows] == [
        "stem",
        *(str(number) for number in range(1, len(architecture.stages) + 1)),
        "head",
    ]
    for kind, whole in cost(architecture)._asdict().items():
        assert sum(row[kind] for row in rows) == whole
    assert sum(row.get("repeats", 0) for row in rows) == sum(
        stage.repeats for stage in architecture.stages
    )


def test_the_stages_of_b0_are_the_papers():
    rows = tables.stage_rows(presets.load("efficientnet_b0"))
    seen = [
        (row["kernel"], row["channels"], row["repeats"], row["resolution"]) for row in rows[1:8]
    ]
    assert seen == [  # EfficientNet, table 1 (there, with the resolution of a stage's input)
        (3, 16, 1, 112),
        (3, 24, 2, 56),
        (5, 40, 2, 28),
        (3, 80, 3, 14),
        (5, 112, 3, 14),
        (5, 192, 4, 7),
        (3, 320, 1, 7),
    ]
    assert [row["expansion"] for row in rows[1:8]] == [None, 6, 6, 6, 6, 6, 6]


def test_a_universal_stage_has_both_its_kernels_or_none():
    rows = tables.stage_rows(presets.load("mobilenet_v4_conv_small"))
    pairs = {(r["start_kernel"], r["kernel"]) for r in rows if r["operator"] == "universal"}
    assert pairs >= {(5, 5), (None, 3), (3, None)}


def test_frames_of_what_has_not_begun_have_their_columns(tmp_path):
    empty = tables.collect(load(tmp_path))
    for name, frame in vars(empty).items():
        assert frame.empty, name
        assert len(frame.columns) >= 2, name
        assert set(frame.columns) <= set(COLUMNS), name


def test_a_csv_gives_the_frame_back(found):
    for name, frame in vars(found).items():
        again = pd.read_csv(io.StringIO(to_csv(frame)), dtype=frame.dtypes.to_dict())
        pd.testing.assert_frame_equal(again, frame, check_dtype=False, obj=name)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start):
    frame = pd.DataFrame({f"{start}name": [f"{start}1+1", "plain"], "number": [-1.5, 2.0]})
    header, first, second = csv.reader(io.StringIO(to_csv(frame)))
    for text in (header[0], first[0]):
        assert text[0] in "'⟨"
        assert "\r" not in text
    assert second[0] == "plain"
    assert first[-1] == "-1.5"


@pytest.mark.parametrize("name", ["-leading", "=1+1", "with \u202e inside", "'quoted"])
def test_a_guarded_name_stands_beside_it_as_it_was(name):
    frame = pd.DataFrame({"class": ["plain", name], "images": [1, 2]})
    again = pd.read_csv(io.StringIO(to_csv(frame)))
    raw = again["class_json"] if name != "'quoted" else again["class"].map(json.dumps)
    assert list(map(json.loads, raw)) == ["plain", name]
    assert list(pd.read_csv(io.StringIO(to_csv(frame[:1])))) == ["class", "images"]
    secret = pd.DataFrame({"url": ["-mysql://a:secret@b/c"]})
    assert "secret" not in to_csv(secret)


def test_rivals_are_compared_with_the_members_of_their_macs(run, found):
    members = {row["name"]: row["accuracy"] for row in rows(found.family)}
    by_job = {trial.job: trial for trial in run.study("rivals")}
    assert len(found.rivals) == len(by_job) == 4
    for row in rows(found.rivals):
        trial = by_job[f"{row['rule']} {row['member']}"]
        assert row["accuracy"] == trial.value
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert row["told_apart"] == (not row["difference_low"] <= 0 <= row["difference_high"])
        if row["p_value"] is None:  # it has no answers
            assert row["difference"] == pytest.approx(trial.value - members[row["member"]])


def test_rivals_with_answers_are_compared_image_by_image(run, found):
    folder = run.path / "predictions"
    right = {}
    for name in ("b0", "mobilenet_v2 b0"):
        answers = pd.read_parquet(folder / f"{name}.parquet")
        right[name] = (answers["label"] == answers["predicted"]).to_numpy()
    better = right["mobilenet_v2 b0"] & ~right["b0"]
    worse = ~right["mobilenet_v2 b0"] & right["b0"]
    (row,) = (row for row in rows(found.rivals) if row["rule"] == "mobilenet_v2")
    assert row["difference"] == pytest.approx(better.mean() - worse.mean())
    exact = binomtest(int(better.sum()), int(better.sum() + worse.sum())).pvalue
    assert row["p_value"] == pytest.approx(exact)


def test_of_rivals_that_were_planned_anew_the_last_counts(run, found):
    *others, last = run.study("rivals")
    again = replace(last, number=last.number + 1, measurement={**last.measurement, "accuracy": 0.5})
    changed = replace(run, trials={**run.trials, "rivals": (*others, last, again)})
    rivals = tables.collect(changed).rivals
    assert len(rivals) == len(found.rivals)
    assert 0.5 in rivals["accuracy"].tolist()
    with_answers = next(trial for trial in run.study("rivals") if "mobilenet" in trial.job)
    twice = replace(run, trials={**run.trials, "rivals": (*others, last, with_answers)})
    assert len(tables.collect(twice).rivals) == len(found.rivals)


def test_rivals_of_an_earlier_plan_of_the_family_are_not_compared(run, found):
    *others, last = run.study("rivals")
    now = {row["job"]: row["key"] for row in rows(found.trials) if row["study"] == "rivals"}
    other = replace(last, key="of another plan", cost={**last.cost, "macs": 1})
    planned = {**run.manifest, "rivals": now}
    both = {**run.trials, "rivals": (*others, last, other)}
    compared = rows(tables.collect(replace(run, manifest=planned, trials=both)).rivals)
    assert [row["macs"] for row in compared] == [row["macs"] for row in rows(found.rivals)]
    gone = replace(run, manifest={**run.manifest, "rivals": {}})
    assert not len(tables.collect(gone).rivals)


def test_rivals_that_failed_are_named_with_their_reason(run):
    *others, last = run.study("rivals")
    failed = replace(last, state="failed", measurement={"reason": "out of memory"})
    changed = replace(run, trials={**run.trials, "rivals": (*others, failed)})
    said = summarise(changed, tables.collect(changed))["rivals"]
    assert f"Not compared: {last.job}, which failed (out of memory)." in said
