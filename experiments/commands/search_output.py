"""What a search found, for people."""

from __future__ import annotations

from typing import Any

from experiments.commands.terminal import out, print_rows
from reports.formatting import count, percent


def show(baseline: dict[str, Any]) -> None:
    """The baseline; the surrogate that judged it, where one did; the front, where there is one."""
    cost, lookup = baseline["cost"], baseline.get("lookup")
    known = "surrogate" if lookup and not lookup["expected"]["recorded"] else "recorded"
    latency = f"{1e3 * cost['latency']:.2f} ms, " if "latency" in cost else ""
    accuracy = lookup["expected"]["accuracy"] if lookup else baseline["accuracy"]
    out.print(
        f"baseline      {count(cost['macs'])} MACs, {count(cost['params'])} parameters, "
        f"{latency}{known if lookup else 'held-out'} accuracy {percent(accuracy)}"
    )
    if lookup:
        _show_lookup(baseline, lookup)
    if pareto := baseline.get("pareto"):
        _show_front(pareto)


def _show_lookup(baseline: dict[str, Any], lookup: dict[str, Any]) -> None:
    expected, judged = lookup["expected"], lookup["cross_validation"]
    if judged:
        out.print(
            f"surrogate     {lookup['surrogate']} of {lookup['records']:,} records: in "
            f"{judged['folds']}-fold cross-validation Kendall τ {judged['kendall_tau']:.3f}, "
            f"R² {judged['r2']:.3f}, RMSE {100 * judged['rmse']:.2f} points",
            soft_wrap=True,
        )
    counted = f"{lookup['looked_up']} looked up, {lookup['predicted']} predicted"
    if lookup["extrapolated"]:
        counted += f", {lookup['extrapolated']} of them outside the range of recorded costs"
    if not expected["recorded"]:
        counted += f"; the baseline is {expected['changes']} choices from the nearest record"
        counted += ", and EXTRAPOLATED: do not trust it" * expected["extrapolated"]
    out.print(f"trials        {counted}", soft_wrap=True)
    if reference := lookup["reference"]:
        gain = 100 * (expected["accuracy"] - reference["accuracy"])
        less = baseline["cost"]["macs"] / reference["cost"]["macs"] - 1
        error = f" (RMSE {100 * judged['rmse']:.2f})" if judged else ""
        out.print(
            f"against       {reference['name']}: {count(reference['cost']['macs'])} MACs, "
            f"{percent(reference['accuracy'])}; the baseline has {gain:+.2f} points{error} at "
            f"{100 * less:+.1f} % MACs",
            soft_wrap=True,
        )


def _show_front(pareto: dict[str, Any]) -> None:
    costs = pareto["objectives"][1:]
    out.print(
        f"front         {len(pareto['front'])} networks, hypervolume {pareto['hypervolume']:.4f} "
        f"of accuracy 0 to 1 by {' by '.join(_said(n, pareto['most'][n]) for n in costs)}",
        soft_wrap=True,
    )
    print_rows(
        ("trial", "accuracy", *costs, "reward"),
        [
            [
                str(each["trial"]),
                f"{percent(each['accuracy'])}",
                *(_amount(name, each[name]) for name in costs),
                f"{each['reward']:.4f}",
            ]
            for each in pareto["front"]
        ],
        numeric=tuple(range(2 + len(costs) + 1)),
    )


def _said(name: str, most: float) -> str:
    return f"{_amount(name, most)} {'MACs' if name == 'macs' else name}"


def _amount(name: str, value: float) -> str:
    return f"{1e3 * value:.2f} ms" if name == "latency" else count(int(value))
