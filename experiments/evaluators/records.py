"""An `Evaluate` that looks accuracies up in records of training runs, or predicts them from these.

`read` takes Accel-NASBench's archive as published. `quality` says how well a surrogate predicts
networks that it has not seen; each evaluation says whether it was looked up, how far the nearest
record is, and whether it extrapolates.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.data.messages import printable, reason_of
from space.architecture import Architecture
from space.choices import Space, Value
from space.cost_table import CostTable, Floats, tabulate
from space.encoding import Encoder
from space.evaluation import Budget, Epoch, Measurement, Report, Status
from space.moves import Rows
from space.validation import InvalidInput

_logger = logging.getLogger(__name__)

#: Predicts the accuracies (fractions) of N rows.
Surrogate = Callable[[Rows], Floats]
SurrogateName = Literal["gaussian_process", "boosting"]

#: The advice in errors about missing records.
WHERE = (
    "give the archive anb_dataset_jsons.tar.gz of https://github.com/afzalxo/Accel-NASBench, as in "
    "--set evaluator.records=PATH"
)

#: The most bytes of a record (assumed; the longest of the 5,138 published ones has 1,357).
_MOST_BYTES = 100_000

#: Repeats of each stage of EfficientNet-B0, from which Accel-NASBench's space counts its layers.
_B0_REPEATS = (1, 2, 2, 3, 3, 4, 1)


@dataclass(frozen=True, slots=True)
class NetworkRecords:
    """Measured networks of `space`: N rows of indices into its choices, and mean accuracies (N)."""

    space: Space
    rows: Rows
    accuracy: Floats

    def __len__(self) -> int:
        return len(self.rows)


def read(path: Path, space: Space) -> NetworkRecords:
    """The records of Accel-NASBench's archive (`anb_dataset_jsons.tar.gz`), as rows of `space`.

    Raises `InvalidInput` if the file is not such an archive or a record is not of the space.
    """
    try:
        records = list(_archived(path))
    except Exception as error:  # a damaged archive ends its readers in many ways
        raise InvalidInput(
            f"{path}: cannot be read as records: {reason_of(error)}; {WHERE}"
        ) from None
    if not records:
        raise InvalidInput(f"{path}: contains no records; {WHERE}")
    measured: dict[tuple[int, ...], list[float]] = {}
    for name, record in records:
        try:
            row = tuple(
                space.choices[choice].index(value)
                for choice, value in _choices(record["architecture"], space).items()
            )
            top1 = float(record["metrics"]["val_top1"])
            if not 0 <= top1 <= 100:
                raise ValueError(f"`0 <= val_top1 <= 100` must hold, but got {top1}")
            measured.setdefault(row, []).append(top1 / 100)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(
                f"{path}: {printable(name)}: is not a record of the space {space.name}: "
                f"{reason_of(error)}"
            ) from None
    accuracy = [float(np.mean(values)) for values in measured.values()]
    return NetworkRecords(space, np.array(list(measured), np.int64), np.array(accuracy))


def _archived(path: Path) -> Iterator[tuple[str, Any]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".json"):
                if member.size > _MOST_BYTES:
                    raise ValueError(
                        f"{member.name}: has {member.size:,} bytes, more than a record"
                    )
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name, json.load(file)


def _choices(record: Mapping[str, Any], space: Space) -> dict[str, Value]:
    """Accel-NASBench's keys (`block0_e`: the first stage's expansion) as the space's choices."""
    choices: dict[str, Value] = {}
    for place, repeats in enumerate(_B0_REPEATS):
        choices |= {
            f"stage{place + 1}.operator": f"inverted_e{record[f'block{place}_e']}",
            f"stage{place + 1}.kernel": record[f"block{place}_k"],
            f"stage{place + 1}.se": 0.25 if record[f"block{place}_se"] else 0,
            f"stage{place + 1}.layers": record[f"block{place}_l"] - repeats,
        }
    return {name: choices[name] for name in space.choices}


class SurrogateQuality(NamedTuple):
    """How well a surrogate predicts networks that it was not fitted to; `rmse` is a fraction."""

    kendall_tau: float
    r2: float
    rmse: float


def surrogate(name: SurrogateName, records: NetworkRecords) -> Surrogate:
    """The surrogate `name`, fitted to `records`."""
    return _SURROGATES[name](tabulate(records.space), records.rows, records.accuracy)


def quality(name: SurrogateName, records: NetworkRecords, folds: int = 5) -> SurrogateQuality:
    """Cross-validates the surrogate in `folds` parts, drawn with a fixed seed."""
    from scipy.stats import kendalltau

    table = tabulate(records.space)
    part = np.random.default_rng(0).permutation(len(records)) % folds
    predicted = np.empty(len(records))
    for fold in range(folds):
        known = part != fold
        fitted = _SURROGATES[name](table, records.rows[known], records.accuracy[known])
        predicted[~known] = fitted(records.rows[~known])
    error = predicted - records.accuracy
    tau = kendalltau(predicted, records.accuracy).statistic
    return SurrogateQuality(
        float(tau),
        float(1 - (error**2).mean() / records.accuracy.var()),
        float(np.sqrt((error**2).mean())),
    )


def _gaussian_process(table: CostTable, rows: Rows, accuracy: Floats) -> Surrogate:
    from search.accuracy_model import AccuracyModel, Features

    features = Features(table)
    model = AccuracyModel(features(rows), accuracy)
    return lambda new: model.expect(features(new))


def _boosting(_: CostTable, rows: Rows, accuracy: Floats) -> Surrogate:
    """Trees with four leaves on ordinal choices (measured: better than with five and more)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        learning_rate=0.1,
        max_iter=1_500,
        max_leaf_nodes=4,
        min_samples_leaf=10,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    predict: Surrogate = model.fit(rows, accuracy).predict
    return predict


_SURROGATES: dict[SurrogateName, Callable[[CostTable, Rows, Floats], Surrogate]] = {
    "gaussian_process": _gaussian_process,
    "boosting": _boosting,
}


class UnknownNetwork(Exception):
    """The records do not cover a network; the message says why."""


class ExpectedAccuracy(NamedTuple):
    """The accuracy of a network according to the records, without noise.

    If it is not `recorded` but predicted, `changes` choices differ from the nearest record, and it
    is `extrapolated` if it costs less or more than every record.
    """

    accuracy: float
    recorded: bool
    changes: int = 0
    extrapolated: bool = False


class RecordsEvaluator:
    """Answers from `records`, and for other networks with `predict`, if given.

    `noise` is the standard deviation of what is added to predictions, a fraction, determined by
    network and budget. `rmse`, the error of the surrogate, is noted in the measurement's details.
    """

    def __init__(
        self,
        records: NetworkRecords,
        predict: Surrogate | None = None,
        noise: float = 0.0,
        rmse: float = 0.0,
    ) -> None:
        self.records = records
        self._predict, self._noise, self._rmse = predict, noise, rmse
        self._encode, self._table = Encoder(records.space), tabulate(records.space)
        rows = map(tuple, records.rows.tolist())
        self._recorded = dict(zip(rows, records.accuracy.tolist(), strict=True))
        costs = self._table(records.rows)
        self._least, self._most = costs.min(axis=0), costs.max(axis=0)

    def __call__(self, architecture: Architecture, budget: Budget, report: Report) -> Measurement:
        """Looks `architecture` up; FAILED if the records do not cover it."""
        try:
            expected = self.expected(architecture)
        except UnknownNetwork as reason:
            return Measurement(Status.FAILED, reason=str(reason))
        accuracy, details = expected.accuracy, {"recorded": float(expected.recorded)}
        if not expected.recorded:
            accuracy += self._drawn_noise(architecture, budget)
            details |= {
                "surrogate_rmse": self._rmse,
                "changes_to_nearest_record": float(expected.changes),
                "extrapolated": float(expected.extrapolated),
            }
        if expected.extrapolated:
            _logger.warning(
                "the surrogate extrapolates: a network costs less or more than any record"
            )
        accuracy = min(max(accuracy, 0.0), 1.0)
        epoch = Epoch(budget.epochs, 0.0, accuracy, 0.0, 0.0)
        report(epoch)
        return Measurement(Status.COMPLETE, accuracy=accuracy, epochs=(epoch,), details=details)

    def expected(self, architecture: Architecture) -> ExpectedAccuracy:
        """What is recorded of `architecture`, or else predicted; raises `UnknownNetwork`."""
        choices = self._encode(architecture)
        if choices is None:
            space = self.records.space.name
            raise UnknownNetwork(f"this network is not in the space {space} of the records")
        offers = self.records.space.choices.items()
        row = np.array([values.index(choices[name]) for name, values in offers])
        recorded = self._recorded.get(tuple(row.tolist()))
        if recorded is not None:
            return ExpectedAccuracy(recorded, recorded=True)
        if self._predict is None:
            raise UnknownNetwork(
                "this network is not recorded; set evaluator.surrogate to predict it"
            )
        cost = self._table(row[None])[0]
        return ExpectedAccuracy(
            float(self._predict(row[None])[0]),
            recorded=False,
            changes=int((self.records.rows != row).sum(axis=1).min()),
            extrapolated=bool(((cost < self._least) | (cost > self._most)).any()),
        )

    def _drawn_noise(self, architecture: Architecture, budget: Budget) -> float:
        text = f"{architecture.key} {budget.seed}".encode()
        seed = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
        return self._noise * float(np.random.default_rng(seed).standard_normal())
