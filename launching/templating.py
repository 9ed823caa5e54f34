"""Renders the job files in `templates/`."""

import functools
import pathlib
import shlex
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """Renders a job file.

    Args:
      template: name of a file in `templates/`.
      values: of its variables; a missing one is an error. Values that a shell reads are quoted in the template.

    Returns:
      The text of the file.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quote": shlex.quote, "join_quoted": shlex.join}
    return environment
