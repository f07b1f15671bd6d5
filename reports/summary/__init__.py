"""What a run found, in sentences that also hold for unfinished runs, or are empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reports import published
from reports.formatting import count, percent
from reports.load import Run
from reports.recommendation import Recommendation, recommend
from reports.schema import rows
from reports.summary import coefficients, family, search
from reports.summary.wording import images_of, trained_for
from reports.tables import Tables

if TYPE_CHECKING:
    import pandas as pd


def summarise(run: Run, tables: Tables) -> dict[str, str | tuple[str, ...]]:
    """The sentences of a run's page, by the place where they stand."""
    starts = run.manifest.get("starts") or [{}]
    advice = recommend(tables.family, tables.member_comparisons)
    date = str(starts[-1].get("time", ""))[:10]
    return {
        "eyebrow": " · ".join(part for part in (run.name, _data(run), date) if part),
        "headline": _headline(run, tables, advice),
        "alternatives": advice.alternatives if advice else (),
        "undecided": advice.undecided if advice else (),
        "measured": _measured(run, tables.family),
        "chart": _chart(run, tables),
        "family": family.intervals(tables.family),
        "search": search.search(run, tables),
        "reward": search.reward(run),
        "curves": search.curves(tables.learning_curves),
        "choices": search.choices(tables),
        "ranks": search.ranks(run, tables.ranks),
        "seeds": search.seeds(run),
        "coefficients": coefficients.coefficients(run, tables.coefficients),
        "evidence": tuple(coefficients.evidence(run.coefficients or {})),
        "front": search.front(run),
        "candidates": coefficients.candidates(run, tables.coefficients),
        "members": family.members(run),
        "over_bounds": tuple(family.over_bounds(run, tables.family)),
        "growth": tuple(family.growth(run.growth)),
        "rivals": tuple(family.rivals(run, tables.rivals)),
    }


def _data(run: Run) -> str:
    key, name = ("evaluator", "records") if run.looked_up else ("data", "source")
    source = str(run.recipe.get(key, {}).get(name, ""))
    data = run.manifest.get("data", {})
    classes = data.get("classes") if isinstance(data, Mapping) else None
    amount = len(classes) if isinstance(classes, list) else classes
    return ", ".join(part for part in (source, f"{amount} classes" if amount else "") if part)


def _headline(run: Run, tables: Tables, advice: Recommendation | None) -> str:
    if advice:
        return advice.headline
    if run.baseline and run.baseline.get("accuracy") is not None:
        macs, accuracy = run.baseline["cost"]["macs"], run.baseline["accuracy"]
        return (
            f"The search found a baseline of {count(macs)} MACs that reaches {percent(accuracy)}."
        )
    best = rows(tables.best)
    if not best:
        return "No network of this run has been trained yet."
    reached = f"{percent(best[0]['accuracy'])} with {count(best[0]['macs'])} MACs"
    state = "is under way" if run.driven else "has stopped"
    return f"The search {state}: its best network so far reaches {reached}."


def _measured(run: Run, family: pd.DataFrame) -> str:
    macs = "MACs are multiply–adds for one image."
    if run.looked_up:
        return (
            "Accuracy is that of recorded training runs, or what a surrogate of them predicts: "
            f"nothing was trained here. {macs}"
        )
    kind = "Balanced accuracy (the mean over classes)" if run.metric == "balanced" else "Accuracy"
    images = images_of(family)
    where = f"{images:,} test images that the search never saw"
    return f"{kind} is on {where if images else 'images held out from training'}. {macs}"


def _chart(run: Run, tables: Tables) -> str:
    measured = f"accuracy on held-out images {search.measured(run)}"
    sentences = [
        f"Trials of the search: {'recorded or predicted accuracy' if run.looked_up else measured}."
    ]
    if tables.trials["study"].eq("finalists").any():
        longer = trained_for(run, "finalists")
        sentences.append(f"Finalists and baseline: the same images, {longer}.")
    if len(tables.family):
        sentences.append("Family: test images, trained in full. Do not compare these levels.")
    if run.study("rivals"):
        sentences.append("Rivals, by name: other rules and networks, trained as the family was.")
    if run.num_classes == published.IMAGENET_CLASSES:
        sentences.append(f"Published: {published.sources(run)}.")
    sentences.append(
        "Dashed layers are off; pruned trials may lie below the axis. Select a point for its "
        "stages; drag to zoom."
    )
    return " ".join(sentences)
