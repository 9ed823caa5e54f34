"""The directory of one worker of a search: what it searches, its name among the workers, and what it found."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from plumbline import UserError
from plumbline.files import remove_unfinished, write_text
from trainers.run.directory import RunDirectory

_ABOUT = "sweep.json"
# What a search leaves besides; `sweep.json` is deleted last, as it says that the others may be.
_FILES = (
    "summary.json",
    "trials.csv",
    "best_config.py",
    "history.png",
    "slices.png",
    "importances.png",
    "pareto.png",
    "population.npz",
    "journal.log",
    "journal.log.lock",
    "journal.log.workers",
)


class SweepDirectory:
    """One worker's files.

    Attributes:
      path: of the directory.
      worker: a name that no other worker has; the same at each start.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads and writes nothing yet."""
        self._run = RunDirectory(path)
        self.path = self._run.path
        self.worker = ""

    @contextmanager
    def held(self, settings: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Makes the directory, or checks that it holds the same search, and keeps other processes out of it.

        Args:
          settings: what makes the search what it is, as JSON values.
          overwrite: delete what another search left here.

        Raises:
          UserError: it cannot be written, another process is in it, or it holds something else.
        """
        with self._run.held():
            for name in (*_FILES, _ABOUT):
                remove_unfinished(self.path / name)
            if overwrite:
                self._clear()
            about = self._about()
            if about is None:
                if any(entry.name[0] != "." for entry in self.path.iterdir()):
                    raise UserError(
                        f"--workdir: '{self.path}' holds files but no search; choose an empty or a new folder"
                    )
                about = {"worker": uuid.uuid4().hex, "settings": settings}
                write_text(self.path / _ABOUT, json.dumps(about, indent=2) + "\n")
            check_same(about["settings"], settings, f"--workdir: '{self.path}'", "another --workdir, or --overwrite")
            self.worker = about["worker"]
            yield

    def _about(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise UserError(f"--workdir: {self.path / _ABOUT} is damaged ({error}); --overwrite begins anew") from None

    def _clear(self) -> None:
        if not (self.path / _ABOUT).exists():
            return
        for name in (*_FILES, _ABOUT):
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def check_same(there: Mapping[str, Any], here: Mapping[str, Any], where: str, remedy: str) -> None:
    """Checks that two searches are the same.

    Args:
      there: settings that are kept, as JSON values.
      here: those of this start.
      where: they are kept, for the message.
      remedy: what to give, for the message.

    Raises:
      UserError: they differ; it says in what.
    """
    differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if not differing:
        return
    if "space" in differing:
        raise UserError(f"{where} holds a search of another space ({_first_difference(there, here)}); give {remedy}")
    shown = ", ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differing[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise UserError(f"{where} holds another search ({shown}{more}); give {remedy}")


def _first_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    one, other = json.loads(there.get("space", "{}")), json.loads(here.get("space", "{}"))
    path = min(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    if path not in other:
        return f"'{path}' is only there"
    return f"'{path}' is only here" if path not in one else f"'{path}' has other values there"
