"""An elastic network: trained once, in a study of its own; jobs then measure parts of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from experiments.conduct import StageFailed
from experiments.evaluators.training import InitialWeights
from experiments.stages.context import StageContext, StudyName
from scaling.jobs import InOrder
from space.elastic import Elastic
from space.evaluation import Budget, Job, Status


def trained(
    context: StageContext, elastic: Elastic, study: StudyName, budget: Budget
) -> InitialWeights:
    """The weights of `elastic`, whose name says their hash; its training run is a trial of `study`.

    Raises `StageFailed` where that fails.
    """
    folder = context.run.checkpoints / study.name
    evaluate = replace(
        context.evaluator(), elastic=elastic, checkpoints=folder, weights=folder / "weights"
    )
    job = Job(f"elastic-{budget.seed}", elastic.largest, budget)
    proposer = InOrder([job])
    context.record(study, proposer, [job], evaluate)
    measured = proposer.told[job.name]
    if measured.status is not Status.COMPLETE:
        raise StageFailed(f"{study.name}: the elastic network was not trained: {measured.reason}")
    path = evaluate.restored(job.architecture, budget)
    name = f"elastic-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    return InitialWeights(name, elastic.largest, path, elastic=elastic)
