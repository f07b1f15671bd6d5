import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from reports import search_tables
from reports.load import Trial
from reports.schema import rows
from reports.summary.search import measured


def test_every_epoch_on_held_out_images_is_a_row_and_none_on_test_images(run):
    curves = search_tables.learning_curves(run)
    assert not curves["study"].isin(["family", "rivals"]).any()
    trained = [t for t in run.all_trials if t.answered_from is None]
    trained = [t for t in trained if t.study not in ("family", "rivals")]
    assert len(curves) == sum(len(trial.measurement["epochs"]) for trial in trained)
    for row in rows(curves.iloc[::7]):
        trial = run.study(row["study"])[row["trial"]]
        assert row["accuracy"] == trial.measurement["epochs"][row["epoch"] - 1]["accuracy"]


def test_the_frequencies_of_a_choice_add_up_to_one(run):
    for _, values in search_tables.choices(run).groupby("choice"):
        assert values["among_all"].sum() == pytest.approx(1)
        assert values["among_best"].sum() == pytest.approx(1)


def test_frequencies_are_those_of_the_best_trials(thousand_trials):
    complete = [
        trial
        for trial in thousand_trials.study("search")
        if trial.state == "complete" and trial.answered_from is None
    ]
    top = sorted(complete, key=lambda trial: -trial.value)[: math.ceil(0.05 * len(complete))]
    assert len(top) == search_tables.best_count(len(complete)) > 30
    for row in rows(search_tables.choices(thousand_trials)):
        made = [str(trial.choices[row["choice"]]) == row["value"] for trial in top]
        assert row["among_best"] == pytest.approx(sum(made) / len(made))


@pytest.mark.parametrize(("complete", "best"), [(20, 5), (100, 5), (101, 6), (1000, 50)])
def test_the_best_are_a_twentieth_and_at_least_five(complete, best):
    assert search_tables.best_count(complete) == best


def _searched(values):
    return tuple(
        Trial("search", number, "complete", value, choices, key=str(number))
        for number, (value, choices) in enumerate(values)
    )


def test_the_choice_that_decides_is_the_important_one(run):
    made = [
        (float(n % 3 == 1) + 1e-3 * (n % 7), {"a": n % 2, "b": ("x", "y", "z")[n % 3], "c": n % 5})
        for n in range(90)
    ]
    found = rows(search_tables.importance(replace(run, trials={"search": _searched(made)})))
    assert found[0]["choice"] == "b"
    assert found[0]["importance"] > 0.8
    assert sum(row["importance"] for row in found) == pytest.approx(1)


def test_importances_are_the_same_each_time_and_fall(thousand_trials):
    first = search_tables.importance(thousand_trials)
    assert first["importance"].is_monotonic_decreasing
    assert first.equals(search_tables.importance(thousand_trials))


@pytest.mark.parametrize("values", [[0.5] * 40, [0.1 * n for n in range(19)]])
def test_too_little_says_nothing_of_importance(run, values):
    made = _searched([(value, {"a": n % 2}) for n, value in enumerate(values)])
    assert search_tables.importance(replace(run, trials={"search": made})).empty


def test_few_trials_have_nothing_in_common(run):
    made = _searched([(0.1 * n, {"a": n % 2}) for n in range(20)])
    assert search_tables.choices(replace(run, trials={"search": made[:19]})).empty
    assert len(search_tables.choices(replace(run, trials={"search": made}))) == 2


def test_ranks_are_of_both_training_runs(run):
    ranks = rows(search_tables.ranks(run))
    assert [row["short_rank"] for row in ranks] == [1, 2, 3, 4, 5]
    assert sorted(row["long_rank"] for row in ranks) == [1, 2, 3, 4, 5]
    by_long = sorted(ranks, key=lambda row: row["long_rank"])
    assert [row["long_reward"] for row in by_long] == sorted(
        (trial.value for trial in run.study("finalists")), reverse=True
    )
    assert by_long[0]["key"] == run.baseline["key"]


@given(st.permutations(range(1, 8)))
def test_agreement_is_kendalls_tau(order):
    frame = pd.DataFrame({"short_rank": list(range(1, 8)), "long_rank": list(order)})
    assert search_tables.kendall_tau(frame) == pytest.approx(
        kendalltau(range(1, 8), order).statistic
    )


def test_one_finalist_agrees_with_nothing(run):
    assert search_tables.kendall_tau(search_tables.ranks(run).head(1)) is None


def _curves(run, accuracies):
    trial = run.study("search")[0]
    return replace(
        run,
        trials={
            "search": [
                replace(
                    trial,
                    number=number,
                    state="complete",
                    measurement={
                        "epochs": [
                            {"epoch": epoch, "accuracy": accuracy}
                            for epoch, accuracy in enumerate(curve, 1)
                        ]
                    },
                )
                for number, curve in enumerate(accuracies)
            ]
        },
    )


def test_epochs_agree_with_the_last_as_far_as_they_order_alike(run):
    level = [(-n / 10, n / 10, n / 10) for n in range(6)]
    curves = search_tables.learning_curves(_curves(run, [*level, (0.9,)]))
    assert search_tables.epoch_agreement(curves) == {1: -1.0, 2: 1.0}


def test_few_learning_curves_agree_on_nothing(run):
    curves = search_tables.learning_curves(_curves(run, [(n / 10, n / 10) for n in range(4)]))
    assert search_tables.epoch_agreement(curves) == {}


def test_refined_parts_are_said_to_train_as_the_recipe_has_it(run):
    recipe = dict(run.recipe) | {"evaluator": {"kind": "elastic", "refine": 1}}
    begun = replace(run, recipe=recipe, trials={})  # no part is measured yet
    assert measured(begun).endswith(", after 1 epoch more each")
