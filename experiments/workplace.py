"""The working directory of a command that trains a population."""

import contextlib
import json
import math
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments import command
from plumbline import UserError
from plumbline.files import write_text

# What a population saves itself in.
_POPULATION = "population.npz"


def stoppable() -> None:
    """Lets SIGTERM end the process at once where nothing is under way that would have to be saved.

    Trainings listen for themselves; an exception could get lost in what is being imported.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(command.PREEMPTED))


@contextlib.contextmanager
def held(workdir: str, *, overwrite: bool) -> Iterator[pathlib.Path]:
    """Keeps a directory, new or that of an earlier start of such a command, to this process.

    Args:
      workdir: the directory.
      overwrite: forget the trainings of earlier starts.

    Raises:
      UserError: it cannot be written, another process is at work in it, or it holds something else.
    """
    from trainers.run_directory import RunDirectory

    directory = RunDirectory(workdir)
    with directory.held():
        if (directory.path / "sweep.json").exists():
            raise UserError(f"--workdir: '{directory.path}' holds a search; choose an empty or a new folder")
        known = (directory.path / _POPULATION).exists()
        if not known and any(entry.name[0] != "." for entry in directory.path.iterdir()):
            raise UserError(
                f"--workdir: '{directory.path}' holds files of something else; choose an empty or a new folder"
            )
        if overwrite:
            (directory.path / _POPULATION).unlink(missing_ok=True)
        yield directory.path


def write_json(path: str | os.PathLike, value: Mapping[str, Any]) -> None:
    """Writes figures; those that are not finite become null."""
    write_text(path, json.dumps(_finite(value), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
