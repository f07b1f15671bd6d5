"""Pages of one file: templates with the style, the script and the data inside.

A page needs nothing but itself, and its content-security policy admits exactly its own style and
script by their hashes, so a name that slipped through escaping would still not run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from reports import formatting

if TYPE_CHECKING:
    from jinja2 import Environment


def page(template: str, **values: Any) -> str:
    """The page that `template` makes of `values`; `data` among them is what the script draws."""
    style, script = _file("report.css"), _script()
    return (
        _environment()
        .get_template(template)
        .render(
            values,
            version=metadata.version("phiscale"),
            policy=_policy(style, script),
            style=_safe(style),
            script=_safe(script),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def finalize(found: Any) -> Any:
        return formatting.printable(found) if type(found) is str else found

    environment = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        formatting.count,
        formatting.percent,
        formatting.half_width,
        formatting.duration,
    ):
        environment.globals[function.__name__] = function
    return environment


def _script() -> str:
    """The page's script: its files as one function, so that none of their names is global."""
    parts = "\n".join(_file(f"{name}.js") for name in ("chart", "network", "report"))
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _file(name: str) -> str:
    return (resources.files("reports") / "templates" / name).read_text("utf-8")


def _safe(own: str) -> Any:
    """A file of ours, to stand in the page as it is."""
    from markupsafe import Markup

    return Markup(own)


def _policy(style: str, script: str) -> str:
    """Loads nothing from elsewhere: only this style, this script and pictures in the page."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
