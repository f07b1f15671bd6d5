"""An elastic network: trained once, in a study of its own; jobs then measure parts of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from experiments.conduct import StageFailed
from experiments.evaluators.training import InitialWeights
from experiments.stages.context import StageContext, StudyName
from scaling.jobs import InOrder
from space.elastic import Elastic
from space.evaluation import Budget, Job, Status


def trained(
    context: StageContext, elastic: Elastic, study: StudyName, budgets: Sequence[Budget]
) -> list[InitialWeights]:
    """The weights of `elastic` after each of the budgets; their names say their hash.

    Its training runs are trials of `study`. Raises `StageFailed` where one fails.
    """
    folder = context.run.checkpoints / study.name
    evaluate = replace(
        context.evaluator(), elastic=elastic, checkpoints=folder, weights=folder / "weights"
    )
    jobs = [Job(f"elastic-{budget.seed}", elastic.largest, budget) for budget in budgets]
    proposer, weights = InOrder(jobs), []
    context.record(study, proposer, jobs, evaluate)
    for job in jobs:
        measured = proposer.told[job.name]
        if measured.status is not Status.COMPLETE:
            reason = measured.reason
            raise StageFailed(f"{study.name}: the elastic network was not trained: {reason}")
        path = evaluate.restored(job.architecture, job.budget)
        name = f"elastic-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
        weights.append(InitialWeights(name, elastic.largest, path, elastic=elastic))
    return weights
