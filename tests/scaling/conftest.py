"""Candidates around B0 and closed-form training runs of them."""

import math
import random
from collections.abc import Callable

import pytest

from scaling.coefficients import PUBLISHED
from scaling.grid import GridCandidate, candidates, grid
from scaling.heats import Heats
from space import presets
from space.evaluation import Budget, Job, Measurement, Status

Accuracy = Callable[[GridCandidate, Budget], float | None]

B0 = presets.load("efficientnet_b0")
ALL = candidates(B0, grid(step=0.1, tolerance=0.1))
(GUEST,) = candidates(B0, [PUBLISHED])


def truth(candidate: GridCandidate) -> float:
    """A smooth surface with its top at a third of the growth in depth and a half in width."""
    depth, width, _ = candidate.shares
    cost = 0.01 * math.log(candidate.realised_ratio / 2)
    return 0.8 - 0.05 * ((depth - 0.33) ** 2 + (width - 0.5) ** 2) + cost


def noisy(deviation: float, study: int = 0) -> Accuracy:
    """Training runs that learn with epochs, with noise of each and of each seed."""

    def accuracy(candidate: GridCandidate, budget: Budget) -> float:
        own = random.Random(f"{study} {candidate.label} {budget.seed} {budget.epochs}")
        seed = random.Random(f"{study} {budget.seed} {budget.epochs}")
        learnt = 0.3 * math.exp(-budget.epochs / 4)
        return truth(candidate) - learnt + own.gauss(0, deviation) + seed.gauss(0, 0.01)

    return accuracy


class Runs:
    """What tests of heats share: the candidates, a guest, and a way to carry heats out."""

    baseline, candidates, guest = B0, ALL, GUEST
    truth, noisy = staticmethod(truth), staticmethod(noisy)

    @staticmethod
    def run(heats: Heats, accuracy: Accuracy, *, shuffled: int | None = None) -> list[Job]:
        """Carries heats out, telling each in a shuffled order if asked; gives the jobs."""
        by_label = {each.label: each for each in (*heats.candidates, GUEST)}
        jobs = []
        while heat := list(iter(heats.ask, None)):
            if shuffled is not None:
                random.Random(shuffled).shuffle(heat)
            for job in heat:
                jobs.append(job)
                value = accuracy(by_label[job.name.split(",")[0]], job.budget)
                failed = Measurement(Status.FAILED, reason="loss is NaN")
                heats.tell(
                    job, failed if value is None else Measurement(Status.COMPLETE, accuracy=value)
                )
        return jobs


@pytest.fixture(scope="session")
def runs() -> type[Runs]:
    return Runs
