import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import page, tables, ternary
from reports.schema import rows
from reports.summary.wording import seeds_agree

shares = st.tuples(*[st.floats(0, 1)] * 3).filter(lambda shares: sum(shares) > 1e-3)


@given(shares)
def test_a_place_is_as_far_from_each_side_as_its_share(parts):
    (depth, width, resolution), (x, y) = parts, ternary.place(*parts)
    whole = sum(parts)
    # Distances to the sides opposite the corners of depth, width and resolution.
    distances = (y, (math.sqrt(3) * x + y) / 2, (math.sqrt(3) * (1 - x) + y) / 2)
    found = [
        distances[0] / ternary.HEIGHT,
        1 - distances[1] / ternary.HEIGHT,
        1 - distances[2] / ternary.HEIGHT,
    ]
    assert found == pytest.approx([depth / whole, width / whole, resolution / whole], abs=1e-9)


def test_shares_follow_from_the_coefficients(run):
    for row in rows(tables.coefficients(run)):
        total = math.log(row["nominal_product"])
        assert row["depth_share"] == pytest.approx(math.log(row["alpha"]) / total)
        assert row["width_share"] == pytest.approx(2 * math.log(row["beta"]) / total)
        assert row["resolution_share"] == pytest.approx(2 * math.log(row["gamma"]) / total)


def _raced(run):
    """The run as a race would have left it: two candidates trained long and repeatedly."""
    found = dict(run.coefficients)
    first, second = sorted(found["candidates"], key=lambda each: -each["accuracy"])[:2]
    label = "α{alpha:g} β{beta:g} γ{gamma:g}".format
    extra = [
        replace(
            trial,
            number=1000 + 10 * seed + place,
            budget=trial.budget | {"epochs": 30, "seed": seed},
        )
        for seed in range(3)
        for place, trial in enumerate(run.study("coefficients"))
        if trial.key in (first["key"], second["key"])
    ]
    found["decision"] = "not told apart: balanced growth chosen"
    found["raw_winner"] = {"name": label(**first), "accuracy": 0.82}
    found["race"] = {
        "rungs": [
            {"entrants": 12, "epochs": 2, "seeds": 1},
            {"entrants": 2, "epochs": 30, "seeds": 3},
        ],
        "part_of_full_grid": 0.2,
    }
    found["finalists"] = {
        "level": 0.95,
        "seeds": 3,
        "gap": 0.021,
        "tied_among": [label(**first), label(**second)],
        "tied": [label(**first), label(**second)],
    }
    found["guest"] = {
        "name": "α1.2 β1.1 γ1.15",
        "accuracy": 0.8,
        "difference": -0.011,
        "half_width": 0.03,
        "told_apart": False,
        "realised_ratio": 2.57,
    }
    interval = {"value": 1.25, "interval": [1.1, 1.4]}
    found["surface"] = {
        "level": 0.95,
        "fits": True,
        "lack_of_fit": 0.4,
        **dict.fromkeys(("alpha", "beta", "gamma"), interval),
    }
    found["gaussian_process"] = {
        "best": label(**second),
        "means": {label(**second): 0.012},
        "deviations": {label(**second): 0.008},
    }
    found["design"] = {"sentence": "12 candidates; with noise of 1.3 points"}
    trials = dict(run.trials) | {"coefficients": (*run.study("coefficients"), *extra)}
    return replace(run, coefficients=found, trials=trials), {first["key"], second["key"]}


def test_a_race_says_which_candidates_are_tied_and_how_long_they_trained(run):
    raced, longest = _raced(run)
    found = rows(tables.coefficients(raced))
    assert {row["key"] for row in found if row["tied"]} == longest
    assert {row["key"] for row in found[:2]} == longest
    assert [(row["epochs"], row["training_runs"]) for row in found[:3]] == [
        (30, 3),
        (30, 3),
        (10, 1),
    ]


def test_the_page_says_what_the_race_knows(run):
    raced, _ = _raced(run)
    html = page.render(raced, tables.collect(raced)).replace("\N{NO-BREAK SPACE}", " ")
    assert "is chosen (not told apart: balanced growth chosen)." in html
    assert "12 for two epochs, then 2 for 30 epochs, each with three seeds" in html
    assert "That took 20.0 % of the training" in html
    assert (
        "Of two finalists, not told apart from the best at the level of 95 %, by 2.1 points or "
        "less: α" in html
    )
    assert "The other candidates were dropped after one seed, without statistics." in html
    assert "Marked at the left: the two finalists left by the comparison over paired seeds." in html
    assert "its optimum at α 1.25 (1.1 to 1.4)" in html
    assert "Gaussian process through all training runs: α" in html
    assert "+1.2 ± 0.8 points from the mean of the candidates." in html
    assert "80.0 %, 1.1 ± 3.0 points below them, which is not told apart" in html
    assert "Before training: 12 candidates; with noise of 1.3 points." in html


def test_the_page_says_that_a_surface_does_not_fit(run):
    surface = {"fits": False, "lack_of_fit": 0.003}
    html = page.render(*_with(run, dict(run.coefficients) | {"surface": surface}))
    assert "does not fit (lack of fit: p = 0.003), so its optimum means nothing" in html


def test_a_best_that_is_told_apart_is_called_best_of_the_finalists(run):
    found = dict(_raced(run)[0].coefficients)
    found["finalists"] = found["finalists"] | {"tied": found["finalists"]["tied"][:1]}
    html = page.render(*_with(run, found)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Best of the finalists: told apart from the other one finalist at the level of" in html


def test_the_page_says_whether_the_answer_carries_over(run):
    other = {"phi": -1, "alpha": 1.1, "beta": 1.2, "gamma": 1.1, "shared": 9}
    known = other | {"correlation": 0.75, "regret": 0.012}
    html = page.render(*_with(run, dict(run.coefficients) | {"comparison": known}))
    told = html.replace("\N{NO-BREAK SPACE}", " ")
    assert "grid at φ = -1, of nine combinations, chose α 1.1, β 1.2, γ 1.1" in told
    assert "is 0.75, and the larger grid would lose 1.2 points" in told
    unknown = other | {"correlation": None, "regret": None}
    page.render(*_with(run, dict(run.coefficients) | {"comparison": unknown}))


def test_pinned_coefficients_are_said_to_be_pinned(run):
    pinned = dict(run.coefficients) | {"pinned": True, "candidates": [], "accuracy": None}
    html = page.render(*_with(run, pinned))
    assert "The recipe gives α 1.2 (depth), β 1 (width), γ 1.3 (resolution)" in html
    assert 'class="triangle"' not in html


def _with(run, coefficients):
    run = replace(run, coefficients=coefficients)
    return run, tables.collect(run)


def test_a_failed_candidate_stands_last_and_without_accuracy(run):
    first, *others = run.coefficients["candidates"]
    failed = dict(run.coefficients) | {"candidates": [first | {"accuracy": None}, *others]}
    html_run, found = _with(run, failed)
    assert rows(found.coefficients)[-1]["key"] == first["key"]
    page.render(html_run, found)


@pytest.mark.parametrize(("tau", "verb"), [(0.8, "agree"), (-0.8, "disagree")])
def test_elastic_seeds_with_reversed_orders_disagree(tau, verb):
    said = seeds_agree({"tau": tau, "networks": 4, "interval": None})
    assert said.startswith(f"Two elastic seeds {verb} on the order of four parts")
