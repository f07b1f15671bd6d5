"""Elastic networks: each trained once, in a study of its own; jobs then measure their parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.conduct import StudyName, require_complete
from experiments.evaluators.training import InitialWeights
from experiments.stages.context import StageContext
from scaling.jobs import InOrder
from space.architecture import Architecture
from space.elastic import Elastic
from space.evaluation import Budget, Job

#: Parts that further elastic networks of a search measure: enough for a standard error of 0.07 of τ
#: between unrelated orders (Kendall 1938, "A new measure of rank correlation").
SEED_PARTS = 100


def trained(
    context: StageContext, elastic: Elastic, study: StudyName, budget: Budget, seeds: int
) -> dict[int, InitialWeights]:
    """The weights of `elastic` after the budget, by seed; their names say their hash.

    The first of the seeds is the budget's. The training runs are trials of `study`. Raises
    `StageFailed` where one fails.
    """
    folder = context.run.checkpoints / study.name
    evaluate = replace(
        context.evaluator(), elastic=elastic, checkpoints=folder, weights=folder / "weights"
    )
    jobs = [
        Job(f"elastic-{seed}", elastic.largest, replace(budget, seed=seed))
        for seed in range(budget.seed, budget.seed + seeds)
    ]
    proposer, weights = InOrder(jobs), {}
    context.record(study, proposer, jobs, evaluate)
    require_complete(study.name, proposer.told)
    for job in jobs:
        path = evaluate.restored(job.architecture, job.budget)
        name = f"elastic-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
        weights[job.budget.seed] = InitialWeights(name, elastic.largest, path, elastic=elastic)
    return weights


def measured(
    context: StageContext,
    study: StudyName,
    parts: Mapping[str, Architecture],
    weights: Mapping[int, InitialWeights],
    epochs: int,
    data_fraction: float,
) -> NDArray[np.float64]:
    """The accuracy of each part by the elastic weights of each seed, after epochs of its own.

    Of shape (seeds, parts), with NaN where a measurement failed. They are trials of `study`.
    """
    jobs = [
        Job(
            f"{name}, seed {seed}", part, Budget(epochs, data_fraction, seed=seed, start=start.name)
        )
        for seed, start in weights.items()
        for name, part in parts.items()
    ]
    proposer, evaluate = InOrder(jobs), context.evaluator()
    starts = (*evaluate.starts, *weights.values())
    context.record(study, proposer, jobs, replace(evaluate, starts=starts))
    accuracies = np.array([proposer.told[job.name].accuracy for job in jobs], float)
    return accuracies.reshape(len(weights), len(parts))
