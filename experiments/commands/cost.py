"""`phiscale cost`: what a network costs."""

from __future__ import annotations

from typing import Annotated

import typer

from experiments.commands.own_module import in_channels, is_own_module, load_module
from experiments.commands.shared_options import AsJson
from experiments.commands.terminal import out, print_json, print_rows
from experiments.runs.resolve import completed, find_in_run, load_architecture
from space import presets
from space.architecture import Architecture
from space.cost import Cost, parts
from space.cost import cost as cost_of
from space.device import Precision, device_memory, over_bounds
from space.explain import explain as explained
from space.explain import operations
from space.memory import peak_memory
from space.module_cost import module_cost
from space.validation import InvalidInput

_HEADERS = ("MACs (multiply–adds)", "parameters", "activations")

#: Default resolution in pixels for a user's own module, as for ImageNet.
_PIXELS = 224

#: Operators with multiply–adds that fvcore does not count.
_UNCOUNTED = ("attention", "lstm", "gru", "rnn", "baddbmm", "addbmm", "bilinear")


def cost(
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="A preset, an architecture.json, a run, RUN:NAME (b1, trial-3 …), or a PyTorch "
            "module of your own as FILE.py:CLASS.",
            autocompletion=completed(presets.names),
        ),
    ],
    resolution: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**6,
            help=f"Side of the square input in pixels (default: the network's own, {_PIXELS} for "
            "FILE.py:CLASS).",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option(help="Show why other tools give other totals, and what each counts.")
    ] = False,
    memory: Annotated[
        Precision | None,
        typer.Option(help="Show the SRAM and flash of a device in this precision."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the exact MACs, parameters, activations and memory of a network.

    A module of your own, FILE.py:CLASS, is counted by fvcore: the file is executed, and the class
    (or function) is called without arguments.
    """
    if is_own_module(architecture):
        if explain or memory:
            option = "--explain" if explain else "--memory"
            raise InvalidInput(f"{option}: needs a network of phiscale, not FILE.py:CLASS")
        _own_module(architecture, resolution or _PIXELS, as_json)
        return
    network = load_architecture(architecture)
    pixels = resolution or network.resolution
    found, peak = cost_of(network, pixels), peak_memory(network, pixels)
    device = device_memory(network, memory, pixels) if memory else None
    over: list[str] = []
    if device and (named := find_in_run(architecture)):
        objective = named[0].recipe.objective
        if objective.precision is memory:
            over = over_bounds(
                device._asdict(), objective.bounds.model_dump(), objective.overhead.model_dump()
            )
    stages = parts(network, pixels)
    if as_json:
        data = {
            "name": architecture,
            "resolution": pixels,
            **found._asdict(),
            "peak_memory_bytes": peak._asdict(),
            "parts": [part._asdict() | {"cost": part.cost._asdict()} for part in stages],
        }
        if device:
            needs = {"precision": memory, **device._asdict(), "over_bounds": over}
            data["device_memory_bytes"] = needs
        if explain:
            data["operations"] = operations(network, pixels)._asdict()
            data["tools"] = [count._asdict() for count in explained(network, pixels)]
        print_json(data)
        return
    if explain:
        _print_explanation(network, pixels)
        return
    rows = [
        [part.name, f"{part.channels}", f"{part.resolution}", *_printed(part.cost)]
        for part in stages
    ]
    total = ["total", "", "", *_printed(found)]
    print_rows(("part", "channels", "pixels", *_HEADERS), [*rows, total])
    out.print(
        f"at {pixels} pixels; peak activation memory of one float32 image: "
        f"{peak.inference / 1e6:.1f} MB in inference, {peak.training / 1e6:.1f} MB in training",
    )
    if device:
        out.print(
            f"on a device in {memory}: {device.sram:,} bytes of SRAM (the most at {device.peak}), "
            f"{device.flash:,} bytes of flash"
        )
    for clause in over:
        out.print(f"{architecture} needs {clause}", style="yellow")


def _own_module(name: str, pixels: int, as_json: bool) -> None:
    """Counts FILE.py:CLASS by fvcore, and by the closed form if it is a network of phiscale."""
    from space.network import Network as OurNetwork

    module = load_module(name)
    channels = in_channels(module)
    try:
        found = module_cost(module, pixels, channels)
    except Exception as error:  # whatever the module raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(
            f"{name}: cannot process an image of {channels} × {pixels} × {pixels} ({reason}); "
            "choose another --resolution"
        ) from None
    closed = cost_of(module.architecture, pixels) if isinstance(module, OurNetwork) else None
    if as_json:
        children = [{"name": part, "cost": each._asdict()} for part, each in found.parts.items()]
        total = {"name": name, "resolution": pixels, **found.total._asdict(), "parts": children}
        more = {"uncounted": found.uncounted, "closed_form": closed and closed._asdict()}
        print_json(total | more)
        return
    counts = [*found.parts.items(), ("total", found.total)]
    counts += [("closed form", closed)] if closed else []
    print_rows(("part", *_HEADERS), [[part, *_printed(each)] for part, each in counts])
    missed = [each for each in found.uncounted if any(word in each for word in _UNCOUNTED)]
    if missed:
        names = ", ".join(each.removeprefix("aten::") for each in missed)
        out.print(f"fvcore does not count {names}: the MACs are too low", style="yellow")
    out.print(f"at {pixels} pixels and {channels} channels, counted by fvcore")


def _printed(found: Cost) -> list[str]:
    return [f"{count:,}" for count in found]


def _print_explanation(network: Architecture, pixels: int) -> None:
    rows = [
        [count.tool, f"{count.total:,}", count.formula, count.because]
        for count in explained(network, pixels)
    ]
    print_rows(("tool", "total", "formula", "because"), rows, numeric=(1,))
    out.print("\noperations:")
    kinds = operations(network, pixels)._asdict().items()
    print_rows(("kind", "operations"), [[name.replace("_", " "), f"{n:,}"] for name, n in kinds])
