"""The command line: `phiscale COMMAND`; every command has `--help`.

Results go to standard output, progress and errors to standard error. Exit status: 0 done, 1 failed,
2 wrong use or bad input, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from experiments import config
from experiments.run import open_run
from space import choices, presets
from space.architecture import Architecture
from space.cost import cost as cost_of
from space.cost import parts
from space.explain import explain as explained
from space.explain import operations
from space.memory import peak_memory
from space.validation import InvalidInput

app = typer.Typer(
    name="phiscale",
    help="Designs a family of convolutional networks for your data and compute budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_out = Console()
_err = Console(stderr=True)

Target = Annotated[str, typer.Argument(help="A run's folder, a recipe's name, or a YAML file.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder (default: runs/NAME).")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in search.trials=20."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def main() -> None:
    """The entry point: a user's mistake is a sentence and status 2, never a traceback."""
    # Before torch is loaded: how long its threads spin while they wait for each other, then sleep.
    # Two threads on two idle cores lose 7 % by it; beside other work a step took 0.12 s instead of
    # 0.61 s, which libgomp's own 300,000 costs (measured, 1.5M MACs, 64 images).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except InvalidInput as error:
        _complain(str(error))
        sys.exit(2)


# ---------------------------------------------------------------------------------------- stages


@app.command(epilog="Example: phiscale run demo --set search.trials=20")
def run(recipe: Target, out: Out = None, set_: Set = None, as_json: AsJson = False) -> None:
    """Search, coefficients, family, report; run again, it continues where it stopped."""
    _stages(recipe, out, set_, as_json, ("search", "coefficients", "family", "report"))


@app.command(epilog="Example: phiscale search cifar10 --out runs/mine")
def search(run: Target, out: Out = None, set_: Set = None, as_json: AsJson = False) -> None:
    """Stage 1: find the baseline."""
    _stages(run, out, set_, as_json, ("search",))


@app.command(epilog="Example: phiscale coefficients runs/demo")
def coefficients(run: Target, out: Out = None, set_: Set = None, as_json: AsJson = False) -> None:
    """Stage 2: find α (depth), β (width) and γ (resolution) around the baseline."""
    _stages(run, out, set_, as_json, ("coefficients",))


@app.command(epilog="Example: phiscale family runs/demo --set 'family.phi=[0, 1, 2]'")
def family(run: Target, out: Out = None, set_: Set = None, as_json: AsJson = False) -> None:
    """Stage 3: scale the baseline, train the members on all images, test, export."""
    _stages(run, out, set_, as_json, ("family",))


@app.command(epilog="Example: phiscale report runs/demo")
def report(run: Target, out: Out = None, set_: Set = None, as_json: AsJson = False) -> None:
    """Stage 4: the page, the figures and the tables of a run, finished or not."""
    _stages(run, out, set_, as_json, ("report",))


def _stages(
    target: str, out: Path | None, overrides: list[str] | None, as_json: bool, names: Iterable[str]
) -> None:
    opened = open_run(target, out, tuple(overrides or ()))
    import optuna

    from experiments import stages  # torch: not needed to find fault with a recipe

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    resume = f"every finished training is kept; continue with: {_command(opened.folder)}"
    try:
        found = stages.run(opened, names)
    except KeyboardInterrupt:
        _complain(f"interrupted; {resume}")
        raise typer.Exit(130) from None
    except stages.FAILURES as failure:
        _complain(f"{failure}; {resume}")
        raise typer.Exit(1) from None
    if as_json:
        _print_json(found)
    else:
        _show(found)


def _command(folder: Path) -> str:
    near = folder.is_relative_to(Path.cwd())
    return shlex.join(["phiscale", "run", str(folder.relative_to(Path.cwd()) if near else folder)])


def _complain(message: str) -> None:
    _err.print(f"phiscale: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def _show(found: dict[str, Any]) -> None:
    """The results of a run for people: baseline, coefficients, family, where the report is."""
    if baseline := found.get("search"):
        _out.print(
            f"baseline      {_macs(baseline['cost']['macs'])} MACs, "
            f"{baseline['cost']['params'] / 1e6:.2f}M parameters, "
            f"held-out accuracy {baseline['accuracy']:.1%}",
            highlight=False,
        )
    if grid := found.get("coefficients"):
        accuracy = f", accuracy {grid['accuracy']:.1%}" if grid["accuracy"] is not None else ""
        _out.print(
            f"coefficients  α {grid['alpha']:g} (depth)  β {grid['beta']:g} (width)  "
            f"γ {grid['gamma']:g} (resolution): nominal {grid['nominal_product']:.2f}, "
            f"realised {grid['realised_ratio']:.2f} × the baseline's MACs{accuracy}",
            highlight=False,
        )
    if grown := found.get("family"):
        table = Table("member", "φ", "resolution", "MACs", "parameters", "test accuracy", box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for member in grown["members"]:
            table.add_row(
                member["name"],
                f"{member['phi']:g}",
                f"{member['resolution']} px",
                _macs(member["cost"]["macs"]),
                f"{member['cost']['params'] / 1e6:.2f}M",
                f"{member['accuracy']:.1%}",
            )
        _out.print(table)
    if page := found.get("report"):
        _out.print(f"report        {page}", highlight=False, soft_wrap=True)


def _macs(macs: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if macs >= size:
            return f"{macs / size:.3g}{unit}"
    return str(macs)


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


# ----------------------------------------------------------------------- networks, spaces, recipes


@app.command(epilog="Example: phiscale cost efficientnet_b0 --resolution 288 --json")
def cost(
    architecture: Annotated[str, typer.Argument(help="A preset's name, or an architecture.json.")],
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
        _print_json(data)
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
    _print_rows(headers, rows)
    _out.print(
        f"at {pixels} pixels; peak activation memory of one float32 image: "
        f"{memory.inference / 1e6:.1f} MB at inference, {memory.training / 1e6:.1f} MB in training",
        highlight=False,
    )


def _print_explanation(network: Architecture, pixels: int) -> None:
    rows = [
        [count.tool, f"{count.total:,}", count.formula, count.because]
        for count in explained(network, pixels)
    ]
    _print_rows(("tool", "total", "formula", "because"), rows, numeric=(1,))
    _out.print("\nwhat there is to count:", highlight=False)
    kinds = operations(network, pixels)._asdict().items()
    _print_rows(("kind", "operations"), [[name.replace("_", " "), f"{n:,}"] for name, n in kinds])


def load_architecture(name_or_file: str) -> Architecture:
    """A preset by name, or the architecture in a JSON file."""
    if not name_or_file.endswith(".json"):
        return presets.load(name_or_file)
    path = Path(name_or_file)
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: cannot be read as JSON ({error})") from None
    return Architecture.from_dict(data, source=str(path))


@app.command(name="presets", epilog="Example: phiscale presets --json")
def list_presets(as_json: AsJson = False) -> None:
    """The published networks, with their cost."""
    rows = []
    for name in presets.names():
        network = presets.load(name)
        rows.append({"name": name, "resolution": network.resolution, **cost_of(network)._asdict()})
    if as_json:
        _print_json(rows)
        return
    headers = ("preset", "resolution", "MACs (multiply–adds)", "parameters", "activations")
    _print_rows(headers, [[str(row["name"]), *_counts(row)] for row in rows])


def _counts(row: dict[str, Any]) -> list[str]:
    return [f"{row[name]:,}" for name in ("resolution", "macs", "params", "activations")]


@app.command(epilog="Example: phiscale convert timm/efficientnet_b0 weights.pth --out b0")
def convert(
    source: Annotated[str, typer.Argument(help="Whose network it is: LIBRARY/NAME.")],
    weights: Annotated[Path, typer.Argument(help="A state dict: .safetensors, .pth or .pt.")],
    out: Annotated[Path, typer.Option(help="The folder (with --back: the file) to write.")],
    back: Annotated[
        bool, typer.Option("--back", help="From phiscale's weights to the library's.")
    ] = False,
) -> None:
    """Weights of torchvision and timm as a network of phiscale's, and back."""
    from space.weights import export_weights, import_weights

    if back:
        export_weights(source, weights, out)
    else:
        import_weights(source, weights, out)
    _out.print(f"wrote {out}", highlight=False, soft_wrap=True)


@app.command(name="spaces", epilog="Example: phiscale spaces")
def list_spaces(as_json: AsJson = False) -> None:
    """The shipped search spaces."""
    spaces = [choices.load(name) for name in choices.names()]
    rows = [
        {"name": each.name, "size": each.size, "description": each.description} for each in spaces
    ]
    if as_json:
        _print_json(rows)
        return
    cells = [[each.name, f"{each.size:.1e}", each.description] for each in spaces]
    _print_rows(("space", "combinations", "what it is"), cells, numeric=(1,))


@app.command(name="recipes", epilog="Example: phiscale recipes")
def list_recipes(as_json: AsJson = False) -> None:
    """The shipped recipes."""
    rows = [{"name": n, "description": config.load(n).description} for n in config.names()]
    if as_json:
        _print_json(rows)
        return
    _print_rows(("recipe", "what it is"), [list(row.values()) for row in rows], numeric=())


def _print_rows(
    headers: tuple[str, ...], rows: list[list[str]], numeric: tuple[int, ...] | None = None
) -> None:
    table = Table(*headers, box=None)
    for index in range(1, len(headers)) if numeric is None else numeric:
        table.columns[index].justify = "right"
    for row in rows:
        table.add_row(*row)
    _out.print(table, highlight=False)


@app.command(epilog="Example: phiscale doctor")
def doctor(as_json: AsJson = False) -> None:
    """What this machine offers: versions, processor, GPUs."""
    from experiments.run import environment

    facts = environment()
    if as_json:
        _print_json(facts)
        return
    _print_rows(("fact", "value"), [[name, value] for name, value in facts.items()], numeric=())
