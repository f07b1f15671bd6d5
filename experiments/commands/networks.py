"""The commands on networks and on what is shipped: costs, presets, weights, spaces, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import config
from experiments.commands.naming import load_architecture
from experiments.commands.options import AsJson, Network
from experiments.commands.terminal import out, print_json, print_rows, wrote
from experiments.studies.recipe import StudyRecipe
from space import choices, presets
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


def list_presets(as_json: AsJson = False) -> None:
    """The published networks, with their cost."""
    rows = []
    for name in presets.names():
        network = presets.load(name)
        rows.append({"name": name, "resolution": network.resolution, **cost_of(network)._asdict()})
    if as_json:
        print_json(rows)
        return
    headers = ("preset", "resolution", "MACs (multiply–adds)", "parameters", "activations")
    print_rows(headers, [[str(row["name"]), *_counts(row)] for row in rows])


def _counts(row: dict[str, Any]) -> list[str]:
    return [f"{row[name]:,}" for name in ("resolution", "macs", "params", "activations")]


def convert(
    source: Annotated[str, typer.Argument(help="Whose network it is: LIBRARY/NAME.")],
    weights: Annotated[Path, typer.Argument(help="A state dict: .safetensors, .pth or .pt.")],
    target: Annotated[
        Path, typer.Option("--out", help="The folder (with --back: the file) to write.")
    ],
    back: Annotated[
        bool, typer.Option("--back", help="From phiscale's weights to the library's.")
    ] = False,
) -> None:
    """Weights of torchvision and timm as a network of phiscale's, and back."""
    from space.weights import export_weights, import_weights

    if back:
        export_weights(source, weights, target)
    else:
        import_weights(source, weights, target)
    wrote(target)


def list_spaces(as_json: AsJson = False) -> None:
    """The shipped search spaces."""
    spaces = [choices.load(name) for name in choices.names()]
    rows = [
        {"name": each.name, "size": each.size, "description": each.description} for each in spaces
    ]
    if as_json:
        print_json(rows)
        return
    cells = [[each.name, f"{each.size:.1e}", each.description] for each in spaces]
    print_rows(("space", "combinations", "what it is"), cells, numeric=(1,))


def list_recipes(as_json: AsJson = False) -> None:
    """The shipped recipes, of runs and of scaling studies."""
    recipes = [config.load(name) for name in config.names()]
    studies = [config.load_as(StudyRecipe, name) for name in config.study_names()]
    rows = [{"name": each.name, "description": each.description} for each in (*recipes, *studies)]
    if as_json:
        print_json(rows)
        return
    print_rows(("recipe", "what it is"), [list(row.values()) for row in rows], numeric=())
