"""What a run found, in sentences. Each holds for unfinished runs too, or is left empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports import published
from reports.columns import rows
from reports.insight import best_count, kendall_tau
from reports.load import Run
from reports.tables import Tables
from reports.text import count, half_width, number, percent, word

if TYPE_CHECKING:
    import pandas as pd


#: Rules of growth in words.
_BY = {name: f"{name} alone" for name in ("depth", "width", "resolution")} | {
    "compound": "compound scaling",
    "fast": "pycls' fast scaling",
}


@dataclass(frozen=True)
class Summary:
    """The page's sentences, each named by where it stands."""

    eyebrow: str
    headline: str
    measured: str
    chart: str
    family: str
    search: str
    reward: str
    choices: str
    ranks: str
    coefficients: str
    evidence: tuple[str, ...]
    front: str
    candidates: str
    members: str
    rivals: tuple[str, ...]


def summarise(run: Run, tables: Tables) -> Summary:
    """The sentences about a run."""
    starts = run.manifest.get("starts") or [{}]
    date = str(starts[-1].get("time", ""))[:10]
    return Summary(
        eyebrow=" · ".join(part for part in (run.name, _data(run), date) if part),
        headline=_headline(run, tables),
        measured=_measured(run, tables.family),
        chart=_chart(run, tables),
        family=_intervals(tables.family),
        search=_search(run, tables),
        reward=_reward(run),
        choices=_choices(tables),
        ranks=_ranks(tables.ranks),
        coefficients=_coefficients(run, tables.coefficients),
        evidence=tuple(_evidence(run.coefficients or {})),
        front=_front(run),
        candidates=_candidates(tables.coefficients),
        members=_members(run),
        rivals=tuple(_rivals(tables)),
    )


def _data(run: Run) -> str:
    source = str(run.recipe.get("data", {}).get("source", ""))
    if _looked_up(run):
        source = str(run.recipe["evaluator"].get("records", ""))
    data = run.manifest.get("data", {})
    classes = data.get("classes") if isinstance(data, Mapping) else None
    amount = len(classes) if isinstance(classes, list) else classes
    return ", ".join(part for part in (source, f"{amount} classes" if amount else "") if part)


def _headline(run: Run, tables: Tables) -> str:
    family = [member for member in rows(tables.family) if member["accuracy"] is not None]
    if family:
        ordered = sorted(family, key=lambda member: member["macs"])
        first, last = ordered[0], ordered[-1]
        sentence = f"{_reaches(first)} with {count(first['macs'])} MACs"
        if len(family) > 1:
            sentence += f"; scaled up, {_reaches(last)} with {count(last['macs'])}"
        return sentence + "."
    if run.baseline and run.baseline.get("accuracy") is not None:
        macs, accuracy = run.baseline["cost"]["macs"], run.baseline["accuracy"]
        return (
            f"The search found a baseline of {count(macs)} MACs that reaches {percent(accuracy)}."
        )
    best = rows(tables.best)
    if not best:
        return "No network of this run has been trained yet."
    reached = f"{percent(best[0]['accuracy'])} with {count(best[0]['macs'])} MACs"
    return f"The search is under way: its best network so far reaches {reached}."


def _reaches(member: Mapping[str, Any]) -> str:
    spread = f" {half_width(member['low'], member['high'])}" if member["low"] is not None else ""
    return f"{str(member['name']).upper()} reaches {percent(member['accuracy'])}{spread}"


def _measured(run: Run, family: pd.DataFrame) -> str:
    metric = run.recipe.get("objective", {}).get("metric", "top1")
    kind = "Balanced accuracy (the mean over classes)" if metric == "balanced" else "Accuracy"
    images = _images(family)
    if _looked_up(run):
        return (
            "Accuracy is that of recorded trainings, or what a surrogate of them predicts: nothing "
            "was trained here. MACs are multiply–adds for one image."
        )
    macs = "MACs are multiply–adds for one image."
    if images:
        return f"{kind} is on {images:,} test images that the search never saw. {macs}"
    return f"{kind} is on images held out from training. {macs}"


def _images(frame: pd.DataFrame) -> int:
    return max((row["images"] or 0 for row in rows(frame)), default=0)


def _chart(run: Run, tables: Tables) -> str:
    epochs = _epochs(run, "search")
    sentences = [f"Trials of the search: accuracy on held-out images after {epochs}."]
    if _looked_up(run):
        sentences = ["Trials of the search: recorded or predicted accuracy."]
    if tables.trials["study"].eq("finalists").any():
        longer = _epochs(run, "finalists")
        sentences.append(f"Finalists and baseline: the same images, {longer}.")
    if len(tables.family):
        sentences.append("Family: test images, trained in full. So the levels are not one scale.")
    if run.study("rivals"):
        sentences.append("Rivals, by name: other rules and networks, trained as the family.")
    if published.for_classes(run.num_classes):
        sentences.append(f"Published: {published.SOURCES}.")
    sentences.append("Dashed layers are off. Select a point for its stages; drag to zoom.")
    return " ".join(sentences)


def _epochs(run: Run, study: str) -> str:
    budgets = [trial.budget["epochs"] for trial in run.study(study) if "epochs" in trial.budget]
    most = max(budgets, default=0)
    return f"{most} epoch" + ("" if most == 1 else "s")


def _intervals(family: pd.DataFrame) -> str:
    if all(member["low"] is None for member in rows(family)):
        return ""
    return (
        "± is half of the 95 % binomial (Wilson) interval. It covers the choice of test images, "
        "not the variation between trainings."
    )


def _looked_up(run: Run) -> bool:
    """Whether the search asked records of trainings, and trained nothing."""
    return bool(run.recipe.get("evaluator", {}).get("kind") == "records")


def _lookup(run: Run, candidates: int) -> str:
    """What a search on records found."""
    told = f"{number(candidates, 'candidate').capitalize()} looked up in records of trainings"
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
        told += f"; {word(known['extrapolated'])} lay beyond all records in cost"
    if reference:
        told += (
            f". EfficientNet-B0 has {count(reference['cost']['macs'])} MACs and "
            f"{percent(reference['accuracy'])} by the same records"
        )
    return f"{told}."


def _objectives(run: Run) -> str:
    """The Pareto front of a search of several objectives."""
    pareto = (run.baseline or {}).get("pareto")
    if not pareto:
        return ""
    costs = " and ".join(_COSTS[name] for name in pareto["most"])
    return (
        f"It maximised accuracy and minimised {costs}: {word(len(pareto['front']))} networks are "
        f"on the Pareto front (pareto.json), of hypervolume {pareto['hypervolume']:.4f}."
    )


#: Costs as text has them.
_COSTS = {
    "macs": "MACs",
    "params": "parameters",
    "activations": "activations",
    "latency": "latency",
}


def _search(run: Run, tables: Tables) -> str:
    found = [row for row in rows(tables.counts) if row["study"] == "search"]
    if not found:
        return ""
    if _looked_up(run):
        return f"{_lookup(run, found[0]['complete'])} {_objectives(run)}".strip()
    complete, pruned = found[0]["complete"], found[0]["pruned"]
    sentences = [
        f"{number(complete, 'candidate').capitalize()} from the space "
        f"{run.recipe.get('space', '')} trained for {_epochs(run, 'search')}"
        + (f"; {number(pruned, 'unpromising one')} ended early." if pruned else ".")
    ]
    finalists = [trial for trial in run.study("finalists") if trial.state == "complete"]
    if run.baseline and finalists:
        cost, accuracy = run.baseline["cost"], run.baseline["accuracy"]
        sentences.append(
            f"The best {word(len(finalists))} were trained again, for "
            f"{_epochs(run, 'finalists')}; the one with the highest reward, of "
            f"{count(cost['macs'])} MACs and {percent(accuracy)} on the held-out images, is the "
            "baseline."
        )
    return " ".join([*sentences, _objectives(run)]).strip()


def _reward(run: Run) -> str:
    objective = run.recipe.get("objective", {})
    below, above = (objective.get(f"exponent_{side}", -0.07) for side in ("below", "above"))
    exponent = f"{below:g}" if below == above else f"{below:g} below the target, {above:g} above"
    exponent = exponent.replace("-", "−")
    target = objective.get("target")
    cost = _COSTS[objective.get("cost", "macs")]
    amount = f"{1e3 * target:g} ms" if target and cost == "latency" else count(target or 0)
    formula = f"accuracy · ({cost} / {amount})ʷ" if target else f"accuracy · {cost}ʷ"
    return f"Reward: {formula}, w = {exponent}. Pruned trials: after their last epoch."


def _choices(tables: Tables) -> str:
    complete = next((r["complete"] for r in rows(tables.counts) if r["study"] == "search"), 0)
    amount = best_count(complete)
    sentence = (
        f"Bars: how often the {word(amount)} trials with the highest rewards made a choice; "
        "behind them, how often all did."
    )
    if len(tables.importance):
        sentence += (
            " Orange: how much a choice decides whether a trial is among the best tenth "
            "(PED-ANOVA, as Optuna has it), in percent of all choices together."
        )
    return sentence


def _ranks(ranks: pd.DataFrame) -> str:
    agreement = kendall_tau(ranks)
    if agreement is None:
        return ""
    tau = f"{agreement:.2f}".replace("-", "−")
    return (
        f"The finalists by reward after the search's short training, and after the long one: "
        f"Kendall's τ = {tau} (1: the same order, −1: reversed)."
    )


def _coefficients(run: Run, candidates: pd.DataFrame) -> str:
    chosen = run.coefficients
    if chosen is None:
        return ""
    letters = (("α", "alpha", "depth"), ("β", "beta", "width"), ("γ", "gamma", "resolution"))
    names = ", ".join(f"{sign} {chosen[name]:.4g} ({what})" for sign, name, what in letters)
    cost = (
        f"The product α·β²·γ² is {chosen['nominal_product']:.3f}; the scaled network really costs "
        f"{chosen['realised_ratio']:.2f} times the baseline's MACs."
    )
    if chosen.get("pinned"):
        return f"The recipe gives {names}; nothing was searched. {cost}"
    trained = sum(row["accuracy"] is not None for row in rows(candidates))
    return f"Of {number(trained, 'network')} on the grid, the most accurate has {names}. {cost}"


def _front(run: Run) -> str:
    """What a search of several objectives found."""
    found = run.pareto
    if not found:
        return ""
    most = " and ".join(f"{count(value)} {name}" for name, value in found["most"].items())
    return (
        f"The search was for {' and '.join(found['objectives'])} together: "
        f"{number(len(found['front']), 'network')} that none beats in all, with a hypervolume of "
        f"{found['hypervolume']:.3f} (the part of what lies between accuracy 0 and 1 and below "
        f"{most} that they dominate)."
    )


def _evidence(found: Mapping[str, Any]) -> Iterator[str]:
    """What a race knows beside its answer."""
    race, surface, guest = (found.get(name) for name in ("race", "surface", "guest"))
    if race:
        rungs = ", then ".join(_rung(rung) for rung in race["rungs"])
        yield (
            f"By successive halving: {rungs}. That took {percent(race['part_of_full_grid'])} of "
            "the training that the full grid would have taken."
        )
    if surface:
        optimum = ", ".join(
            f"{sign} {surface[name]['value']:.3g} "
            f"({surface[name]['interval'][0]:.3g} to {surface[name]['interval'][1]:.3g})"
            for sign, name in (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
        )
        yield (
            f"A smooth surface through all trainings has its optimum at {optimum}; in brackets, "
            f"{100 * surface['level']:g} % intervals."
        )
    if guest and guest.get("difference") is not None:
        points = 100 * guest["difference"]
        side = "above" if points >= 0 else "below"
        told = "" if guest["told_apart"] else ", which is not told apart"
        yield (
            f"The published coefficients ({guest['name']}) on the same footing: "
            f"{percent(guest['accuracy'])}, {abs(points):.1f} points {side} the winner{told}, at "
            f"{guest['realised_ratio']:.2f} times the baseline's MACs."
        )
    if other := found.get("comparison"):
        yield _comparison(other)


def _comparison(other: Mapping[str, Any]) -> str:
    """Whether the answer carries over to another φ."""
    letters = (("α", "alpha"), ("β", "beta"), ("γ", "gamma"))
    names = ", ".join(f"{sign} {other[name]:.4g}" for sign, name in letters)
    rank = other["correlation"]
    ranked = f"; Spearman's correlation of the accuracies is {rank:.2f}" if rank is not None else ""
    lost = other["regret"]
    regret = (
        f", and the larger grid would lose {100 * lost:.1f} points with the smaller one's winner"
        if lost is not None
        else ""
    )
    return (
        f"The same grid at φ = {other['phi']:g}, of {number(other['shared'], 'combination')}, "
        f"chose {names}{ranked}{regret}."
    )


def _rung(rung: Mapping[str, int]) -> str:
    seeds = f", each with {number(rung['seeds'], 'seed')}" if rung["seeds"] > 1 else ""
    return f"{rung['entrants']} for {number(rung['epochs'], 'epoch')}{seeds}"


def _candidates(candidates: pd.DataFrame) -> str:
    found = rows(candidates)
    tied = sum(bool(row["tied"]) and not row["winner"] for row in found)
    images = _images(candidates)
    if not images:
        return ""
    amount = f"{images:,} held-out images"
    told = (
        f"By {amount}, {number(tied, 'other candidate')} cannot be told apart from the winner "
        "(marked at the left)."
        if tied
        else f"By {amount}, the winner is told apart from every other candidate."
    )
    return f"{told} Bars: 95 % intervals; the shade is the winner's."


def _members(run: Run) -> str:
    family = run.family or {}
    values = family.get("coefficients") or {}
    if not values:
        return ""
    powers = " · ".join(
        f"{what} × {values[name]:.4g}ᵠ"
        for what, name in (("depth", "alpha"), ("width", "beta"), ("resolution", "gamma"))
        if name in values
    )
    return f"Each member is the baseline scaled by one φ: {powers}, rounded to whole blocks."


def _rivals(tables: Tables) -> Iterator[str]:
    """A sentence a rule: how its networks do beside the members of as many MACs."""
    for rule, own in tables.rivals.groupby("rule", sort=False):
        beside = [row for row in rows(own) if row["difference"] is not None]
        for row in rows(own) if not beside else ():
            yield f"{rule} reaches {percent(row['accuracy'])} with {count(row['macs'])} MACs."
        if beside:
            told = ", ".join(
                f"{100 * row['difference']:+.1f}".replace("-", "−")
                + f" at {str(row['member']).upper()}'s MACs"
                + ("" if row["told_apart"] else " (not told apart)")
                for row in beside
            )
            yield f"Growing by {_BY.get(str(rule), str(rule))}: {told}, in points of accuracy."
