"""Sentences about the search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.formatting import count, minus, number, percent, plural, word
from reports.load import Run
from reports.schema import rows
from reports.search_tables import best_count, elastic_agreement, epoch_agreement, kendall_tau
from reports.summary.wording import own_runs_agree, seeds_agree, trained_for
from reports.tables import Tables

if TYPE_CHECKING:
    import pandas as pd


#: Costs in sentences.
_COSTS = {
    "macs": "MACs",
    "params": "parameters",
    "activations": "activations",
    "latency": "latency",
}


def search(run: Run, tables: Tables) -> str:
    """What was trained, and how the baseline was chosen."""
    counts = _counts(tables)
    if not counts:
        return ""
    if run.looked_up:
        return _lookup(run, counts["complete"])
    told = (
        f"{number(counts['complete'], 'candidate').capitalize()} from the space "
        f"{run.recipe.get('space', '')} were measured {measured(run)}"
    )
    if counts["pruned"]:
        told += f"; {number(counts['pruned'], 'unpromising one')} stopped early"
    finalists = sum(trial.state == "complete" for trial in run.study("finalists"))
    if run.baseline and finalists:
        cost, accuracy = run.baseline["cost"], run.baseline["accuracy"]
        told += (
            f". The best {word(finalists)} were trained {'alone' if run.elastic else 'again'}, for "
            f"{trained_for(run, 'finalists')}; the one with the highest reward, of "
            f"{count(cost['macs'])} MACs and {percent(accuracy)} on the held-out images, is the "
            "baseline"
        )
    return f"{told}."


def measured(run: Run) -> str:
    """How the search's networks came to their accuracy."""
    if not run.elastic:
        return f"after {trained_for(run, 'search')}"
    told = f"as parts of one elastic network that trained for {trained_for(run, 'elastic')}"
    refine = run.recipe["evaluator"].get("refine")
    return f"{told}, after {refine} {plural(refine, 'epoch')} more each" if refine else told


def _counts(tables: Tables) -> dict[str, Any]:
    """The search's row of `tables.counts`; empty if the search has not begun."""
    return next((row for row in rows(tables.counts) if row["study"] == "search"), {})


def _lookup(run: Run, candidates: int) -> str:
    """What a search on recorded training runs found."""
    told = f"{number(candidates, 'candidate').capitalize()} looked up in recorded training runs"
    if run.baseline is None:
        return f"{told}, or predicted."
    known, cost = run.baseline["lookup"], run.baseline["cost"]
    judged, reference = known["cross_validation"], known["reference"]
    if judged:
        told += (
            f" ({known['looked_up']}) or predicted ({known['predicted']}) by a surrogate of "
            f"{known['records']:,} of them, which in cross-validation ranks others with Kendall's "
            f"τ = {judged['kendall_tau']:.2f} and errs by {100 * judged['rmse']:.2f} points (RMSE)"
        )
    told += (
        f". The one with the highest reward, of {count(cost['macs'])} MACs and "
        f"{percent(known['expected']['accuracy'])}, is the baseline"
    )
    if known["extrapolated"]:
        told += f"; {word(known['extrapolated'])} cost less or more than any record"
    if reference:
        told += (
            f". EfficientNet-B0 has {count(reference['cost']['macs'])} MACs and "
            f"{percent(reference['accuracy'])} by the same records"
        )
    return f"{told}."


def reward(run: Run) -> str:
    """The formula of the reward."""
    objective = run.recipe.get("objective", {})
    below, above = (objective.get(f"exponent_{side}", -0.07) for side in ("below", "above"))
    exponent = f"{below:g}" if below == above else f"{below:g} below the target, {above:g} above"
    target = objective.get("target")
    cost = _COSTS[objective.get("cost", "macs")]
    amount = f"{1e3 * target:g} ms" if target and cost == "latency" else count(target or 0)
    formula = f"accuracy · ({cost} / {amount})ʷ" if target else f"accuracy · {cost}ʷ"
    return f"Reward: {formula}, w = {minus(exponent)}. Pruned trials: after their last epoch."


def choices(tables: Tables) -> str:
    """What the bars of choices show."""
    amount = word(best_count(_counts(tables).get("complete", 0)))
    sentence = (
        f"Bars: how often the {amount} trials with the highest rewards made a choice; "
        "behind them, how often all trials did."
    )
    if len(tables.importance):
        sentence += (
            " Orange: how much a choice decides whether a trial is among the best tenth "
            "(PED-ANOVA, by Optuna), in percent of all choices together."
        )
    return sentence


def curves(learning_curves: pd.DataFrame) -> str:
    """How well the ranks of the search's training runs agree between each epoch and the last."""
    found = epoch_agreement(learning_curves)
    if not found:
        return ""
    agreed = ", ".join(f"{minus(f'{tau:.2f}')} after epoch {epoch}" for epoch, tau in found.items())
    return f"Kendall's τ between complete trials' accuracy then and after the last epoch: {agreed}."


def ranks(run: Run, ranks: pd.DataFrame) -> str:
    """How well short training runs, or an elastic network, rank finalists."""
    agreement = kendall_tau(ranks)
    if agreement is None:
        return ""
    if run.elastic:
        return own_runs_agree(list(zip(ranks["short_accuracy"], ranks["accuracy"], strict=True)))
    return (
        "The finalists by reward after the search's short training run and after the long one: "
        f"Kendall's τ = {minus(f'{agreement:.2f}')} (1: the same order, −1: reversed)."
    )


def seeds(run: Run) -> str:
    """How well the elastic networks of a search agree."""
    found = elastic_agreement(run)
    if found is None:
        return ""
    return f"{seeds_agree(found._asdict())} The parts are a random sample of the search's."


def front(run: Run) -> str:
    """What a search of several objectives found."""
    found = run.pareto
    if not found:
        return ""
    most = " and ".join(f"{count(value)} {name}" for name, value in found["most"].items())
    names, networks = found["objectives"], number(len(found["front"]), "network").capitalize()
    return (
        f"The search had {word(len(names))} objectives: {' and '.join(names)}. {networks} on the "
        f"Pareto front (pareto.json), with a hypervolume of {found['hypervolume']:.3f}: the part "
        f"that they dominate of the space between accuracy 0 and 1 and below {most}."
    )
