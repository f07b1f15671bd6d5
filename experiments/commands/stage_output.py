"""Printing what the stages of a run found."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.commands.terminal import out, print_rows, say, shown, typed
from reports.formatting import count, percent
from reports.summary.coefficients import evidence
from reports.summary.family import growth, interval


def show(found: dict[str, Any]) -> None:
    """Prints the results that there are: baseline, coefficients, family, path of the report."""
    if baseline := found.get("search"):
        show_baseline(baseline)
    if grid := found.get("coefficients"):
        accuracy = shown(grid["accuracy"], lambda each: f", accuracy {percent(each)}")
        out.print(
            f"coefficients  α {grid['alpha']:g} (depth)  β {grid['beta']:g} (width)  "
            f"γ {grid['gamma']:g} (resolution): nominal {grid['nominal_product']:.2f}, "
            f"realised {grid['realised_ratio']:.2f} × the baseline's MACs{accuracy}",
        )
        for sentence in evidence(grid):
            out.print(sentence)
    if grown := found.get("family"):
        _show_family(grown)
        for sentence in growth(grown.get("growth")):
            say(sentence)
    if page := found.get("report"):
        say(f"report        {typed(Path(page))}")


def show_baseline(baseline: dict[str, Any]) -> None:
    """Prints the baseline, with the surrogate that judged it and the Pareto front, if any."""
    cost, lookup = baseline["cost"], baseline.get("lookup")
    latency = f"{1e3 * cost['latency']:.2f} ms, " if "latency" in cost else ""
    kind, accuracy = "held-out", baseline["accuracy"]
    if lookup:
        kind = "recorded" if lookup["expected"]["recorded"] else "surrogate"
        accuracy = lookup["expected"]["accuracy"]
    out.print(
        f"baseline      {count(cost['macs'])} MACs, {count(cost['params'])} parameters, "
        f"{latency}{kind} accuracy {percent(accuracy)}"
    )
    if lookup:
        _show_lookup(baseline, lookup)
    if pareto := baseline.get("pareto"):
        _show_front(pareto)


def _show_lookup(baseline: dict[str, Any], lookup: dict[str, Any]) -> None:
    expected, judged = lookup["expected"], lookup["cross_validation"]
    if judged:
        say(
            f"surrogate     {lookup['surrogate']} of {lookup['records']:,} records: in "
            f"{judged['folds']}-fold cross-validation Kendall τ {judged['kendall_tau']:.3f}, "
            f"R² {judged['r2']:.3f}, RMSE {100 * judged['rmse']:.2f} points"
        )
    counted = f"{lookup['looked_up']} looked up, {lookup['predicted']} predicted"
    if lookup["extrapolated"]:
        counted += f", {lookup['extrapolated']} of them outside the range of recorded costs"
    if not expected["recorded"]:
        counted += f"; the baseline is {expected['changes']} choices from the nearest record"
        if expected["extrapolated"]:
            counted += ", and EXTRAPOLATED: do not trust it"
    say(f"trials        {counted}")
    if reference := lookup["reference"]:
        gain = 100 * (expected["accuracy"] - reference["accuracy"])
        less = baseline["cost"]["macs"] / reference["cost"]["macs"] - 1
        error = f" (RMSE {100 * judged['rmse']:.2f})" if judged else ""
        say(
            f"against       {reference['name']}: {count(reference['cost']['macs'])} MACs, "
            f"{percent(reference['accuracy'])}; the baseline has {gain:+.2f} points{error} at "
            f"{100 * less:+.1f} % MACs"
        )


def _show_front(pareto: dict[str, Any]) -> None:
    def amount(name: str, value: float) -> str:
        return f"{1e3 * value:.2f} ms" if name == "latency" else count(int(value))

    costs = pareto["objectives"][1:]
    most = [f"{amount(n, pareto['most'][n])} {'MACs' if n == 'macs' else n}" for n in costs]
    say(
        f"front         {len(pareto['front'])} networks, hypervolume {pareto['hypervolume']:.4f} "
        f"of accuracy 0 to 1 by {' by '.join(most)}"
    )
    cells = [
        [
            str(each["trial"]),
            percent(each["accuracy"]),
            *(amount(name, each[name]) for name in costs),
            f"{each['reward']:.4f}",
        ]
        for each in pareto["front"]
    ]
    headers = ("trial", "accuracy", *costs, "reward")
    print_rows(headers, cells, numeric=tuple(range(len(headers))))


def _show_family(family: dict[str, Any]) -> None:
    """Prints the members and rivals, with how far each is from its target cost."""
    headers = ["member", "φ", "resolution", "MACs", "parameters", "test accuracy"]
    headers += ["in 8 bits", "off target"]
    cells = [
        [
            each["name"],
            shown(each.get("phi"), "{:.3g}".format),
            f"{each['resolution']} px",
            count(each["cost"]["macs"]),
            count(each["cost"]["params"]),
            shown(each["accuracy"], percent, "failed"),
            shown((each.get("int8") or {}).get("onnx"), lambda int8: percent(int8["accuracy"])),
            shown(each.get("miss"), lambda miss: f"{100 * miss:+.1f} %"),
        ]
        for each in (*family["members"], *family["rivals"])
    ]
    used = [i for i, column in enumerate(zip(*cells, strict=True)) if any(column)]
    print_rows(tuple(headers[i] for i in used), [[row[i] for i in used] for row in cells])


def show_growth(found: dict[str, Any]) -> None:
    """Prints what the rule `learned` found in a table: a row for each target, and sentences."""
    headers = ("target", found["cost"], "accuracy", "compound", "accuracy", "difference", "shipped")
    cells = [
        [
            f"{each['target']:,.12g}",
            *(
                cell
                for name in ("learned", "compound")
                for cell in (
                    f"{each[name][found['cost']]:,.12g}",
                    percent(fmean(each[name]["accuracies"])) if each[name]["accuracies"] else "–",
                )
            ),
            interval(each),
            each["shipped"],
        ]
        for each in found["targets"]
    ]
    print_rows(headers, cells)
    for sentence in growth(found):
        say(sentence)
