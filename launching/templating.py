"""Renders the job files in `templates/`."""

import functools
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import jinja2

from launching.job import WRITTEN_BY, Job


def render(template: str, job: Job, submission: Sequence[str], **values: Any) -> str:
    """Renders a job file.

    Args:
      template: name of a file in `templates/`.
      job: the job.
      submission: words of the command that submits the file, for its header.
      values: of the other variables; a missing one is an error. Values that a shell reads are quoted in the template.

    Returns:
      The text of the file.
    """
    header = {"title": job.title(), "written_by": WRITTEN_BY, "submission": shlex.join(submission)}
    return _environment().get_template(template).render(job=job, **header, **values)


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
