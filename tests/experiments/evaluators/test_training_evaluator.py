"""The evaluator that trains: from an architecture and a budget to a measurement and weights."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.config import TrainConfig
from experiments.data.images import DecodedImages
from experiments.evaluators.training import InitialWeights, TrainingEvaluator
from scaling.formats import Portable, Preprocessing, onnx, program
from search.ledger import identity
from space.architecture import Activation, Architecture, Head, Numerics, Operator, Stage, Stem
from space.convert import IMAGENET
from space.device import Precision
from space.evaluation import Budget, Epoch, Evaluate, Interrupted, Job, Measurement, Status
from space.network import Network, build
from space.weights import to_bytes

ARCHITECTURE = Architecture(
    Stem(8, stride=1), (Stage(Operator.SEPARABLE, 8),), Head(0), resolution=8, num_classes=3
)
BUDGET = Budget(epochs=2)


def noise(count: int) -> DecodedImages:
    generator = np.random.default_rng(count)
    pixels = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return DecodedImages(pixels, np.arange(count), np.arange(count) % 2)


@pytest.fixture
def evaluator(tmp_path: Path) -> TrainingEvaluator:
    return TrainingEvaluator(
        train=noise(40),
        held_out=noise(20),
        config=TrainConfig(batch_size=16, checkpoint_seconds=0),
        checkpoints=tmp_path / "checkpoints",
        device="cpu",
        threads=1,
    )


def go_on(_: Epoch) -> bool:
    return False


def timeless(measurement: Measurement) -> Measurement:
    epochs = tuple(replace(epoch, seconds=0) for epoch in measurement.epochs)
    times = {"train_seconds": 0, "validation_seconds": 0, "peak_memory": None}
    return replace(measurement, epochs=epochs, **times)


def test_an_architecture_is_trained_and_measured(evaluator: TrainingEvaluator) -> None:
    evaluate: Evaluate = evaluator
    measured = evaluate(ARCHITECTURE, BUDGET, go_on)
    assert measured.status is Status.COMPLETE
    assert len(measured.epochs) == 2
    assert measured.details == {}


def test_in_int8_the_accuracy_is_that_of_the_quantised_network(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    relu6 = replace(ARCHITECTURE, numerics=Numerics(Activation.RELU6))  # trained in other modules
    full = evaluator(relu6, BUDGET, go_on)
    small = replace(evaluator, precision=Precision.INT8, weights=tmp_path / "weights")
    measured = small(relu6, BUDGET, go_on)
    assert measured.details["float32 accuracy"] == full.accuracy

    network = build(relu6)
    network.load_state_dict(load_file(small.weights_path(relu6, BUDGET)))
    mean, std = (np.array(values, np.float32) for values in IMAGENET)
    given, images = (
        ((part.pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
        for part in (evaluator.train, evaluator.held_out)
    )
    portable = Portable("tested", relu6, ("a", "b", "c"), Preprocessing(*IMAGENET))
    whole = onnx.content(portable, program.trace(portable, network))
    logits = onnx.open_(onnx.quantised(whole, np.ascontiguousarray(given)), "tested")(images)
    assert measured.accuracy == np.mean(logits.argmax(1) == evaluator.held_out.labels)


def test_the_same_job_gives_the_same_measurement(evaluator: TrainingEvaluator) -> None:
    first = evaluator(ARCHITECTURE, BUDGET, go_on)
    evaluator.forget(ARCHITECTURE, BUDGET)
    assert timeless(first) == timeless(evaluator(ARCHITECTURE, BUDGET, go_on))


def test_the_seed_draws_the_initial_weights(evaluator: TrainingEvaluator) -> None:
    # With one image per class all orders of the batch are alike, and nothing is cropped.
    config = TrainConfig(batch_size=64, crop="none", flip=False, checkpoint_seconds=1e6)
    still = replace(evaluator, train=noise(3), config=config)
    losses = {
        still(ARCHITECTURE, Budget(epochs=1, seed=seed), go_on).epochs[0].train_loss
        for seed in range(3)
    }
    assert len(losses) == 3


def test_a_budgets_resolution_replaces_the_architectures(evaluator: TrainingEvaluator) -> None:
    same = evaluator(ARCHITECTURE, Budget(epochs=1, resolution=8), go_on)
    evaluator.forget(ARCHITECTURE, Budget(epochs=1, resolution=8))
    assert timeless(same) == timeless(evaluator(ARCHITECTURE, Budget(epochs=1), go_on))
    other = evaluator(ARCHITECTURE, Budget(epochs=1, resolution=6), go_on)
    assert timeless(other) != timeless(same)


def test_a_checkpoint_is_there_until_it_is_forgotten(evaluator: TrainingEvaluator) -> None:
    evaluator(ARCHITECTURE, BUDGET, go_on)
    assert evaluator.checkpoint_path(ARCHITECTURE, BUDGET).exists()
    evaluator.forget(ARCHITECTURE, BUDGET)
    assert list(evaluator.checkpoints.iterdir()) == []
    evaluator.forget(ARCHITECTURE, BUDGET)


def test_an_interrupted_training_goes_on_where_it_stopped(evaluator: TrainingEvaluator) -> None:
    budget = Budget(epochs=4)
    whole = evaluator(ARCHITECTURE, budget, go_on)
    evaluator.forget(ARCHITECTURE, budget)
    rarely = replace(evaluator, config=TrainConfig(batch_size=16, checkpoint_seconds=1e6))

    def interrupt(epoch: Epoch) -> bool:
        if epoch.epoch == 2:
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        rarely(ARCHITECTURE, budget, interrupt)
    resumed = rarely(ARCHITECTURE, budget, go_on)
    assert timeless(resumed) == timeless(whole)
    first, second = whole.epochs[:2], resumed.epochs[:2]
    assert [epoch.seconds for epoch in first] != [epoch.seconds for epoch in second]


def test_different_jobs_have_different_files(evaluator: TrainingEvaluator) -> None:
    wider = replace(ARCHITECTURE, head=Head(16))
    jobs = [(ARCHITECTURE, BUDGET), (wider, BUDGET), (ARCHITECTURE, replace(BUDGET, seed=1))]
    assert len({evaluator.checkpoint_path(*job) for job in jobs}) == 3


def test_a_job_and_its_record_have_the_same_files(evaluator: TrainingEvaluator) -> None:
    """A record writes out the resolution."""
    recorded = Budget(**identity(Job("small", ARCHITECTURE, BUDGET))["budget"])
    paths = [evaluator.checkpoint_path(ARCHITECTURE, each) for each in (BUDGET, recorded)]
    assert paths[0] == paths[1]


def test_final_weights_are_those_that_were_measured(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    final = replace(evaluator, weights=tmp_path / "weights")
    measured = final(ARCHITECTURE, BUDGET, go_on)
    network = build(ARCHITECTURE)
    network.load_state_dict(load_file(final.weights_path(ARCHITECTURE, BUDGET)))
    images = torch.from_numpy(final.held_out.read(np.arange(20))).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = network.eval()((images - mean[:, None, None]) / std[:, None, None])
    labels = torch.from_numpy(final.held_out.labels)
    right = (logits.argmax(1) == labels).double()
    assert measured.accuracy == pytest.approx(right.mean().item())
    # The third class has no image, so there is nothing to tell of it.
    assert measured.details == pytest.approx(
        {
            "accuracy of class 0": right[labels == 0].mean().item(),
            "accuracy of class 1": right[labels == 1].mean().item(),
        }
    )


def test_a_pruned_training_leaves_no_weights(evaluator: TrainingEvaluator, tmp_path: Path) -> None:
    final = replace(evaluator, weights=tmp_path / "weights")
    assert final(ARCHITECTURE, BUDGET, lambda _: True).status is Status.PRUNED
    assert not final.weights_path(ARCHITECTURE, BUDGET).exists()


def test_a_network_that_cannot_be_built_fails_its_job_alone(
    evaluator: TrainingEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Architecture) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("experiments.evaluators.training.build", refuse)
    measured = evaluator(ARCHITECTURE, BUDGET, go_on)
    assert measured == Measurement(Status.FAILED, reason="building the network ran out of memory")


def test_images_travel_as_the_path_of_their_memory_map(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    np.save(tmp_path / "pixels.npy", np.zeros((1000, 8, 8, 3), np.uint8))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    mapped = DecodedImages(pixels, np.arange(1000), np.arange(1000) % 2).subset(np.arange(40))
    assert len(pickle.dumps(replace(evaluator, train=mapped, held_out=mapped))) < 10_000


def cramped(images: int) -> Callable[[Architecture], Network]:
    """Builds networks for which the device has the memory of so many images."""

    def full(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def made(architecture: Architecture) -> Network:
        network = build(architecture)
        network.register_forward_pre_hook(full)
        return network

    return made


def test_a_training_that_does_not_fit_takes_its_batches_in_pieces(
    evaluator: TrainingEvaluator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    large = replace(evaluator, train=noise(64), config=TrainConfig(batch_size=64))
    whole = large(ARCHITECTURE, BUDGET, go_on)
    monkeypatch.setattr("experiments.evaluators.training.build", cramped(20))
    measured = large(ARCHITECTURE, BUDGET, go_on)
    assert measured.status is Status.COMPLETE
    assert measured.details == {"pieces of a batch": 4}
    assert whole.details == {}
    assert "ran out of memory; the training run starts again with 16 images" in caplog.text
    assert measured.epochs[0].train_loss == pytest.approx(whole.epochs[0].train_loss, rel=0.1)


def test_a_training_of_which_no_piece_fits_fails(
    evaluator: TrainingEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.evaluators.training.build", cramped(8))
    large = replace(evaluator, train=noise(64), config=TrainConfig(batch_size=64))
    measured = large(ARCHITECTURE, BUDGET, go_on)
    assert measured.status is Status.FAILED
    assert measured.reason == "training with batches of (64, 3, 8, 8) ran out of memory"


def test_an_evaluator_travels_to_other_processes(evaluator: TrainingEvaluator) -> None:
    copy = pickle.loads(pickle.dumps(evaluator))
    assert timeless(copy(ARCHITECTURE, BUDGET, go_on)) == timeless(
        evaluator(ARCHITECTURE, BUDGET, go_on)
    )


def test_a_network_starts_from_initial_weights_with_its_classes_by_name(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    source = replace(ARCHITECTURE, num_classes=2)
    torch.manual_seed(0)
    network = build(source)
    (tmp_path / "source.safetensors").write_bytes(to_bytes(network.state_dict()))
    names = (("owl", "cat"), ("cat", "dog", "owl"))
    start = InitialWeights("owls", source, tmp_path / "source.safetensors", names)
    still = evaluator.config.model_copy(update={"learning_rate": 1e-12, "ema_decay": 0.0})
    still_training = replace(evaluator, config=still, starts=(start,), weights=tmp_path / "weights")
    budget = replace(BUDGET, start="owls")
    measured = still_training(ARCHITECTURE, budget, go_on)
    assert 0.9 < measured.details["inherited share"] < 1
    found = load_file(still_training.weights_path(ARCHITECTURE, budget))
    expected = network.state_dict()
    torch.testing.assert_close(found["stem.conv.weight"], expected["stem.conv.weight"])
    rows = found["classifier.weight"][[2, 0]]
    torch.testing.assert_close(rows, expected["classifier.weight"])


def test_batch_norm_statistics_of_a_source_are_measured_again(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    """Those of a part cut out of a network are wrong, and no accuracy may depend on them."""
    torch.manual_seed(0)
    right = build(ARCHITECTURE).state_dict()
    wrong = {name: tensor + 100 if "running" in name else tensor for name, tensor in right.items()}
    found = []
    for name, state in {"right": right, "wrong": wrong}.items():
        (tmp_path / name).write_bytes(to_bytes(state))
        start = InitialWeights(name, ARCHITECTURE, tmp_path / name)
        training = replace(evaluator, starts=(start,), weights=tmp_path / "weights")
        budget = Budget(30, start=name)
        training(ARCHITECTURE, budget, go_on)
        found.append(load_file(training.weights_path(ARCHITECTURE, budget)))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_weights_that_a_user_has_removed_are_trained_again_for_who_starts_from_them(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    kept = replace(evaluator, weights=tmp_path / "weights")
    start = kept.trained(Job("small", ARCHITECTURE, BUDGET))
    # Two members may be the same network, and then have the same weights.
    growing, larger = replace(kept, starts=(start, start)), replace(ARCHITECTURE, resolution=16)
    budget = replace(BUDGET, start=start.name)
    found = [growing(larger, budget, go_on).accuracy]
    assert start.path.is_file()
    assert not kept.checkpoint_path(ARCHITECTURE, BUDGET).exists()
    growing.forget(larger, budget)
    found.append(growing(larger, budget, go_on).accuracy)
    assert found[0] == found[1]


def test_weights_that_cannot_be_trained_again_fail_who_starts_from_them(
    evaluator: TrainingEvaluator, tmp_path: Path
) -> None:
    kept = replace(evaluator, weights=tmp_path / "weights")
    diverging = replace(kept, config=kept.config.model_copy(update={"learning_rate": 1e9}))
    start = diverging.trained(Job("small", ARCHITECTURE, BUDGET))
    growing = replace(diverging, starts=(start,))
    failed = growing(ARCHITECTURE, replace(BUDGET, start=start.name), go_on)
    assert failed.status is Status.FAILED
    assert "not found, and repeated: " in failed.reason
