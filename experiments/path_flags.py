"""Flags that take a path."""

import os
import pathlib
from collections.abc import Sequence

from absl import flags

from plumbline import UserError
from plumbline.files import describe_missing, expand_home


class _PathParser(flags.ArgumentParser[str]):
    """Takes any text, and replaces `~` at its beginning: a shell leaves it as it is in `--workdir=~/runs`."""

    def parse(self, argument: str) -> str:
        return expand_home(argument)


def define_path(name: str, default: str | None, description: str) -> flags.FlagHolder:
    """Defines a flag that takes a path; arguments as those of `flags.DEFINE_string`."""
    return flags.DEFINE(_PathParser(), name, default, description)


def define_paths(name: str, description: str) -> flags.FlagHolder:
    """Defines a flag that takes a path and may be given several times."""
    return flags.DEFINE_multi(_PathParser(), flags.ArgumentSerializer(), name, [], description)


def check_output(path: str | None, endings: Sequence[str] = ()) -> None:
    """Checks, before the work, that --output can be written; None is no output.

    Args:
      path: of the file.
      endings: that its name may have, the usual one first; () allows all.

    Raises:
      UserError: it is a folder or lies in none, the folder cannot be written, or the name has another ending.
    """
    if path is None:
        return
    file = pathlib.Path(path)
    if file.is_dir() or path.endswith(os.sep) or not path:
        raise UserError(f"--output: '{path}' is a folder; name a file")
    if endings and file.suffix.lower() not in endings:
        raise UserError(f"--output: '{path}' does not end in {endings[0]}, the form that is written; change the name")
    nearest = next(folder for folder in file.absolute().parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise UserError(f"--output: {describe_missing(nearest)}; name a file in another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--output: cannot write in '{nearest}'; name a file in another folder")
