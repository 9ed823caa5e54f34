"""Writes and submits job files."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from launching.job import WRITTEN_BY, Launcher
from plumbline import UserError
from plumbline.files import write_text


def write_job_file(path: pathlib.Path, text: str, *, overwrite: bool = False) -> None:
    """Writes a job file. One that is there may have been edited, and is replaced on request only.

    Args:
      path: of the file.
      text: of it.
      overwrite: replace an earlier job file with another content.

    Raises:
      UserError: the path holds another file, or cannot be written.
    """
    try:
        there = path.read_text(encoding="utf-8", errors="replace") if path.exists() else text
        if WRITTEN_BY not in there:
            raise UserError(f"--output: '{path}' exists and is not a job file of this command; choose another")
        if there != text and not overwrite:
            raise UserError(f"--output: '{path}' exists and differs; --overwrite replaces it, or name another file")
        write_text(path, text)
    except OSError as error:
        raise UserError(f"--output: cannot write '{path}': {error.strerror}; choose another") from None


def check_on_path(launcher: Launcher) -> None:
    """Checks that the program of the launcher is on the path.

    Raises:
      UserError: it is not; the message says how to install it.
    """
    if shutil.which(launcher.tool) is None:
        raise UserError(f"--submit: no '{launcher.tool}' on the path; {launcher.install}")


def submit(words: Sequence[str], tool: str) -> int:
    """Submits a job file, and prints the last line of the tool's errors if it fails.

    Args:
      words: the command; it may ask questions.
      tool: its name, for the message.

    Returns:
      The exit code of the tool.
    """
    last = ""
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
    if process.returncode:
        print(f"error: {tool} ended with exit code {process.returncode}{last and f': {last}'}", file=sys.stderr)
    return process.returncode
