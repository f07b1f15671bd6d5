"""The four stages of a run: each binds a proposer, an evaluator, an executor and a study.

A stage may be started again at any time: training runs that the storage holds are not repeated, so
a stage that had ended only writes its result once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from experiments.conduct import Conductor, StageFailed, driving
from experiments.runs.folder import OpenRun
from experiments.runs.resolve import recipe_of
from experiments.stages import coefficients, family, search
from experiments.stages.context import StageContext
from scaling.coefficients import AllFailed
from scaling.export import ExportMismatch
from search.executors.ray import ClusterLost
from search.fence import LeaseLost
from search.search import SearchFailed
from space import choices
from space.evaluation import WorkerUnusable
from space.validation import InvalidInput

#: What ends a stage with a sentence; everything recorded is kept.
FAILURES = (
    StageFailed,
    SearchFailed,
    ClusterLost,
    AllFailed,
    ExportMismatch,
    LeaseLost,
    WorkerUnusable,
)


def run(opened: OpenRun, names: Iterable[str], *, take_over: bool = False) -> dict[str, Any]:
    """Runs the named stages in order and gives what each found, by its name.

    Raises `InvalidInput` where a stage needs the result of one that has not ended, or another
    process drives the run and is not to be taken over; and `StageFailed` where training runs failed
    that it cannot do without.
    """
    names = tuple(names)
    _refuse_records(opened, names)
    if names == ("report",):  # which only reads
        with opened.timed("report"):
            return {"report": _report(opened)}
    recipe = opened.recipe
    typical = replace(choices.load(recipe.space).base, resolution=recipe.resolution)
    with driving(opened, take_over=take_over) as lease:
        conductor = Conductor(opened, lease, typical, recipe.search.trial_timeout)
        context = StageContext(opened, conductor)
        found: dict[str, Any] = {}
        for name in names:
            with opened.timed(name):
                found[name] = _STAGES[name](context)
        return found


def _refuse_records(opened: OpenRun, names: tuple[str, ...]) -> None:
    """A run on records can go no further than its search."""
    training = [name for name in names if name in ("coefficients", "family")]
    if opened.recipe.evaluator.kind == "records" and training:
        raise InvalidInput(
            f"evaluator.kind: records only cover networks of the space {opened.recipe.space}, but "
            f"the stage {training[0]} trains larger ones; run phiscale search and phiscale report, "
            "or set evaluator.kind to train and data.source to images"
        )


def _report(opened: OpenRun) -> str:
    """The page, the figures and the tables; gives the page's path."""
    from reports.page import write

    return str(write(opened.folder, opened.storage, recipe=recipe_of(opened.folder)))


_STAGES: dict[str, Callable[[StageContext], Any]] = {
    "search": search.run,
    "coefficients": coefficients.run,
    "family": family.run,
    "report": lambda context: _report(context.run),
}
