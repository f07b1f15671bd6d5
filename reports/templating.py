"""HTML pages of one file: Jinja templates with the style, the script and the data inside.

The content-security policy of a page admits exactly its own style and script, by their hashes, so
a name that slipped through escaping would still not run.
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
    """Renders `template` with `values`; the one named `data` is what the page's script draws."""
    from markupsafe import Markup

    style, script = _file("report.css"), _script()
    # Nothing is loaded from elsewhere: only this style, this script and pictures in the page.
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            values,
            version=metadata.version("phiscale"),
            policy=policy,
            style=Markup(style),
            script=Markup(script),
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
    environment.filters["base64"] = _base64
    for name in ("count", "percent", "half_width", "duration", "plural"):
        environment.globals[name] = getattr(formatting, name)
    return environment


def _script() -> str:
    """The page's script: its files in one function, so that their names are not global."""
    parts = "\n".join(_file(f"{name}.js") for name in ("chart", "network", "report"))
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _file(name: str) -> str:
    return (resources.files("reports") / "templates" / name).read_text("utf-8")


def _hash(content: str) -> str:
    return "sha256-" + _base64(hashlib.sha256(content.encode()).digest())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
