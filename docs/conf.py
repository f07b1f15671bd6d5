"""How the documentation is built: `make docs`; warnings are errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE.parent), str(_HERE)]

project = "phiscale"
author = "the phiscale authors"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "reference/measured"]
default_role = "code"
html_theme = "furo"
html_title = "phiscale"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["formulas.css"]
html_math_renderer = "mathml"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True


def setup(app: Sphinx) -> None:
    """Renders formulas without JavaScript, and generates pages from code and results."""
    import generate
    import measured

    app.add_html_math_renderer("mathml", (_formula("inline"), None), (_formula("block"), None))
    app.connect("builder-inited", lambda _: generate.write(_HERE / "reference"))
    app.connect("builder-inited", lambda _: measured.write(_HERE / "reference" / "measured"))


def _formula(display: Literal["inline", "block"]) -> Callable[[HTML5Translator, nodes.Node], None]:
    def visit(page: HTML5Translator, node: nodes.Node) -> None:
        page.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit
