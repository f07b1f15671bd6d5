"""An evaluator on a machine that lacks what the first one has."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from experiments.config import DataConfig, GlyphsConfig, TrainConfig
from experiments.data.load import load
from experiments.evaluators.portable import PortableEvaluator
from experiments.evaluators.training import TrainingEvaluator
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.evaluation import Budget, Epoch, Interrupted
from space.validation import InvalidInput

ARCHITECTURE = Architecture(
    stem=Stem(channels=8, stride=2),
    stages=(Stage(Operator.INVERTED, channels=8, repeats=1, stride=2, expansion=3),),
    head=Head(channels=16),
    resolution=12,
    num_classes=2,
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def portable(cache: Path, tmp_path: Path) -> PortableEvaluator:
    config = DataConfig(
        cache=cache, glyphs=GlyphsConfig(classes=2, train_images=80, test_images=20)
    )
    data = load(config, resolution=12, seed=0)
    checkpoints = tmp_path / "checkpoints"
    evaluate = TrainingEvaluator(data.train, data.held_out, TrainConfig(), checkpoints)
    return PortableEvaluator(evaluate, config.model_copy(update={"cache": None}), 12, 0)


def test_missing_cache_is_built_again_where_it_was(
    portable: PortableEvaluator, cache: Path
) -> None:
    before = portable.evaluate.train.read(np.arange(10))
    pickled = pickle.dumps(portable)
    shutil.rmtree(cache)
    there = pickle.loads(pickled)
    assert cache.is_dir()
    np.testing.assert_array_equal(there.evaluate.train.read(np.arange(10)), before)
    np.testing.assert_array_equal(there.evaluate.held_out.labels, portable.evaluate.held_out.labels)


def test_other_images_under_the_same_name_are_refused(
    portable: PortableEvaluator, cache: Path
) -> None:
    others = GlyphsConfig(classes=2, train_images=80, test_images=20, seed=1)
    data = portable.data.model_copy(update={"glyphs": others})
    pickled = pickle.dumps(PortableEvaluator(portable.evaluate, data, 12, 0))
    shutil.rmtree(cache)
    with pytest.raises(InvalidInput, match="has different images on this machine"):
        pickle.loads(pickled)


def test_training_continues_from_a_checkpoint_at_a_url(portable: PortableEvaluator) -> None:
    place = UPath("memory://bucket/run")
    evaluate = TrainingEvaluator(
        portable.evaluate.train,
        portable.evaluate.held_out,
        TrainConfig(),
        checkpoints=place,
        weights=place / "weights",
    )
    budget, seen = Budget(epochs=3), []

    def interrupt(epoch: Epoch) -> bool:
        seen.append(epoch)
        if epoch.epoch == 2:
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        evaluate(ARCHITECTURE, budget, interrupt)
    assert evaluate.checkpoint_path(ARCHITECTURE, budget).is_file()
    measured = evaluate(ARCHITECTURE, budget, lambda _: False)
    assert measured.epochs[:2] == tuple(seen)  # to the second
    assert evaluate.weights_path(ARCHITECTURE, budget).is_file()
    evaluate.forget(ARCHITECTURE, budget)
    assert not evaluate.checkpoint_path(ARCHITECTURE, budget).exists()
