"""The commands that draw networks in a terminal."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from experiments.commands.shared_options import AsJson, Network, Resolution
from experiments.commands.terminal import out, print_json, say
from experiments.runs.resolve import load_architecture
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

    @property
    def blocks(self) -> str:
        return f"{self.repeats} × {self.what}" if self.repeats > 1 else self.what


def show(architecture: Network, resolution: Resolution = None, as_json: AsJson = False) -> None:
    """Draw a network, with what each of its stages is and costs."""
    network = load_architecture(architecture)
    pixels = resolution or network.resolution
    if as_json:
        print_json(_as_data(architecture, network, pixels))
        return
    say(f"{_headline(architecture, network, pixels)}\n")
    out.print(_drawing(_parts(network, pixels), pixels))


def compare(one: Network, other: Network, as_json: AsJson = False) -> None:
    """Compare two networks stage by stage, each at its own resolution."""
    networks = [(name, load_architecture(name)) for name in (one, other)]
    if as_json:
        print_json([_as_data(name, network, network.resolution) for name, network in networks])
        return
    for name, network in networks:
        say(_headline(name, network, network.resolution))
    out.print()
    out.print(_side_by_side(*(_parts(network, network.resolution) for _, network in networks)))


def _headline(name: str, network: Architecture, pixels: int) -> str:
    total = cost(network, pixels)
    return (
        f"{name}: {pixels} pixels, {network.num_classes:,} classes, {count(total.macs)} MACs, "
        f"{count(total.params)} params"
    )


def _parts(network: Architecture, pixels: int) -> list[_Part]:
    stem, head = network.stem, network.head.channels
    first = f"conv {stem.kernel}×{stem.kernel}" + (f" /{stem.stride}" if stem.stride > 1 else "")
    last = (f"conv 1×1 to {head}, " if head else "") + "pool, classify"
    blocks = [(first, 1), *((_described(s), s.repeats) for s in network.stages), (last, 1)]
    return [
        _Part(part.name, what, repeats, part.resolution, part.channels, part.cost)
        for part, (what, repeats) in zip(parts(network, pixels), blocks, strict=True)
    ]


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
    """Each part as a bar: the larger its output the wider, the more channels the darker."""
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
        side, share = "" if flat else str(part.pixels), f"{part.cost.macs / total:.0%}"
        shade = Text(bar, style="cyan")
        table.add_row(part.name, shade, side, str(part.channels), part.blocks, share)
    return table


def _bar(side: int, whole: int, channels: int, every: list[int]) -> str:
    low, high = math.log(min(every)), math.log(max(every))
    place = (math.log(channels) - low) / (high - low) if high > low else 1.0
    shade = _SHADES[min(int(place * len(_SHADES)), len(_SHADES) - 1)]
    return shade * max(1, round(_BAR * side / whole))


def _side_by_side(one: list[_Part], other: list[_Part]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for _ in (one, other):
        table.add_column("blocks")
        for header in ("px", "ch", "MACs"):
            table.add_column(header, justify="right", no_wrap=True)
    for pair in [*zip_longest(one[:-1], other[:-1]), (one[-1], other[-1])]:
        name = next(part.name for part in pair if part)
        differ = len({part and part._replace(cost=Cost(0, 0, 0)) for part in pair}) > 1
        cells = [cell for part in pair for cell in _cells(part)]
        table.add_row(name, *cells, style="bold" if differ else "dim")
    table.add_section()
    totals = [count(sum(part.cost.macs for part in found)) for found in (one, other)]
    table.add_row("total", *("", "", "", totals[0]), *("", "", "", totals[1]))
    return table


def _cells(part: _Part | None) -> tuple[str, str, str, str]:
    if part is None:
        return ("", "", "", "")
    return (part.blocks, str(part.pixels), str(part.channels), count(part.cost.macs))


def _as_data(name: str, network: Architecture, pixels: int) -> dict[str, Any]:
    return {
        "name": name,
        "resolution": pixels,
        "key": network.key,
        "cost": cost(network, pixels)._asdict(),
        "parts": [
            part._asdict() | {"cost": part.cost._asdict()} for part in _parts(network, pixels)
        ],
        "architecture": network.to_dict(),
    }
