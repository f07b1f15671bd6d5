"""Training runs on other machines, which read the images again if they do not have them."""

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
    """Runs `evaluate` on machines that may not have its images.

    Pickling keeps the path of the image cache, not the images. A machine without the cache builds
    it once from the source that `data`, `resolution` (pixels) and `seed` describe; its other
    processes wait.
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
    """The file of the image cache."""
    file = getattr(images.pixels, "filename", None) or getattr(images, "path", None)
    assert file is not None, "images of a recipe come from the cache"
    return Path(str(file))


def _arrived(
    pickled: bytes, cached: Path, data: DataConfig, resolution: int, seed: int
) -> PortableEvaluator:
    if not cached.is_file():
        # CACHE/images/KEY/FILE: the key is a hash of the images, so equal images have this path.
        load(data.model_copy(update={"cache": cached.parents[2]}), resolution=resolution, seed=seed)
        if not cached.is_file():
            raise InvalidInput(
                f"data.source: {data.source} has different images on this machine and on the one "
                "that started the run; copy the same images to all machines"
            )
    return PortableEvaluator(pickle.loads(pickled), data, resolution, seed)
