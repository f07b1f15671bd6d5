"""The commands that list what is shipped: presets, spaces, recipes."""

from __future__ import annotations

from typing import Any

from experiments import config
from experiments.commands.shared_options import AsJson
from experiments.commands.terminal import print_json, print_rows
from experiments.studies.recipes import StudyRecipe
from space import choices, presets
from space.cost import Cost, cost


def list_presets(as_json: AsJson = False) -> None:
    """List published networks and their cost."""
    rows: list[dict[str, Any]] = []
    for name in presets.names():
        network = presets.load(name)
        rows.append({"name": name, "resolution": network.resolution, **cost(network)._asdict()})
    if as_json:
        print_json(rows)
        return
    headers = ("preset", "resolution", "MACs (multiply–adds)", "parameters", "activations")
    counts = ("resolution", *Cost._fields)
    print_rows(headers, [[row["name"], *(f"{row[name]:,}" for name in counts)] for row in rows])


def list_spaces(as_json: AsJson = False) -> None:
    """List the shipped search spaces."""
    spaces = [choices.load(name) for name in choices.names()]
    rows = [
        {"name": each.name, "size": each.size, "description": each.description} for each in spaces
    ]
    if as_json:
        print_json(rows)
        return
    cells = [[each.name, f"{each.size:.1e}", each.description] for each in spaces]
    print_rows(("space", "combinations", "description"), cells, numeric=(1,))


def list_recipes(as_json: AsJson = False) -> None:
    """List the shipped recipes of runs and of scaling studies."""
    recipes = [config.load(name) for name in config.names()]
    studies = [config.load_as(StudyRecipe, name) for name in config.study_names()]
    rows = [{"name": each.name, "description": each.description} for each in (*recipes, *studies)]
    if as_json:
        print_json(rows)
        return
    print_rows(("recipe", "description"), [list(row.values()) for row in rows], numeric=())
