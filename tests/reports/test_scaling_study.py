"""What a report says of a scaling study, from accuracies that are known."""

import json
import re
from dataclasses import asdict, replace

import pytest

from reports import figure_style, scaling_study, scaling_study_figures
from reports.scaling_study import ScalingStudy
from space.validation import InvalidInput

SEEDS = 3
NOISE = ((-0.001, 0.0, 0.001), (0.001, -0.001, 0.0), (0.0, 0.001, -0.001))


def study(accuracies: dict[tuple[str, float], float], best: str = "compound") -> ScalingStudy:
    """One baseline, with each rule and factor at an accuracy that varies little."""
    points = [
        {
            "baseline": "net",
            "rule": rule,
            "factor": factor,
            "target": 1e6 * factor,
            "macs": int(1e6 * factor),
            "params": 1000,
            "activations": 1000,
            "resolution": 24,
            "key": f"{rule} {factor}",
            "training_runs": [
                {"seed": seed, "accuracy": accuracy + noise, "seconds": 1.0}
                for seed, noise in enumerate(NOISE[order % 3])
            ],
        }
        for order, ((rule, factor), accuracy) in enumerate(accuracies.items())
    ]
    return ScalingStudy(
        "s", "d", "glyphs", 2, SEEDS, best, "rules", {"net": "mobilenet_v2"}, points
    )


HOLDS = {
    ("baseline", 1.0): 0.5,
    ("depth", 2.0): 0.6,
    ("width", 2.0): 0.61,
    ("compound", 2.0): 0.7,
    ("depth", 4.0): 0.62,
    ("width", 4.0): 0.64,
    ("compound", 4.0): 0.8,
}


def test_a_clear_winner_is_said_to_hold_with_the_numbers():
    told = scaling_study.sentence(study(HOLDS))
    assert "equal MACs holds here (three seeds" in told
    told = told.replace("\N{NO-BREAK SPACE}", " ")
    assert "net × 4: 80.0 % against 64.0 % of width (told apart from all)" in told


def test_a_clear_loser_is_said_not_to_hold():
    worse = HOLDS | {("compound", 2.0): 0.3, ("compound", 4.0): 0.3}
    assert "does not hold here" in scaling_study.sentence(study(worse))


def test_equals_are_said_to_be_neither():
    same = HOLDS | {("compound", 2.0): 0.6102, ("compound", 4.0): 0.6402}
    told = scaling_study.sentence(study(same))
    assert "is neither confirmed nor refuted here" in told
    assert "not told apart from width" in told


def test_a_cost_with_a_missing_training_is_not_judged():
    partial = study(HOLDS)
    cut = [
        point | {"training_runs": point["training_runs"][:2]} if point["factor"] == 4 else point
        for point in partial.points
    ]
    told = scaling_study.sentence(replace(partial, points=cut))
    assert "net × 2" in told
    assert "net × 4" not in told
    assert "Nothing can be said yet" in scaling_study.sentence(replace(partial, points=[]))


def test_falling_gains_are_counted():
    told = scaling_study.gains(study(HOLDS))
    assert told is not None
    assert "for 2 of 2" in told
    assert "depth of net +10.0 then +2.0" in told


def test_each_baselines_gain_is_told():
    rules = study(HOLDS)
    sized = [
        point | {"baseline": point["rule"], "rule": "width"}
        for point in rules.points
        if point["rule"] != "baseline"
    ]
    told = scaling_study.gains(replace(rules, compared="baselines", points=sized))
    assert told == (
        "Points of accuracy per doubling of MACs: depth +2.0; width +3.0; compound +10.0."
    )


def test_a_tie_and_a_loss_do_not_hold_in_part():
    mixed = HOLDS | {("compound", 2.0): 0.3, ("compound", 4.0): 0.6402}
    assert "does not hold here" in scaling_study.sentence(study(mixed))


def test_intervals_hold_the_mean_and_are_one_width_for_a_baseline():
    table = scaling_study.points(study(HOLDS))
    assert ((table["low"] < table["accuracy"]) & (table["accuracy"] < table["high"])).all()
    assert (table["high"] - table["low"]).std() == pytest.approx(0, abs=1e-9)


def test_the_files_of_a_study_are_written_from_its_folder(tmp_path):
    found = study(HOLDS)
    (tmp_path / "study.json").write_text(json.dumps(vars(found)))
    start = {
        "command": "phiscale study s",
        "time": "2026-01-02T03:04:05+00:00",
        "environment": {"processor": "a processor", "cores": "2", "gpus": "none", "torch": "2"},
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"starts": [start]}))
    scaling_study.write(tmp_path)
    report = tmp_path / "report"
    assert (report / "points.csv").read_text().startswith("baseline,rule,factor")
    assert (report / "accuracy.png").stat().st_size > 10_000
    readme = (report / "README.md").read_text()
    assert "phiscale study s" in readme
    assert "a processor" in readme
    assert "21 training runs" in readme
    page = (report / "index.html").read_text()
    assert "equal MACs holds here" in re.search(r"<h1>(.*?)</h1>", page)[1]
    assert "data:image/png;base64," in page
    assert all((report / name).is_file() for name in re.findall(r'href="([\w.]+)"', page))


def test_rules_and_baselines_stand_beside_what_was_published_of_them():
    rules = study(HOLDS)
    here, there = scaling_study_figures.accuracy(rules, scaling_study.points(rules)).axes
    assert lines(here) == {"depth", "width", "compound"}
    assert lines(there) == {"depth", "width", "resolution", "compound"}
    sized = [point | {"baseline": point["rule"], "rule": "width"} for point in rules.points]
    baselines = replace(
        rules, compared="baselines", published={"compound": "efficientnet_b0"}, points=sized
    )
    here, there = scaling_study_figures.accuracy(baselines, scaling_study.points(baselines)).axes
    assert lines(here) == {"baseline", "depth", "width", "compound"}
    assert lines(there) == {"compound"}


def lines(axes) -> set[str]:
    return set(axes.get_legend_handles_labels()[1])


def test_one_seed_tells_nothing_apart():
    whole = study(HOLDS)
    single = [point | {"training_runs": point["training_runs"][:1]} for point in whole.points]
    told = scaling_study.sentence(replace(whole, seeds=1, points=single))
    assert "equal MACs cannot be stated from one seed (one seed" in told
    assert told.count("one seed: no statement") == 2
    assert "told apart" not in told


def test_a_folder_without_a_study_is_said_to_have_none(tmp_path):
    with pytest.raises(InvalidInput, match=r"study \(No such file or directory\); write it"):
        scaling_study.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("macs", 10**400), ("key", None), ("training_runs", [{"seed": 0}])]
)
def test_a_changed_study_is_refused_by_its_key(tmp_path, key: str, value: object):
    content = asdict(study(HOLDS))
    (tmp_path / "study.json").write_text(json.dumps(content), "utf-8")
    assert scaling_study.load(tmp_path).points == content["points"]
    content["points"][1][key] = value
    (tmp_path / "study.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(InvalidInput, match=rf"study\.json: points: 1\.{key}"):
        scaling_study.load(tmp_path)


def test_the_legend_names_the_lines_of_all_panels_at_every_width():
    rules = study(HOLDS | {("fast", 2.0): 0.6})
    figure = scaling_study_figures.accuracy(rules, scaling_study.points(rules))
    for width in (figure_style.PAGE, figure_style.COLUMN):
        (legend,) = figure_style.at_width(figure, width).legends
        named = {text.get_text() for text in legend.get_texts()}
        assert named == {"depth", "width", "resolution", "compound", "fast"}
