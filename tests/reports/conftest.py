"""A small finished run, synthetic: its accuracies are a formula, never to be shown as results."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports import tables
from reports.load import Run, Trial
from reports.load import load as load_run
from scaling.compound import scale
from space import presets
from space.architecture import Architecture
from space.choices import Space, load
from space.cost import cost

EPOCHS, FINAL_EPOCHS, TARGET, EXPONENT = 5, 15, 4_000_000, -0.07
HELD_OUT, TEST = 600, 2000
CLASSES = list("ABCDEFGHIJ")
START = datetime(2026, 1, 2, 3, 4, 5)

#: What trial 13 has: batches in pieces, weights to start from, and a teacher.
UNUSUAL: dict[str, Any] = {
    "details": {"pieces of a batch": 4.0, "inherited share": 0.5},
    "inherits": {"start": "e0a32e1a1fee5a57", "teacher": "9f86d081884c7d65"},
}


def accuracy(architecture: Architecture, epochs: int, noise: float = 0.0) -> float:
    """Rises with MACs, with 5-pixel kernels and squeeze-and-excite, and with training."""
    macs = cost(architecture).macs
    large = sum(stage.kernel == 5 for stage in architecture.stages)
    gated = sum(stage.se is not None for stage in architecture.stages)
    ceiling = 0.97 - 0.62 * (macs / 4e5) ** -0.34 + 0.008 * large + 0.004 * gated
    return min(0.99, max(0.1, ceiling * (1 - 0.9 * math.exp(-epochs / 2.2)) + noise))


def reward(value: float, macs: int) -> float:
    return float(value * (macs / TARGET) ** EXPONENT)


def recorded(
    architecture: Architecture,
    number: int,
    *,
    job: str,
    epochs: int,
    images: int = HELD_OUT,
    noise: float = 0.0,
    value: Callable[[float, int], float] = lambda accuracy, _: accuracy,
    state: TrialState = TrialState.COMPLETE,
    stopped_after: int | None = None,
    params: dict[str, Any] | None = None,
    distributions: dict[str, Any] | None = None,
    details: dict[str, float] | None = None,
    inherits: dict[str, str] | None = None,
    **attributes: Any,
) -> FrozenTrial:
    """One trial with the attributes that a real one has."""
    price = cost(architecture)
    made = 0 if state is TrialState.FAIL else stopped_after or epochs
    curve = [accuracy(architecture, epoch, noise) for epoch in range(1, made + 1)]
    seconds = 0.4 + price.macs / 2e6
    measurement = {
        "status": {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[state.name],
        "accuracy": curve[-1] if curve else None,
        "loss": 2.3 * (1 - curve[-1]) if curve else None,
        "train_seconds": seconds * made,
        "validation_seconds": 0.1 * made,
        "peak_memory": None,
        "images": images if curve else None,
        "epochs": [
            {
                "epoch": epoch,
                "train_loss": 2.4 * (1 - value),
                "accuracy": value,
                "loss": 2.3 * (1 - value),
                "seconds": seconds,
            }
            for epoch, value in enumerate(curve, start=1)
        ],
        "details": details or {},
        "reason": "the loss became NaN in epoch 2" if state is TrialState.FAIL else None,
    }
    start = START + timedelta(seconds=40 * number)
    trial = create_trial(
        state=state,
        value=value(curve[-1], price.macs) if state is TrialState.COMPLETE else None,
        params=params,
        distributions=distributions,
        intermediate_values={i: value(a, price.macs) for i, a in enumerate(curve, start=1)},
        user_attrs={
            "job": job,
            "architecture": architecture.to_dict(),
            "key": architecture.key,
            "cost": price._asdict(),
            "budget": {"epochs": epochs, "data_fraction": 1.0, "resolution": None, "seed": 7}
            | (inherits or {}),
            "measurement": measurement,
            "environment": {"device": "cpu", "torch": "2.13.0", "python": "3.11.2"},
            "seconds": seconds * made + 0.5,
            **attributes,
        },
    )
    trial.datetime_start = start
    trial.datetime_complete = start + timedelta(seconds=seconds * made + 0.5)
    return trial


def search_trials(space: Space, count: int) -> list[FrozenTrial]:
    draw = random.Random(5)
    distributions = {
        name: CategoricalDistribution(values) for name, values in space.choices.items()
    }
    made = []
    for number in range(count):
        choices = {name: draw.choice(values) for name, values in space.choices.items()}
        state, extra = TrialState.COMPLETE, {}
        if number % 7 == 5:
            state, extra = TrialState.PRUNED, {"stopped_after": 2}
        elif number % 19 == 11:
            state = TrialState.FAIL
        if number == 9:
            choices, extra = dict(made[3].params), {"answered_from": 3}
        made.append(
            recorded(
                space.decode(choices),
                number,
                job=f"candidate {number}",
                epochs=EPOCHS,
                noise=draw.gauss(0, 0.018),
                value=reward,
                state=state,
                params=choices,
                distributions=distributions,
                rejected=draw.randrange(4),
                **extra,
                **({"retries": 1} if number == 12 else {}),
                **(UNUSUAL if number == 13 else {}),
            )
        )
    return made


def add_study(url: str, name: str, trials: list[FrozenTrial]) -> None:
    study = optuna.create_study(
        storage=url, study_name=name, direction="maximize", load_if_exists=True
    )
    study.set_user_attr("stage", {"finalists": "search", "rivals": "family"}.get(name, name))
    study.add_trials(trials)


def build_run(
    folder: Path,
    *,
    trials: int = 40,
) -> Path:
    """Writes a run directory and gives it back."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder / 'study.db'}"
    space = load("mnasnet_small").adapted(num_classes=len(CLASSES), resolution=32)
    recipe = {
        "name": "synthetic",
        "description": "a formula in place of training runs",
        "seed": 7,
        "space": "mnasnet_small",
        "resolution": 32,
        "storage": None,
        "objective": {"metric": "top1", "target": TARGET, "exponent_below": EXPONENT},
        "search": {"trials": trials, "epochs": EPOCHS, "final_epochs": FINAL_EPOCHS},
        "family": {"epochs": 30},
    }
    manifest = {
        "name": "synthetic",
        "seed": 7,
        "data": {"classes": CLASSES, "train": 5400, "held_out": HELD_OUT, "test": TEST},
        "starts": [
            {
                "time": "2026-01-02T03:04:05+00:00",
                "command": "phiscale run synthetic",
                "environment": {"processor": "a processor", "cores": "2", "torch": "2.13.0"},
            }
        ],
        "seconds": {"search": 1240.5, "coefficients": 310.0, "family": 920.2},
    }
    _write(folder / "recipe.yaml", recipe)
    _write(folder / "manifest.json", manifest)
    searched = search_trials(space, trials)
    add_study(url, "search", searched)
    baseline = _finalists(folder, url, searched)
    _coefficients(folder, url, baseline)
    _family(folder, url, baseline)
    _rivals(url, baseline)
    _answers(folder)
    _latency(folder)
    return folder


def _finalists(folder: Path, url: str, searched: list[FrozenTrial]) -> Architecture:
    complete = [t for t in searched if t.state is TrialState.COMPLETE]
    best = sorted(complete, key=lambda t: -t.value)[:5]
    made = [
        recorded(
            Architecture.from_dict(trial.user_attrs["architecture"]),
            number,
            job=f"finalist {number}",
            epochs=FINAL_EPOCHS,
            noise=0.01 * (number % 3 - 1),
            value=reward,
        )
        for number, trial in enumerate(best)
    ]
    add_study(url, "finalists", made)
    chosen = max(range(len(made)), key=lambda number: made[number].value)
    attributes = made[chosen].user_attrs
    _write(
        folder / "baseline.json",
        {name: attributes[name] for name in ("architecture", "key", "cost")}
        | {
            "accuracy": attributes["measurement"]["accuracy"],
            "reward": made[chosen].value,
            "trial": chosen,
            "study": "finalists",
            "choices": best[chosen].params,
        },
    )
    return Architecture.from_dict(attributes["architecture"])


def _coefficients(folder: Path, url: str, baseline: Architecture) -> None:
    grid = [
        (1 + a / 10, 1 + b / 10, 1 + c / 10)
        for a in range(12)
        for b in range(6)
        for c in range(6)
        if abs((1 + a / 10) * (1 + b / 10) ** 2 * (1 + c / 10) ** 2 - 2) <= 0.06
    ]
    candidates: dict[str, dict[str, Any]] = {}
    made = []
    for alpha, beta, gamma in grid:
        network = scale(baseline, depth=alpha, width=beta, resolution=gamma)
        if network.key in candidates:
            candidates[network.key]["names"].append([alpha, beta, gamma])
            continue
        off = abs(alpha - 1.2) + abs(beta - 1.1) + abs(gamma - 1.15)
        trial = recorded(
            network, len(made), job=f"α{alpha:g} β{beta:g} γ{gamma:g}", epochs=10, noise=-0.04 * off
        )
        made.append(trial)
        candidates[network.key] = {
            "names": [[alpha, beta, gamma]],
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            "nominal_product": alpha * beta**2 * gamma**2,
            "realised_ratio": cost(network).macs / cost(baseline).macs,
            "cost": cost(network)._asdict(),
            "accuracy": trial.value,
            "key": network.key,
        }
    add_study(url, "coefficients", made)
    best = max(candidates.values(), key=lambda candidate: candidate["accuracy"])
    own = ("alpha", "beta", "gamma", "nominal_product", "realised_ratio", "accuracy", "cost")
    _write(
        folder / "coefficients.json",
        {name: best[name] for name in own}
        | {"phi": 1.0, "factor": 2.0, "pinned": False, "candidates": list(candidates.values())},
    )


def _family(folder: Path, url: str, baseline: Architecture) -> None:
    chosen = json.loads((folder / "coefficients.json").read_text("utf-8"))
    members, made = [], []
    for number, phi in enumerate((0.0, 1.0, 2.0, 3.0)):
        factors = {
            "depth": chosen["alpha"] ** phi,
            "width": chosen["beta"] ** phi,
            "resolution": chosen["gamma"] ** phi,
        }
        network = scale(baseline, **factors)
        trial = recorded(network, number, job=f"b{number}", epochs=30, images=TEST)
        made.append(trial)
        members.append(
            {
                "name": f"b{number}",
                "phi": phi,
                "depth": factors["depth"],
                "width": factors["width"],
                "resolution": network.resolution,
                "cost": cost(network)._asdict(),
                "accuracy": trial.value,
                "images": TEST,
                "train_seconds": trial.user_attrs["measurement"]["train_seconds"],
                "key": network.key,
                "files": {},
            }
        )
    add_study(url, "family", made)
    coefficients = {name: chosen[name] for name in ("alpha", "beta", "gamma")}
    _write(
        folder / "family" / "family.json",
        {
            "members": members,
            "coefficients": coefficients,
            "classes": CLASSES,
            "preprocessing": {},
        },
    )


def _rivals(url: str, baseline: Architecture) -> None:
    made = [
        recorded(scale(baseline, **factors), number, job=job, epochs=30, images=TEST, noise=-0.02)
        for number, (job, factors) in enumerate(
            (
                ("width b1", {"width": 1.41}),
                ("width b2", {"width": 2.0}),
                ("depth b1", {"depth": 2.0}),
            )
        )
    ]
    made.append(
        recorded(
            replace(presets.load("mobilenet_v2", num_classes=10), resolution=64),
            len(made),
            job="mobilenet_v2 b0",
            epochs=30,
            images=TEST,
        )
    )
    add_study(url, "rivals", made)


def _write_answers(folder: Path, name: str, accuracy: float, seed: int) -> set[int]:
    """Answers as right as `accuracy` in `folder`; gives the wrong ones of highest probability."""
    draw = np.random.default_rng(seed)
    label = np.arange(TEST) % len(CLASSES)
    predicted = label.copy()
    wrong = draw.permutation(TEST)[: TEST - round(TEST * accuracy)]
    predicted[wrong] = (label[wrong] + draw.choice([1, 1, 1, 2, 5], len(wrong))) % 10
    answers = pd.DataFrame(
        {
            "image": np.arange(TEST, dtype=np.int32),
            "label": label.astype(np.int32),
            "predicted": predicted.astype(np.int32),
            "probability": draw.uniform(0.3, 1, TEST).astype(np.float32),
        }
    )
    answers.to_parquet(folder / f"{name}.parquet")
    return set(answers.loc[wrong].sort_values("probability", ascending=False)["image"][:12])


def _answers(folder: Path) -> None:
    """Answers as right as the members and one rival are, and pictures of noise."""
    draw = np.random.default_rng(3)
    members = json.loads((folder / "family" / "family.json").read_text("utf-8"))["members"]
    (folder / "predictions").mkdir()
    shown: set[int] = set()
    for seed, member in enumerate(members):
        shown |= _write_answers(folder / "predictions", member["name"], member["accuracy"], seed)
    _write_answers(folder / "predictions", "mobilenet_v2 b0", 0.9, len(members))
    files = [f"{CLASSES[each % len(CLASSES)]}/{each}.png" for each in range(TEST)]
    _write(folder / "predictions" / "files.json", files)
    index = np.array(sorted(shown | {0, 4, 9}), dtype=np.int64)
    pixels = draw.integers(0, 256, (len(index), 24, 24, 3), dtype=np.uint8)
    np.savez_compressed(folder / "predictions" / "images.npz", index=index, pixels=pixels)
    maps = {
        member["name"]: draw.normal(size=(3, size, size)).astype(np.float16)
        for size, member in enumerate(members, start=2)
    }
    np.savez_compressed(
        folder / "predictions" / "activation_maps.npz", index=np.array([0, 4, 9]), **maps
    )


def _latency(folder: Path) -> None:
    members = json.loads((folder / "family" / "family.json").read_text("utf-8"))["members"]
    pd.DataFrame(
        [
            {
                "member": member["name"],
                "accuracy": member["accuracy"],
                "backend": backend,
                "device": "cpu",
                "batch": 1,
                "threads": 1,
                "median_seconds": member["cost"]["macs"] / speed,
                "low_seconds": member["cost"]["macs"] / speed * 0.97,
                "high_seconds": member["cost"]["macs"] / speed * 1.05,
                "images_per_second": speed / member["cost"]["macs"],
            }
            for backend, speed in (("eager", 1e9), ("onnxruntime", 3e9))
            for member in members
        ]
    ).to_csv(folder / "family" / "latency.csv", index=False)


def _write(path: Path, data: object) -> None:
    """JSON, which is YAML too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False), "utf-8")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished synthetic run, shared by the tests that only read it."""
    return build_run(tmp_path_factory.mktemp("runs") / "synthetic")


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """The finished synthetic run, for a test that changes it."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def thousand_trials(finished_run: Path) -> Run:
    """The finished run with a search of a thousand trials, in memory."""
    space = load("mnasnet_small").adapted(num_classes=10, resolution=32)
    made = tuple(as_loaded("search", trial) for trial in search_trials(space, 1000))
    run = load_run(finished_run)
    return replace(run, trials=dict(run.trials) | {"search": made})


def as_loaded(study: str, trial: FrozenTrial) -> Trial:
    """A trial as `reports.load` gives it, without a storage between."""
    own = {field.name for field in fields(Trial)} & trial.user_attrs.keys()
    return Trial(
        study=study,
        number=int((trial.datetime_start - START).total_seconds() / 40),
        state={"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
        value=trial.value,
        choices=trial.params,
        reports=trial.intermediate_values,
        **{name: trial.user_attrs[name] for name in own},
    )


@pytest.fixture(scope="session")
def five_thousand_trials(thousand_trials: Run) -> Run:
    """As `thousand_trials`, five times over; each with a network of its own key."""
    every = [
        replace(trial, number=1000 * copy + trial.number, key=f"{copy}{trial.key[1:]}")
        for copy in range(5)
        for trial in thousand_trials.study("search")
    ]
    return replace(thousand_trials, trials=dict(thousand_trials.trials) | {"search": tuple(every)})


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Run:
    """That run, read."""
    return load_run(finished_run)


@pytest.fixture(scope="module")
def found(run: Run) -> tables.Tables:
    """Its tables."""
    return tables.collect(run)
