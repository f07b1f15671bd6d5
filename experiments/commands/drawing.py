"""The commands that draw networks in a terminal."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from experiments.commands.resolve import load_architecture
from experiments.commands.shared_options import AsJson, Network
from experiments.commands.terminal import out, print_json
from reports.formatting import count
from space.architecture import Architecture, Skip, Stage
from space.cost import Cost, cost, parts

#: Columns that the widest bar takes.
_BAR = 24

#: From few channels to many.
_SHADES = "░▒▓█"


class _Part(NamedTuple):
    """Stem, stage or head, as people read it; `pixels` is the side of its output."""

    name: str
    what: str
    repeats: int
    pixels: int
    channels: int
    cost: Cost


def show(
    architecture: Network,
    resolution: Annotated[int | None, typer.Option(min=1, help="Square input in pixels.")] = None,
    as_json: AsJson = False,
) -> None:
    """A drawing of a network, and what each of its stages is and costs."""
    network = load_architecture(architecture)
    pixels = resolution or network.resolution
    found = _parts(network, pixels)
    if as_json:
        print_json(_as_data(architecture, network, pixels, found))
        return
    out.print(_headline(architecture, network, pixels), markup=False, soft_wrap=True)
    out.print()
    out.print(_drawing(found, pixels))


def compare(one: Network, other: Network, as_json: AsJson = False) -> None:
    """Two networks side by side, stage by stage, each at its own resolution."""
    networks = [load_architecture(name) for name in (one, other)]
    tables = [_parts(network, network.resolution) for network in networks]
    if as_json:
        print_json(
            [
                _as_data(name, network, network.resolution, found)
                for name, network, found in zip((one, other), networks, tables, strict=True)
            ]
        )
        return
    for name, network in zip((one, other), networks, strict=True):
        out.print(_headline(name, network, network.resolution), markup=False, soft_wrap=True)
    out.print()
    out.print(_side_by_side(*tables))


def _headline(name: str, network: Architecture, pixels: int) -> str:
    total = cost(network, pixels)
    return (
        f"{name}: {pixels} pixels, {network.num_classes:,} classes, {count(total.macs)} MACs, "
        f"{count(total.params)} params"
    )


def _parts(network: Architecture, pixels: int) -> list[_Part]:
    stem, *stages, head = parts(network, pixels)
    rows = [_Part("stem", _stem(network), 1, stem.resolution, stem.channels, stem.cost)]
    for number, (stage, part) in enumerate(zip(network.stages, stages, strict=True), start=1):
        rows.append(
            _Part(
                f"stage {number}",
                _described(stage),
                stage.repeats,
                part.resolution,
                part.channels,
                part.cost,
            )
        )
    rows.append(_Part("head", _head(network), 1, head.resolution, head.channels, head.cost))
    return rows


def _stem(network: Architecture) -> str:
    stem = network.stem
    return f"conv {stem.kernel}×{stem.kernel}" + (f" /{stem.stride}" if stem.stride > 1 else "")


def _head(network: Architecture) -> str:
    widened = network.head.channels
    return (f"conv 1×1 to {widened}, " if widened else "") + "pool, classify"


def _described(stage: Stage) -> str:
    """`inverted 5×5 e6 /2 se`: operator, kernels, expansion, stride, gate, skip."""
    start = stage.start_kernel if stage.operator.optional_kernels else 0
    kernels = "+".join(f"{side}×{side}" for side in (start, stage.kernel) if side)
    words = [f"{stage.operator} {kernels}".rstrip()]
    words += [f"e{stage.expansion:g}"] if stage.operator.expands else []
    words += [f"/{stage.stride}"] if stage.stride > 1 else []
    words += ["se"] if stage.se else []
    words += [] if stage.skip is Skip.IDENTITY else [f"skip {stage.skip}"]
    return " ".join(words)


def _drawing(found: list[_Part], pixels: int) -> Table:
    """Each part as a bar as wide as its output and as dark as its channels are many."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("output", justify="center", no_wrap=True, width=_BAR)
    table.add_column("px", justify="right", no_wrap=True)
    table.add_column("ch", justify="right", no_wrap=True)
    table.add_column("blocks", no_wrap=True, overflow="ellipsis")
    table.add_column("MACs", justify="right", no_wrap=True)
    total = sum(part.cost.macs for part in found)
    inner = [part.channels for part in found[:-1]]
    for part in found:
        flat = part.name == "head"
        bar = "●" if flat else _bar(part.pixels, pixels, part.channels, inner)
        repeats = f"{part.repeats} × " if part.repeats > 1 else ""
        share = part.cost.macs / total
        table.add_row(
            part.name,
            Text(bar, style="cyan"),
            "" if flat else str(part.pixels),
            str(part.channels),
            repeats + part.what,
            f"{share:.0%}",
        )
    return table


def _bar(side: int, whole: int, channels: int, every: list[int]) -> str:
    low, high = math.log(min(every)), math.log(max(every))
    place = (math.log(channels) - low) / (high - low) if high > low else 1.0
    shade = _SHADES[min(int(place * len(_SHADES)), len(_SHADES) - 1)]
    return shade * max(1, round(_BAR * side / whole))


def _side_by_side(ones: list[_Part], others: list[_Part]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for _ in range(2):
        table.add_column("blocks")
        table.add_column("px", justify="right", no_wrap=True)
        table.add_column("ch", justify="right", no_wrap=True)
        table.add_column("MACs", justify="right", no_wrap=True)
    heads = (ones.pop(), others.pop())
    pairs = [*zip_longest(ones, others), heads]
    for pair in pairs:
        name = next(part.name for part in pair if part)
        differ = len({part and part._replace(cost=Cost(0, 0, 0)) for part in pair}) > 1
        cells = [cell for part in pair for cell in _cells(part)]
        table.add_row(name, *cells, style="bold" if differ else "dim")
    table.add_section()
    sums = [
        sum(part.cost.macs for part in [*table_, head])
        for table_, head in zip((ones, others), heads, strict=True)
    ]
    totals = [cell for total in sums for cell in ("", "", "", count(total))]
    table.add_row("total", *totals)
    return table


def _cells(part: _Part | None) -> tuple[str, str, str, str]:
    if part is None:
        return ("", "", "", "")
    repeats = f"{part.repeats} × " if part.repeats > 1 else ""
    return (repeats + part.what, str(part.pixels), str(part.channels), count(part.cost.macs))


def _as_data(name: str, network: Architecture, pixels: int, found: list[_Part]) -> dict[str, Any]:
    return {
        "name": name,
        "resolution": pixels,
        "key": network.key,
        "cost": cost(network, pixels)._asdict(),
        "parts": [part._asdict() | {"cost": part.cost._asdict()} for part in found],
        "architecture": network.to_dict(),
    }
