"""Where a result comes from: the command, the folder it ran in, and the git commit of the checkout."""

import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from plumbline.rooms import CHECKOUT, ROOMS

INTERACTIVE = "interactive Python"
"""In place of a command, of a run that no command or script started."""

_GIT_SECONDS = 10.0
# What others read of a start.
_READ = {"time", "command", "folder", "commit", "dirty"}
# What a result depends on; other files of a checkout may change.
_CODE = ("plumbline", *ROOMS, "pyproject.toml", "constraints.txt")


def parse(text: str) -> dict[str, Any]:
    """Reads what `add_start` returned, from JSON.

    Raises:
      ValueError: it is damaged.
    """
    record = json.loads(text)
    starts = record.get("starts") if isinstance(record, dict) else None
    if not isinstance(starts, list) or not all(_is_start(start) for start in starts):
        raise ValueError("no record of starts")
    return record


def add_start(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Adds this process to what a run directory records of its starts.

    Args:
      recorded: the content of its file so far, which may be empty.

    Returns:
      `{"starts": [{"time" (Unix, s), "command", "folder", "commit", "dirty", "git"}, ...]}`. `dirty` says whether code
      differs from the commit or is not in it. Without a commit, `commit` and `dirty` are None, and `git` gives the
      reason.
    """
    now, folder = round(time.time(), 3), str(pathlib.Path.cwd())
    start = {"time": now, "command": command_line(), "folder": folder, **_git_state()}
    return {"starts": [*recorded.get("starts", ()), start]}


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command that started this process, quoted for a shell: `plumbline train ...` for Plumbline's own commands.

    Args:
      arguments: as in `sys.argv`, which is the default.
    """
    program, *words = sys.argv if arguments is None else arguments
    path = pathlib.Path(program)
    if path.is_absolute() and path.parent == CHECKOUT / "experiments":
        return shlex.join(["plumbline", path.stem, *words])
    if program in ("", "-c") or "ipykernel" in program:
        return INTERACTIVE
    return shlex.join(["python", program, *words])


def _is_start(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= _READ and isinstance(value["time"], int | float)


def _git_state() -> dict[str, Any]:
    """`commit`, `dirty` and `git` of the checkout."""
    nothing = {"commit": None, "dirty": None}
    try:
        top, commit = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        if pathlib.Path(top).resolve() != CHECKOUT:
            return {**nothing, "git": f"{CHECKOUT} is not a git checkout"}
        changed = _git("status", "--porcelain", "--untracked-files=all", "--", *_CODE)
    except FileNotFoundError:
        return {**nothing, "git": "git is not installed"}
    except subprocess.CalledProcessError as error:
        return {**nothing, "git": " ".join(error.stderr.split())}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {**nothing, "git": " ".join(str(error).split())}
    return {"commit": commit, "dirty": bool(changed.strip()), "git": ""}


def _git(*words: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    # What a hook or `git rebase --exec` sets names another repository.
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    finished = subprocess.run(
        ["git", "-C", str(CHECKOUT), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    return finished.stdout
