"""Writing a job file and handing it over."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from launching.job import WRITTEN_BY, Launcher
from plumbline import UserError
from plumbline.files import write_text


def write_job_file(path: pathlib.Path, text: str) -> None:
    """Writes a job file; one that was written by this command before is replaced.

    Raises:
      UserError: something else is there, or the place cannot be written to.
    """
    try:
        if path.exists() and WRITTEN_BY not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"--output: '{path}' is there and is no job file of this command; choose another")
        write_text(path, text)
    except OSError as error:
        raise UserError(f"--output: cannot write '{path}': {error.strerror}; choose another") from None


def check_on_path(launcher: Launcher) -> None:
    """Checks that the launcher's program is there.

    Raises:
      UserError: it is not on the path; says how to get it.
    """
    if shutil.which(launcher.tool) is None:
        raise UserError(f"--submit: no '{launcher.tool}' on the path; {launcher.install}")


def submit(words: Sequence[str], tool: str) -> int:
    """Hands a job file over, and returns the tool's exit code; one that is not 0 is told with its last line.

    Args:
      words: what is run; it may ask its questions.
      tool: what it is called in the message.
    """
    last = ""
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
    if process.returncode:
        print(f"error: {tool} ended with exit code {process.returncode}{last and f': {last}'}", file=sys.stderr)
    return process.returncode
