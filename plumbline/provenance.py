"""Where a result comes from: the version, the command, the folder it ran in, and the git commit of the checkout."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from plumbline import UserError, __version__
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


def add_start(recorded: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Adds this process to what a run directory records of its starts.

    Args:
      recorded: the content of its file so far, which may be empty.
      **more: other facts about this start, as JSON values.

    Returns:
      `{"starts": [{"time" (Unix, s), "version", "command", "folder", "commit", "dirty", "git"}, ...]}`. `version` is
      Plumbline's. `dirty` says whether code differs from the commit or is not in it. Without a commit, `commit` and
      `dirty` are None, and `git` gives the reason.
    """
    now, folder = round(time.time(), 3), str(pathlib.Path.cwd())
    start = {"time": now, "version": __version__, "command": command_line(), "folder": folder, **_git_state(), **more}
    return {"starts": [*recorded.get("starts", ()), start]}


def describe_writer(recorded: Mapping[str, Any]) -> str:
    """The version that a directory was last written with: "Plumbline 0.2.0 (commit 1f3a...)".

    Args:
      recorded: the content of its file, which may be empty: the first versions recorded nothing.
    """
    last = _last_start(recorded)
    commit = last.get("commit")
    return f"Plumbline {last.get('version') or '0.1.0'}{f' (commit {commit})' if commit else ''}"


def is_newer(recorded: Mapping[str, Any]) -> bool:
    """Whether a directory was last written with a newer version; `recorded` is the content of its file."""
    version = _last_start(recorded).get("version")
    return isinstance(version, str) and _numbers(version) > _numbers(__version__)


def check_version(recorded: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Checks that a directory was not last written with a newer version, whose files may have another meaning.

    Args:
      recorded: the content of its file.
      path: of the directory.

    Raises:
      UserError: it was; the message names the version.
    """
    if is_newer(recorded):
        raise UserError(
            f"--workdir: '{path}' was written with {describe_writer(recorded)}, which is newer than {__version__} "
            "here; use that version for it"
        )


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


def _last_start(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    starts = recorded.get("starts") if isinstance(recorded, Mapping) else None
    last = starts[-1] if isinstance(starts, list) and starts else None
    return last if isinstance(last, Mapping) else {}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


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
