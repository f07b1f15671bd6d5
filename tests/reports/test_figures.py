from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from reports import (
    coefficient_figures,
    figure_style,
    figures,
    search_figures,
    tables,
    ternary,
    trial_tables,
)
from reports.load import load
from reports.schema import rows
from space.validation import InvalidInput


def _scattered(axes):
    clouds = [each for each in axes.collections if isinstance(each, PathCollection)]
    return np.concatenate([cloud.get_offsets() for cloud in clouds])


def test_accuracy_against_macs_shows_every_measured_trial_the_front_and_the_family(run, found):
    (axes,) = figures.accuracy(run, found).axes
    searched = found.trials[(found.trials["study"] == "search") & found.trials["accuracy"].notna()]
    drawn = {tuple(point) for point in _scattered(axes)}
    assert drawn == {(float(r["macs"]), r["accuracy"]) for r in rows(searched)}
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["Pareto front of the search"].get_xdata()) == list(found.pareto["macs"])
    (point,) = lines["baseline, trained longer"].get_xydata()
    assert tuple(point) == (run.baseline["cost"]["macs"], run.baseline["accuracy"])
    (bars,) = axes.containers
    assert list(bars.lines[0].get_ydata()) == list(found.family["accuracy"])
    ends = np.array(bars.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, found.family[["low", "high"]].to_numpy())
    assert {text.get_text() for text in axes.texts} == {"B0", "B1", "B2", "B3"}
    assert {f"rival: {name}" for name in ("width", "depth", "mobilenet_v2")} <= lines.keys()
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "MACs (multiply–adds)"


def test_the_legend_says_how_many_pruned_trials_the_axes_leave_out(run, found):
    def labels():
        (axes,) = figures.accuracy(run, replace(found, trials=trials)).axes
        return {cloud.get_label() for cloud in axes.collections}

    trials = found.trials.copy()
    pruned = trials["state"] == "pruned"
    trials.loc[pruned, "accuracy"] = trials["accuracy"].max()
    assert "pruned trials" in labels()
    trials.loc[pruned.idxmax(), "accuracy"] = 0.0
    assert "pruned trials (1 outside the axes)" in labels()


def test_search_progress_shows_rewards_and_the_best_so_far(found):
    (axes,) = search_figures.search_progress(found.search_progress).axes
    (line,) = axes.lines
    assert list(line.get_ydata()) == list(found.search_progress["best_reward"])
    assert len(_scattered(axes)) == len(found.search_progress)
    assert axes.texts[0].get_text().endswith(f"{found.search_progress['best_reward'].max():.3f}")


def test_the_coefficient_figure_has_a_row_a_candidate(found):
    (axes,) = coefficient_figures.coefficient_grid(found.coefficients).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(found.coefficients)
    best = found.coefficients.iloc[0]
    assert labels[0].split() == [
        part
        for sign, name in (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
        for part in (sign, f"{best[name]:.2f}")
    ]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_the_same_file_each_time(found, tmp_path, suffix):
    for name in ("one", "two"):
        figure_style.save(
            search_figures.search_progress(found.search_progress), tmp_path / f"{name}.{suffix}"
        )
    one = (tmp_path / f"one.{suffix}").read_bytes()
    assert one == (tmp_path / f"two.{suffix}").read_bytes()
    assert b"date>" not in one


@pytest.mark.parametrize("kind", figures.KINDS)
def test_text_is_inside_the_figure(run, found, kind):
    figure = figures.draw(kind, run, found)
    figure.draw_without_rendering()
    inside = figure.get_tightbbox()
    assert inside.x0 >= 0
    assert inside.y0 >= 0
    assert inside.x1 <= figure.get_figwidth()
    assert inside.y1 <= figure.get_figheight()


@pytest.mark.parametrize("kind", figures.KINDS)
def test_what_has_not_begun_gives_an_empty_figure(tmp_path, kind):
    run = load(tmp_path)
    figure_style.save(figures.draw(kind, run, tables.collect(run)), tmp_path / f"{kind}.png")


@pytest.mark.parametrize("cost", figures.COSTS)
def test_the_front_is_of_the_cost_that_is_drawn(run, found, cost):
    (axes,) = figures.draw(f"accuracy_{cost}", run, found).axes
    (line,) = [line for line in axes.lines if line.get_label().startswith("Pareto")]
    assert list(line.get_xdata()) == list(trial_tables.pareto(found.trials, cost)[cost])


def test_the_triangle_shows_every_candidate_at_its_shares(found):
    (axes,) = coefficient_figures.coefficient_surface(found.coefficients).axes
    drawn = {tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() in ("o", "D")}
    named = ("depth_share", "width_share", "resolution_share")
    assert drawn == {
        tuple(ternary.place(*(row[name] for name in named))) for row in rows(found.coefficients)
    }


def test_a_number_on_the_triangle_hides_no_other():
    corner, edge = ternary.place(1, 0, 0), ternary.place(1, 1, 0)
    beside = ternary.TernaryPoint(corner.x + 0.05, corner.y - 0.01)
    assert list(ternary.with_room([corner, corner, edge, beside])) == [True, False, True, False]


def test_an_unknown_kind_and_an_unknown_format_are_refused(run, found, tmp_path):
    with pytest.raises(InvalidInput, match="did you mean 'accuracy_macs'"):
        figures.draw("acuracy_macs", run, found)
    figure = figures.draw("search_progress", run, found)
    with pytest.raises(InvalidInput, match=r"must end in .png, .svg or .pdf"):
        figure_style.save(figure, tmp_path / "a.gif")


def test_a_members_name_is_no_formula(run, found, tmp_path):
    hostile = replace(found, family=found.family.assign(name="b$\\frac{"))
    figure = figures.accuracy(run, hostile)
    figure_style.save(figure, tmp_path / "a.svg")


def test_the_styles_of_others_are_left_alone(found):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31.0}):
        figure = search_figures.search_progress(found.search_progress)
        assert figure.axes[0].title.get_fontsize() == 10
        assert mpl.rcParams["font.size"] == 31.0


def test_rivals_begin_at_the_smallest_member(run, found):
    (axes,) = figures.accuracy(run, found).axes
    lines = {line.get_marker(): line for line in axes.lines if line.get_linewidth() == 1}
    trials = found.trials[found.trials["study"] == "rivals"]
    widths = trials[trials["job"].str.startswith("width")]
    first = found.family.iloc[0]
    assert list(lines["s"].get_xdata()) == [first["macs"], *widths["macs"]]
    assert list(lines["s"].get_ydata()) == [first["accuracy"], *widths["accuracy"]]
    assert lines["s"].get_label() == "rival: width"
    (alone,) = [line for line in lines.values() if len(line.get_xdata()) == 1]
    assert alone.get_xdata()[0] == trials[trials["job"] == "mobilenet_v2 b0"]["macs"].item()


def test_latency_is_a_line_a_setting_in_milliseconds(run, found):
    lines = figures.latency_lines(rows(found.latency), rows(found.family))
    assert list(lines) == [
        "eager on cpu, one thread, batch 1",
        "onnxruntime on cpu, one thread, batch 1",
    ]
    for name, way in lines.items():
        measured = rows(found.latency[found.latency["backend"] == name.split()[0]])
        assert [row["x"] for row in way] == [1000 * row["median_seconds"] for row in measured]
        assert [row["accuracy"] for row in way] == list(found.family["accuracy"])
    (axes,) = figures.draw("accuracy_latency", run, found).axes
    drawn = [list(bars.lines[0].get_xdata()) for bars in axes.containers]
    assert drawn == [[row["x"] for row in way] for way in lines.values()]


def test_bands_are_the_quartiles_of_the_best_so_far_where_all_repeats_have_come():
    def progress(*rewards):
        best = np.maximum.accumulate(rewards)
        return pd.DataFrame({"best_reward": best})

    found = search_figures.bands([progress(1, 3, 2, 9), progress(2, 1, 5), progress(4, 4, 4)])
    assert rows(found) == [
        {"made": 1, "runs": 3, "median": 2, "lower_quartile": 1.5, "upper_quartile": 3},
        {"made": 2, "runs": 3, "median": 3, "lower_quartile": 2.5, "upper_quartile": 3.5},
        {"made": 3, "runs": 3, "median": 4, "lower_quartile": 3.5, "upper_quartile": 4.5},
    ]
    (axes,) = search_figures.repeated_progress({"tpe": found, "none": found.head(0)}).axes
    (line,) = axes.lines
    assert list(line.get_ydata()) == [2, 3, 4]
    assert line.get_label() == "tpe, 3 runs"


def test_the_front_is_drawn_with_the_hypervolume_of_a_search_of_several_objectives(found):
    several = {"objectives": ["accuracy", "macs"], "hypervolume": 0.4321}
    (axes,) = search_figures.pareto_front(found.trials, found.pareto, several).axes
    (line,) = axes.lines
    assert list(line.get_xdata())[:-1] == list(found.pareto["macs"])
    assert list(line.get_ydata())[:-1] == list(found.pareto["accuracy"])
    told = [text.get_text() for text in axes.texts if "hypervolume" in text.get_text()]
    assert told == ["hypervolume 0.432 (accuracy and macs; 1: all)"]


@pytest.mark.parametrize("kind", figures.KINDS)
def test_text_is_inside_a_figure_of_a_papers_column(run, found, kind):
    figure = figure_style.at_width(figures.draw(kind, run, found), figure_style.COLUMN)
    figure.draw_without_rendering()
    inside = figure.get_tightbbox()
    assert inside.x0 >= 0
    assert inside.y0 >= 0
    assert inside.x1 <= figure_style.COLUMN
    assert inside.y1 <= figure.get_figheight()


def test_a_run_without_latencies_has_no_figure_of_them(found):
    assert "accuracy_latency" in figures.drawable(found)
    assert "accuracy_latency" not in figures.drawable(replace(found, latency=found.latency.head(0)))


def test_costs_that_differ_by_rounding_alone_are_drawn():
    cost = 0.0037345158904236566
    with figure_style.new_figure("rounded", 4, 3) as (figure, axes):
        figure_style.accuracy_axes(axes, "seconds", "accuracy", (0.08, 0.09))
        axes.plot([cost, np.nextafter(cost, 1)], [0.5, 0.6])
        low, high = axes.get_xlim()
    assert low < cost < high
    assert figure_style.encode(figure, "png")
