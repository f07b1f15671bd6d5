"""The elastic network as a job, and its parts as jobs that are measured without training runs."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from experiments.training.distributed import ALONE
from experiments.training.elastic import ElasticLearner
from search.ledger import identity
from space.architecture import Architecture, Head, Operator, Stage, Stem
from space.choices import Space
from space.elastic import Elastic, ElasticNetwork
from space.evaluation import Budget, Epoch, Interrupted, Job, Measurement, Status
from space.network import build
from space.weights import to_bytes

BASE = Architecture(
    Stem(8, stride=1),
    (Stage(Operator.SEPARABLE, 8), Stage(Operator.INVERTED, 16, stride=2, expansion=2)),
    Head(16),
    resolution=8,
    num_classes=2,
    dropout=0.1,
)
SPACE = Space(
    "tiny",
    BASE,
    {
        "stage1.operator": ("conv", "separable"),
        "stage1.kernel": (3, 5),
        "stage2.operator": ("inverted_e2", "inverted_e4"),
        "stage2.width": (0.5, 1.0),
        "stage2.layers": (0, 1),
        "stage2.se": (0.0, 0.25),
    },
)
ELASTIC = Elastic(SPACE)
BUDGET = Budget(epochs=4)
PARTS = [ELASTIC.draw(np.random.default_rng(seed)) for seed in range(4)]


def colours(count: int) -> DecodedImages:
    """Bright and dark noise, which is quickly learned."""
    labels = np.arange(count) % 2
    pixels = np.random.default_rng(count).integers(0, 128, (count, 8, 8, 3), np.uint8)
    return DecodedImages(
        (pixels + 100 * labels[:, None, None, None]).astype(np.uint8), np.arange(count), labels
    )


@pytest.fixture
def trainer(tmp_path: Path) -> TrainingEvaluator:
    """What trains the elastic network."""
    return TrainingEvaluator(
        train=colours(96),
        held_out=colours(40),
        config=TrainConfig(batch_size=32, learning_rate=0.4, checkpoint_seconds=1e6),
        checkpoints=tmp_path / "elastic",
        weights=tmp_path / "weights",
        device="cpu",
        threads=1,
        elastic=ELASTIC,
    )


@pytest.fixture
def measuring(trainer: TrainingEvaluator, tmp_path: Path) -> TrainingEvaluator:
    """What measures the parts of a trained elastic network."""
    assert trainer(ELASTIC.largest, BUDGET, go_on).status is Status.COMPLETE
    path = Path(str(trainer.weights_path(ELASTIC.largest, BUDGET)))
    weights = InitialWeights("elastic-1", ELASTIC.largest, path, elastic=ELASTIC)
    return replace(
        trainer, elastic=None, weights=None, checkpoints=tmp_path / "parts", starts=(weights,)
    )


def go_on(_: Epoch) -> bool:
    return False


def timeless(measurement: Measurement) -> Measurement:
    epochs = tuple(replace(epoch, seconds=0) for epoch in measurement.epochs)
    times = {"train_seconds": 0, "validation_seconds": 0, "peak_memory": None}
    return replace(measurement, epochs=epochs, **times)


def test_a_killed_elastic_training_run_ends_as_one_that_was_not(trainer):
    whole = trainer(ELASTIC.largest, BUDGET, go_on)
    file = Path(str(trainer.weights_path(ELASTIC.largest, BUDGET)))
    weights = load_file(file)
    trainer.forget(ELASTIC.largest, BUDGET)
    file.unlink()

    def interrupt(epoch: Epoch) -> bool:
        if epoch.epoch == 2:
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        trainer(ELASTIC.largest, BUDGET, interrupt)
    resumed = trainer(ELASTIC.largest, BUDGET, go_on)
    assert timeless(resumed) == timeless(whole)
    again = load_file(file)
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_branches_and_parts_learn(trainer):
    """Every tensor that a part may hold moves away from where it started."""
    trainer(ELASTIC.largest, BUDGET, go_on)
    trained = load_file(Path(str(trainer.weights_path(ELASTIC.largest, BUDGET))))
    names = [name for name in trained if name.startswith("branches.0.0.0.depthwise.conv")]
    assert names  # stage 1 has two kinds of operators
    norms = [name for name in trained if "branches" in name and name.endswith("norm.weight")]
    assert all((trained[name] != 1).any() for name in norms)


def test_a_part_is_measured_as_the_network_cut_out_with_new_statistics(measuring):
    config = TrainConfig(batch_size=96, crop="none", flip=False)  # one batch of all images
    measuring = replace(measuring, config=config)
    for part in PARTS:
        measured = measuring(part, Budget(0, start="elastic-1"), go_on)
        assert (measured.status, measured.epochs) == (Status.COMPLETE, ())
        assert measured.train_seconds == 0
        assert measured.images == 40
        network = build(part)
        weights = load_file(measuring.starts[0].path)
        network.load_state_dict(ELASTIC.cut(weights, part).weights)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            network.train()(normalised(measuring.train))
            logits = network.eval()(normalised(measuring.held_out))
        right = logits.argmax(1) == torch.from_numpy(measuring.held_out.labels)
        assert measured.accuracy == pytest.approx(right.double().mean().item())
        assert measured.accuracy > 0.6


def normalised(images):
    pixels = torch.from_numpy(images.read(np.arange(len(images)))).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


def test_a_part_may_train_further_before_it_is_measured(measuring):
    refined = measuring(PARTS[0], Budget(2, start="elastic-1"), go_on)
    assert len(refined.epochs) == 2
    fresh = replace(measuring, starts=())(PARTS[0], Budget(2), go_on)
    assert refined.epochs[0].train_loss < fresh.epochs[0].train_loss


def test_where_weights_come_from_is_part_of_a_jobs_identity():
    budgets = (Budget(2), *(Budget(n, start=f"elastic-{k}") for n in (0, 2) for k in (1, 2)))
    found = {str(identity(Job("part", PARTS[0], budget))) for budget in budgets}
    assert len(found) == len(budgets)


def test_nothing_is_measured_without_training_or_weights():
    with pytest.raises(ValueError, match=r"`epochs >= 1` must hold, but got epochs=0"):
        Budget(0)


def test_the_evaluator_travels_to_other_processes(measuring, trainer):
    for evaluate, part, budget in (
        (measuring, PARTS[1], Budget(0, start="elastic-1")),
        (trainer, ELASTIC.largest, Budget(1)),
    ):
        there = pickle.loads(pickle.dumps(evaluate))
        assert timeless(there(part, budget, go_on)) == timeless(evaluate(part, budget, go_on))


def test_an_elastic_network_starts_from_the_weights_of_another(trainer, tmp_path):
    file = tmp_path / "start.safetensors"
    torch.manual_seed(0)
    file.write_bytes(to_bytes(build(BASE).state_dict()))
    started = replace(trainer, starts=(InitialWeights("given", BASE, file),))
    measured = started(ELASTIC.largest, Budget(1, start="given"), go_on)
    assert measured.status is Status.COMPLETE
    assert 0 < measured.details["inherited share"] < 1


def test_random_parts_differ_from_step_to_step_and_not_from_start_to_start():
    torch.manual_seed(0)
    config = TrainConfig(optimizer="adamw", ema_decay=0)
    learner = ElasticLearner(ElasticNetwork(ELASTIC), config, torch.device("cpu"))
    steps = []
    for _ in range(2):
        learner.generator.manual_seed(1)
        learner.turn_to(0.1)
        steps.append(learner._drawn())
        assert steps[-1] == learner._drawn()
    assert steps[0] != steps[1]


def test_parts_learn_the_largest_ones_outputs():
    """A step with labels of no weight leaves what a part learns to its teacher."""
    torch.manual_seed(0)
    network = ElasticNetwork(ELASTIC)
    config = TrainConfig(ema_decay=0, weight_decay=0)
    learner = ElasticLearner(network, config, torch.device("cpu"), ALONE, 1, torch.zeros(2))
    learner.generator.manual_seed(1)
    learner.network.train()
    images = normalised(colours(16))
    learner.turn_to(0.1)
    branch = network.branches[0][0]
    before = [parameter.clone() for parameter in branch.parameters()]
    assert learner.step(images, torch.from_numpy(colours(16).labels)).item() == 0
    after = list(branch.parameters())
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
