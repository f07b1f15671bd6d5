"""Do the race and refinement find what the full grid finds, for a part of its training?

The full grid around a baseline is really trained, every candidate with every seed; then both choose
by the same training runs, making only the ones that the grid does not have. A choice is right where
the full grid cannot tell it from its own (`scaling.comparison.compare`).

`python -m experiments.benchmarks.race FOLDER` trains on glyphs into FOLDER, which it may be stopped
and started with again, prints the result and writes `experiments/results/race.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from experiments.conduct import executor_of
from experiments.config import DataConfig, ExecutorConfig, GlyphsConfig, TrainConfig, load_as
from experiments.data.load import load
from experiments.evaluators.training import TrainingEvaluator
from experiments.progress import log
from experiments.runs.environment import environment
from experiments.studies.recipes import StudyRecipe
from scaling.comparison import PairedComparison, compare
from scaling.grid import GridCandidate, realised
from scaling.heats import Heats
from scaling.jobs import InOrder
from scaling.race import Race, ladder
from scaling.refine import Refine
from search.recorded_jobs import Recorded, accuracy
from search.study import open_study
from space.evaluation import Budget, Job, Proposer
from space.files import write_file

#: Small enough for some ten minutes of one idle core, and enough to tell the letters apart.
DATA = DataConfig(
    source="glyphs",
    resolution=32,
    glyphs=GlyphsConfig(classes=5, train_images=2000, test_images=1000),
)
TRAIN = TrainConfig(batch_size=32, learning_rate=1.6, flip=False)
PIXELS, EPOCHS, SEEDS = 16, 6, 3
#: Wide enough for 16 candidates at about twice the baseline's MACs.
STEP, TOLERANCE = 0.1, 0.3
#: A training a core.
EXECUTOR = ExecutorConfig(kind="processes", threads=1)
RESULT = Path(__file__).parents[1] / "results" / "race.json"


def main() -> None:
    """Trains what is missing, and writes and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = result(arguments.folder)
    write_file(arguments.result, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=2, ensure_ascii=False))


def result(folder: Path) -> dict[str, Any]:
    """What each way chose and took, beside the full grid's confidence set."""
    recipe = load_as(StudyRecipe, "study-dimensions")
    searched = recipe.baselines[0].build(DATA.glyphs.classes, DATA.channels)
    baseline = replace(searched, resolution=PIXELS)
    field = realised(baseline, STEP, TOLERANCE)
    every = InOrder(
        Job(f"{candidate.label}, seed {seed}", candidate.architecture, Budget(EPOCHS, seed=seed))
        for seed in range(SEEDS)
        for candidate in field
    )
    ways: dict[str, Heats] = {
        "race": Race(field, ladder(len(field), EPOCHS, SEEDS), Budget(EPOCHS)),
        "refine": Refine(field, Budget(EPOCHS), SEEDS),
    }
    trainer = _Trainer(folder)
    trainer.run(every, "full grid", len(every.jobs))
    for name, heats in ways.items():
        trainer.run(heats, name, heats.most)
    full = compare([_accuracies(every, candidate) for candidate in field])
    return _described(field, full, ways)


class _Trainer:
    """Carries jobs out on glyphs; all of them in one study, so that none is trained twice."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = load(DATA, resolution=32, seed=0)
        self._study = open_study(f"sqlite:///{folder / 'study.db'}", "grid")
        self._evaluate = TrainingEvaluator(
            data.full_train, data.test, TRAIN, folder / "checkpoints", threads=1
        )

    def run(self, proposer: Proposer, name: str, plan: int) -> None:
        """Carries out a proposer's jobs."""
        log.note(f"{name}: at most {plan} training runs")
        recorded = Recorded(proposer, self._study, accuracy, environment())
        executor_of(EXECUTOR).run(recorded, self._evaluate)


def _accuracies(trained: InOrder, candidate: GridCandidate) -> list[float]:
    told = [trained.told[f"{candidate.label}, seed {seed}"] for seed in range(SEEDS)]
    return [each.accuracy or 0.0 for each in told]


def _described(
    field: tuple[GridCandidate, ...], full: PairedComparison, ways: Mapping[str, Heats]
) -> dict[str, Any]:
    tied = [field[index].label for index in full.tied]
    images = EPOCHS * SEEDS * DATA.glyphs.train_images
    return {
        "command": "python -m experiments.benchmarks.race FOLDER",
        "hardware": environment(),
        "candidates": len(field),
        "epochs": EPOCHS,
        "seeds": SEEDS,
        "level": full.level,
        "grid_winner": field[full.best].label,
        "grid_confidence_set": tied,
        "grid_gap": max(full.gaps),
        "grid_accuracies": {
            candidate.label: mean for candidate, mean in zip(field, full.means, strict=True)
        },
        "grid_training_runs": len(field) * SEEDS,
        "grid_forward_macs": images * sum(candidate.cost.macs for candidate in field),
        "ways": {name: _way(heats, field, full, tied) for name, heats in ways.items()},
    }


def _way(
    heats: Heats, field: tuple[GridCandidate, ...], full: PairedComparison, tied: list[str]
) -> dict[str, Any]:
    """What a way chose, how far that is behind by the full grid, and what it took."""
    chosen, reason = heats.decision
    return {
        "chosen": chosen.label,
        "decision": reason,
        "raw_winner": heats.ranked(heats.finalists)[0].label,
        "tied_among": [each.label for each in heats.finalists],
        "in_confidence_set": chosen.label in tied,
        "regret": full.means[full.best] - full.means[field.index(chosen)],
        "training_runs": len(heats.results),
        "forward_macs": DATA.glyphs.train_images
        * sum(each.candidate.cost.macs * each.epochs for each in heats.results),
    }


if __name__ == "__main__":
    main()
