"""Latency tables: measure the blocks of a space once, then predict any of its networks.

The latency of a network is about the sum of those of its parts (ProxylessNAS, section 3.3; MnasNet
estimates it so too). A line fitted to networks that are measured whole corrects what the sum misses
(caches, launches), and other networks give the errors of predictions. The table stores both.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, product
from operator import getitem
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import kendalltau
from torch import nn

from experiments.data.messages import reason_of
from experiments.data.parallel import Progress
from experiments.latency import timing
from experiments.runs.environment import environment
from experiments.training import machine
from space.architecture import Architecture, Block, Head, Stem
from space.blocks import BLOCKS
from space.choices import RESOLUTION, Space
from space.files import write_file
from space.moves import uniform
from space.network import build
from space.validation import InvalidInput, strict_keys, validate

#: Random networks that are measured whole: half to correct the sums, half to test them (assumed).
WHOLE = 32
#: Rounds in which all parts are measured, so that a busy moment does not affect only one of them.
_ROUNDS = 3
#: Between the names of parts in that of a whole network.
_AND = " + "
#: Seconds for which a part is timed in a round, at least.
_PIECE_SECONDS = 0.005


Finite = Annotated[float, Field(allow_inf_nan=False)]

#: How long a part takes for a batch (the bound is assumed).
Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


@strict_keys
@dataclass(frozen=True, slots=True)
class TableSetting:
    """What a table holds for; a call takes `batch` images of `resolution` pixels."""

    space: str
    resolution: int
    device: str
    backend: timing.Backend | Literal["litert", "program"]
    batch: int
    threads: int
    processor: str


@strict_keys
@dataclass(frozen=True, slots=True)
class PredictionErrors:
    """The errors of predictions for networks that were not used to build the table.

    Errors are |predicted − measured| / measured; `rank_correlation` is Kendall's τ.
    """

    networks: int
    median_error: float
    largest_error: float
    rank_correlation: float


@strict_keys
@dataclass(frozen=True, slots=True)
class LatencyTable:
    """The seconds of each part of a space's networks; a network takes `scale` · sum + `offset`."""

    setting: TableSetting
    scale: Finite
    offset: Finite
    judged: PredictionErrors
    seconds: dict[str, Seconds]

    def predict(self, architecture: Architecture) -> float:
        """The seconds that `architecture` takes for a batch.

        Raises `InvalidInput` for a network of another space or resolution.
        """
        return self.scale * _sum(self.seconds, architecture) + self.offset

    def save(self, path: Path) -> None:
        """Writes the table as JSON."""
        write_file(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> LatencyTable:
    """The table that `LatencyTable.save` wrote, or of the latency.csv of a kit.

    Raises `InvalidInput` if the file is neither.
    """
    try:
        if path.suffix == ".csv":
            return _from_csv(path)
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{path}: not a latency table ({reason_of(error)}); build one with phiscale latency "
            "SPACE --build-table FILE, or on a device with --kit"
        ) from None
    return validate(LatencyTable, data, source=str(path))


def _from_csv(path: Path) -> LatencyTable:
    """Whole networks are rows whose name is that of all of their parts."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError("it has no rows")
    seconds = {row["name"]: float(row["seconds"]) for row in rows}
    seconds = validate(dict[str, Seconds], seconds, source=str(path))
    facts = {key: rows[0][key] for key in TableSetting.__dataclass_fields__}
    for key in ("resolution", "batch", "threads"):
        facts[key] = int(facts[key])
    setting = validate(TableSetting, facts, source=str(path))
    parts = {name: value for name, value in seconds.items() if _AND not in name}
    whole = {name: value for name, value in seconds.items() if _AND in name}
    sums = [sum(parts[part] for part in name.split(_AND)) for name in whole]
    return _fitted(setting, parts, np.array(sums), np.array(list(whole.values())))


def measure(
    space: Space,
    *,
    device: str = "cpu",
    batch: int = 1,
    backend: timing.Backend = "eager",
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> LatencyTable:
    """Builds the table of `space`: measures every part and some whole networks.

    Raises `InvalidInput` for a backend that compiles whole networks: `compile`, `onnxruntime`.
    """
    if backend not in ("eager", "graph"):
        raise InvalidInput(
            f"--build-table: it runs blocks one by one, so the backend must be eager or graph, but "
            f"got {backend}"
        )
    chosen = machine.choose_device(device)
    networks = sample(space, WHOLE)
    wholes = [Piece("", partial(build, n), n.in_channels, n.resolution) for n in networks]
    pieces = [*pieces_of(space).values(), *wholes]
    with machine.prepared(threads), machine.float32_precision(tf32=False):
        seconds = np.full(len(pieces), np.inf)
        # The lowest of a piece's medians is the least disturbed one.
        for done, number in enumerate([*range(len(pieces))] * _ROUNDS, start=1):
            found = _seconds(pieces[number], chosen, backend, batch)
            seconds[number] = min(seconds[number], found)
            progress("Timing parts", done, _ROUNDS * len(pieces))
        facts = environment()
        setting = TableSetting(
            space=space.name,
            resolution=space.base.resolution,
            device=chosen.type,
            backend=backend,
            batch=batch,
            threads=torch.get_num_threads(),
            processor=facts["gpus"] if chosen.type == "cuda" else facts["processor"],
        )
    names = [piece.name for piece in pieces[:-WHOLE]]
    table = dict(zip(names, seconds[:-WHOLE].tolist(), strict=True))
    sums = np.array([_sum(table, network) for network in networks])
    return _fitted(setting, table, sums, seconds[-WHOLE:])


def _fitted(
    setting: TableSetting,
    parts: dict[str, float],
    sums: NDArray[np.float64],
    whole: NDArray[np.float64],
) -> LatencyTable:
    """The table whose line fits every other network, judged on those between."""
    scale, offset = np.polyfit(sums[::2], whole[::2], 1).tolist()
    judged = _judge(scale * sums[1::2] + offset, whole[1::2])
    return LatencyTable(setting, scale, offset, judged, parts)


def whole(architecture: Architecture) -> str:
    """The name of a whole network in a kit: that of all of its parts."""
    return _AND.join(piece.name for piece in _pieces(architecture))


def sample(space: Space, count: int) -> list[Architecture]:
    """`count` random networks of `space`, always the same."""
    values = [*space.choices.values()]
    sizes = np.array([len(each) for each in values])
    rows = uniform(sizes, count, np.random.default_rng(0)).tolist()
    return [
        space.decode(dict(zip(space.choices, map(getitem, values, row), strict=True)))
        for row in rows
    ]


class Piece(NamedTuple):
    """A module to time on maps of `channels` and `side` pixels; equal pieces share a name."""

    name: str
    make: Callable[[], nn.Module]
    channels: int
    side: int


def _piece(
    what: str, part: Stem | Block | Head, make: Callable[[], nn.Module], channels: int, side: int
) -> Piece:
    facts = part._asdict() if isinstance(part, Block) else asdict(part)
    said = what.format(" ".join(map(str, facts.values())))
    return Piece(f"{said} on {channels}×{side}×{side}", make, channels, side)


def _pieces(architecture: Architecture) -> Iterator[Piece]:
    """The stem, every block and the head.

    The head's name leaves out the number of classes: one more is one column of a small matrix.
    """
    stem, head, numerics = architecture.stem, architecture.head, architecture.numerics
    channels, side = architecture.in_channels, architecture.resolution
    name, make = f"stem {{}} {numerics.activation}", partial(_stem, architecture)
    yield _piece(name, stem, make, channels, side)
    side = -(-side // stem.stride)
    side = -(-side // 2) if stem.pool else side
    for block in chain.from_iterable(architecture.blocks()):
        module = partial(BLOCKS[block.operator], block, numerics)
        yield _piece("{}", block, module, block.in_channels, side)
        side = -(-side // block.stride)
    name, make = f"head {{}} {numerics.activation}", partial(_head, architecture)
    yield _piece(name, head, make, architecture.stages[-1].channels, side)


def _stem(architecture: Architecture) -> nn.Module:
    network = build(architecture)
    return nn.Sequential(network.stem, network.pool)


def _head(architecture: Architecture) -> nn.Module:
    whole = build(architecture)
    return nn.Sequential(whole.head, whole.mean, nn.Flatten(), whole.hidden, whole.classifier)


def pieces_of(space: Space) -> dict[str, Piece]:
    """Every piece of every network of `space`, by name.

    The pieces of a stage depend only on its own choices, on the width of the stage before and on
    the resolution.
    """
    found: dict[str, Piece] = {}
    first = {name: values[0] for name, values in space.choices.items()}
    for number in range(1, len(space.base.stages) + 1):
        own, before = f"stage{number}.", (f"stage{number - 1}.width", RESOLUTION)
        free = [name for name in space.choices if name.startswith(own) or name in before]
        for values in product(*(space.choices[name] for name in free)):
            network = space.decode(first | dict(zip(free, values, strict=True)))
            found |= {piece.name: piece for piece in _pieces(network)}
    return found


def _sum(seconds: Mapping[str, float], architecture: Architecture) -> float:
    try:
        return sum(seconds[piece.name] for piece in _pieces(architecture))
    except KeyError as missing:
        raise InvalidInput(
            f"the latency table has no part {missing.args[0]!r}, so it was built for another space "
            "or resolution; build one with phiscale latency SPACE --resolution N --build-table FILE"
        ) from None


def _seconds(piece: Piece, device: torch.device, backend: timing.Backend, batch: int) -> float:
    """The median time of a call."""
    module = timing.ready(piece.make(), device)
    images = timing.example((batch, piece.channels, piece.side, piece.side), device)
    run = timing.runner(module, images, backend)
    with torch.inference_mode():
        return statistics.median(timing.time_calls(run, device, at_least=_PIECE_SECONDS))


def _judge(predicted: NDArray[np.float64], found: NDArray[np.float64]) -> PredictionErrors:
    errors = np.abs(predicted - found) / found
    return PredictionErrors(
        networks=len(found),
        median_error=float(np.median(errors)),
        largest_error=float(errors.max()),
        rank_correlation=float(kendalltau(predicted, found).statistic),
    )
