"""Generates the reference pages of commands and recipe keys from the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from experiments import cli
from experiments.config import Recipe
from space.files import write_file


def write(folder: Path) -> None:
    """Writes `commands.md` and `recipe.md` into `folder`."""
    folder.mkdir(exist_ok=True)
    write_file(folder / "commands.md", _commands())
    write_file(folder / "recipe.md", "\n".join(_recipe()) + "\n")


def _commands() -> str:
    app = typer.main.get_command(cli.app)
    pages = get_docs_for_click(obj=app, ctx=typer.Context(app), name="phiscale")
    pages = re.sub(r"^Example: (.*)$", r"```sh\n\1\n```", pages, flags=re.MULTILINE)
    return pages.replace("# `phiscale`", f"# Commands\n\n{cli.__doc__}", 1)


def _recipe() -> Iterator[str]:
    yield "# Recipe\n"
    yield (
        "A recipe is one YAML file. Keys with a default are optional. Override a key on the "
        "command line with `--set section.key=value`. Counts can be written `40M`.\n"
    )
    yield from _section(Recipe, "")


def _section(model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield f"## {prefix.removesuffix('.') or 'The run'}\n\n{_paragraph(model.__doc__)}\n"
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        section = _model_of(field.annotation)
        if section:
            inner.append((section, f"{prefix}{name}."))
        else:
            yield f"`{prefix}{name}`{_default(field)}"
            yield f": {_paragraph(field.description)}{_choices(field)}\n"
    for section, path in inner:
        yield from _section(section, path)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, optional or not."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    default = field.get_default(call_default_factory=True)
    shown = json.dumps(default).strip('"')
    return "" if default in (None, "") else f" = `{shown}`"


def _choices(field: FieldInfo) -> str:
    """The values of a key that takes one of several."""
    values = [
        value
        for kind in (field.annotation, *get_args(field.annotation))
        if get_origin(kind) is Literal
        for value in get_args(kind)
    ]
    return f" One of {', '.join(f'`{value}`' for value in values)}." if values else ""


def _paragraph(text: str | None) -> str:
    """A docstring as one paragraph of Markdown."""
    return re.sub(r"\s+", " ", text or "").strip()
