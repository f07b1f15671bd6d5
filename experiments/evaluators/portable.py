"""Training runs on machines that may lack the images, which are fetched there as they were here."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import DataConfig
from experiments.data.images import Images
from experiments.data.load import load
from experiments.evaluators.training import TrainingEvaluator
from space.architecture import Architecture
from space.evaluation import Budget, Measurement, Report
from space.validation import InvalidInput


@dataclass(frozen=True)
class PortableEvaluator:
    """`evaluate`, an `Evaluate` that travels to machines that may not hold its images.

    It travels as the path of the images' cache. Where that is missing, it is built again from the
    source, which `data`, `resolution` (pixels) and `seed` describe, once per machine: whoever else
    needs it waits.
    """

    evaluate: TrainingEvaluator
    data: DataConfig
    resolution: int
    seed: int

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """As `evaluate`."""
        return self.evaluate(architecture, budget, report)

    def __reduce__(self) -> tuple[Any, ...]:
        cached = _file(self.evaluate.train)
        return _arrived, (
            pickle.dumps(self.evaluate),
            cached,
            self.data,
            self.resolution,
            self.seed,
        )


def _file(images: Images) -> Path:
    """Where images lie on disk."""
    file = getattr(images.pixels, "filename", None) or getattr(images, "path", None)
    assert file is not None, "images of a recipe come from the cache"
    return Path(str(file))


def _arrived(
    pickled: bytes, cached: Path, data: DataConfig, resolution: int, seed: int
) -> PortableEvaluator:
    if not cached.is_file():
        # CACHE/images/KEY/FILE: the key follows from the images, so the same ones lie there.
        load(data.model_copy(update={"cache": cached.parents[2]}), resolution=resolution, seed=seed)
        if not cached.is_file():
            raise InvalidInput(
                f"data.source: {data.source} contains other images on this machine than where the "
                "run was started; give all machines the same images"
            )
    return PortableEvaluator(pickle.loads(pickled), data, resolution, seed)
