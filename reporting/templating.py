"""Renders the HTML templates in `templates/`.

Every value is escaped and its control characters are replaced, wherever it comes from. Only templates make markup: no
code passes `Markup` to them.
"""

import base64
import functools
import pathlib
from typing import Any

import jinja2
from markupsafe import Markup, escape

from reporting import formatting

# Longer cells of a table may be wrapped.
_SHORT = 24


def render(template: str, **values: Any) -> str:
    """Renders a page.

    Args:
      template: name of a file in `templates/`.
      values: of its variables; a missing one is an error.

    Returns:
      The HTML.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "anchor": lambda name: name.replace(" ", "-"),
        "interval": formatting.format_interval,
        "value": formatting.format_value,
        "png_uri": lambda png: f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}",
        "title_case": formatting.format_title,
        "with_lines": lambda text: escape(formatting.plain(text, lines=True)),
    }
    environment.tests["short"] = lambda text: len(text) <= _SHORT
    return environment


def _clean(value: Any) -> Any:
    """Replaces control characters; Jinja escapes the result, except for the output of macros."""
    return value if isinstance(value, Markup | jinja2.Undefined) else formatting.plain(str(value))
