"""Jobs one after the other, in this process."""

from __future__ import annotations

import logging

from space.evaluation import Evaluate, Job, Measurement, Proposer, Status
from space.validation import InvalidInput

_logger = logging.getLogger(__name__)


class Local:
    """An `Executor` in process. An interruption leaves the running job to be run again."""

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Runs `proposer`'s jobs until it has no more."""
        while (job := proposer.ask()) is not None:
            proposer.tell(job, _evaluated(job, proposer, evaluate))


def _evaluated(job: Job, proposer: Proposer, evaluate: Evaluate) -> Measurement:
    try:
        return evaluate(job.architecture, job.budget, lambda epoch: proposer.report(job, epoch))
    except InvalidInput:
        raise
    except Exception as error:  # one broken evaluation ends one trial, not the search
        _logger.exception("%s failed", job.name)
        return Measurement(Status.FAILED, reason=f"{type(error).__name__}: {error}")
