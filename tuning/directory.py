"""The directory of one worker of a search: the settings of the search, the name of the worker and its files."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from plumbline import UserError
from plumbline.files import remove_unfinished, write_text
from trainers.run.directory import RunDirectory
from trainers.settings import FIELDS

_ABOUT = "sweep.json"
# The state of a search.
_STATE = ("population.npz", "journal.log", "journal.log.lock", "journal.log.workers")


class SweepDirectory:
    """The files of one worker.

    Attributes:
      path: the directory.
      worker: a name that no other worker has, and that stays the same when the worker is restarted; "" until `lock`.
    """

    def __init__(self, path: str | os.PathLike, results: Sequence[str] = ()):
        """Reads and writes nothing yet.

        Args:
          path: the directory.
          results: names of the result files, which overwriting deletes.
        """
        self._run = RunDirectory(path)
        self.path = self._run.path
        self.worker = ""
        # `sweep.json` is deleted last: it marks the directory as one whose files may be deleted.
        self._files = (*results, *_STATE, _ABOUT)

    @contextmanager
    def lock(self, settings: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Creates the directory, or checks that it holds the same search, and locks it for this process.

        Args:
          settings: of the search, as JSON values.
          overwrite: delete the files of another search.

        Raises:
          UserError: the directory cannot be written, is locked by another process, or holds something else.
        """
        with self._run.hold():
            for name in self._files:
                remove_unfinished(self.path / name)
            if overwrite:
                self._clear()
            about = self._read_about()
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

    def _read_about(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise UserError(
                f"--workdir: {self.path / _ABOUT} is damaged ({error}); --overwrite starts the search again"
            ) from None

    def _clear(self) -> None:
        if not (self.path / _ABOUT).exists():
            return
        for name in self._files:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def check_same(there: Mapping[str, Any], here: Mapping[str, Any], where: str, remedy: str) -> None:
    """Checks that two searches are the same.

    Args:
      there: stored settings, as JSON values. Config fields that were added since then have their defaults.
      here: settings of this start.
      where: where the settings are stored, for the message.
      remedy: which flags to give, for the message.

    Raises:
      UserError: the settings differ; the message names the differences.
    """
    there = {**_added_defaults(there, here), **{name: there[name] for name in there if not _may_change(name)}}
    differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if not differing:
        return
    if "space" in differing:
        raise UserError(f"{where} holds a search over another space ({_first_difference(there, here)}); give {remedy}")
    shown = ", ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} here" for name in differing[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    raise UserError(f"{where} holds another search ({shown}{more}); give {remedy}")


def _may_change(name: str) -> bool:
    """Whether a setting is a config field that may change; a search of an earlier version has stored it."""
    path = name.removeprefix("config.")
    return path in FIELDS and FIELDS[path].may_change


def _added_defaults(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the config fields that are only in the settings of this start, as JSON values."""
    names = (name for name in here if name not in there and name.removeprefix("config.") in FIELDS)
    return {name: json.loads(json.dumps(FIELDS[name.removeprefix("config.")].default)) for name in names}


def _first_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    one, other = json.loads(there.get("space", "{}")), json.loads(here.get("space", "{}"))
    path = min(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    if path not in other:
        return f"'{path}' is only there"
    return f"'{path}' is only here" if path not in one else f"'{path}' has other values there"
