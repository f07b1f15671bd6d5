"""The command that counts what a network costs."""

from __future__ import annotations

from typing import Annotated

import typer

from experiments.commands.resolve import load_architecture
from experiments.commands.shared_options import AsJson, Network
from experiments.commands.terminal import out, print_json, print_rows
from space.architecture import Architecture
from space.cost import cost as cost_of
from space.cost import parts
from space.explain import explain as explained
from space.explain import operations
from space.memory import peak_memory


def cost(
    architecture: Network,
    resolution: Annotated[int | None, typer.Option(min=1, help="Square input in pixels.")] = None,
    explain: Annotated[
        bool, typer.Option(help="Why other tools give other totals, and what each counts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The exact MACs, parameters, activations and memory of a network."""
    network = load_architecture(architecture)
    pixels = resolution or network.resolution
    found, memory = cost_of(network, pixels), peak_memory(network, pixels)
    stages = parts(network, pixels)
    if as_json:
        data = {
            "name": architecture,
            "resolution": pixels,
            **found._asdict(),
            "peak_memory_bytes": memory._asdict(),
            "parts": [part._asdict() | {"cost": part.cost._asdict()} for part in stages],
        }
        if explain:
            data["operations"] = operations(network, pixels)._asdict()
            data["tools"] = [count._asdict() for count in explained(network, pixels)]
        print_json(data)
        return
    if explain:
        _print_explanation(network, pixels)
        return
    rows = [
        [part.name, f"{part.channels}", f"{part.resolution}", *(f"{n:,}" for n in part.cost)]
        for part in stages
    ]
    rows.append(["total", "", "", *(f"{n:,}" for n in found)])
    headers = ("part", "channels", "pixels", "MACs (multiply–adds)", "parameters", "activations")
    print_rows(headers, rows)
    out.print(
        f"at {pixels} pixels; peak activation memory of one float32 image: "
        f"{memory.inference / 1e6:.1f} MB at inference, {memory.training / 1e6:.1f} MB in training",
    )


def _print_explanation(network: Architecture, pixels: int) -> None:
    rows = [
        [count.tool, f"{count.total:,}", count.formula, count.because]
        for count in explained(network, pixels)
    ]
    print_rows(("tool", "total", "formula", "because"), rows, numeric=(1,))
    out.print("\nwhat there is to count:")
    kinds = operations(network, pixels)._asdict().items()
    print_rows(("kind", "operations"), [[name.replace("_", " "), f"{n:,}"] for name, n in kinds])
