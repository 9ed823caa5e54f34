"""The output directory of a command that trains a population: which command owns it, and what its results answer."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from plumbline import Preempted, UserError, exit_codes, provenance
from plumbline.files import remove_unfinished, write_json

# The file in which a population saves its state, and the file that records the owner of the directory.
_POPULATION, _ABOUT = "population.npz", "population.json"
# Differences named in a message.
_SHOWN = 3


def exit_on_sigterm() -> None:
    """Makes SIGTERM end the process at once, for phases in which there is nothing to save.

    Trainings install handlers of their own. An exception raised from the handler could be lost inside an import.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(exit_codes.PREEMPTED))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a command is asked to compute, as far as another request would replace its results.

    Attributes:
      command: name of the command, such as "crossvalidate".
      settings: settings by name, as JSON values. A later request must repeat all settings of the one before; it may
        add others.
      seeds: trainings of each variant. A later request may not lower it.
      results: names of the result files.
    """

    command: str
    settings: Mapping[str, str | int]
    seeds: int
    results: tuple[str, ...]


class OutputDirectory:
    """A directory owned by one command. `population.json` records the owner and the request behind the results.

    Attributes:
      path: the directory.
    """

    def __init__(self, path: pathlib.Path, request: Request, *, overwrite: bool):
        """Checks that the directory is new, or belongs to the same command and request.

        Changes nothing except that it removes files that a killed process left half written.

        Raises:
          UserError: the directory holds something else, or results that would be lost.
        """
        self.path, self._request, self._overwrite = path, request, overwrite
        self._starts: list[dict[str, Any]] = []
        self._recorded = self._check()
        for name in (_ABOUT, *request.results):
            remove_unfinished(path / name)

    def claim(self) -> None:
        """Records the owner, its command line and git commit, and with `overwrite` deletes the earlier results.

        Call it once the data and all options have been checked.
        """
        if self._overwrite:
            self._recorded = None
            for name in (_POPULATION, *self._request.results):
                (self.path / name).unlink(missing_ok=True)
        self._starts = provenance.add_start({"starts": self._starts})["starts"]
        self._write()

    def record_request(self) -> None:
        """Records the request. Call it just before the results are written."""
        self._recorded = {"asked": dict(self._request.settings), "seeds": self._request.seeds}
        self._write()

    def release(self) -> None:
        """Gives up ownership if the directory holds nothing but the record of its owner."""
        if all(entry.name[0] == "." or entry.name == _ABOUT for entry in self.path.iterdir()):
            (self.path / _ABOUT).unlink(missing_ok=True)

    def _check(self) -> dict[str, Any] | None:
        """Returns the recorded request; None if there is none."""
        try:
            about = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
            owner, recorded = about["command"], about["answered"]
            self._starts = about.get("starts", [])
        except FileNotFoundError:
            self._check_empty()
            return None
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f"--workdir: '{self.path / _ABOUT}' is damaged; choose an empty or a new folder") from None
        provenance.check_version(about, self.path)
        if owner != self._request.command:
            raise UserError(f"--workdir: '{self.path}' belongs to `plumbline {owner}`; choose an empty or a new folder")
        if recorded and not self._overwrite:
            self._check_recorded(recorded)
        return recorded

    def _check_empty(self) -> None:
        if (self.path / "sweep.json").exists():
            raise UserError(f"--workdir: '{self.path}' holds a search; choose an empty or a new folder")
        if any(entry.name[0] != "." for entry in self.path.iterdir()):
            raise UserError(f"--workdir: '{self.path}' holds other files; choose an empty or a new folder")

    def _check_recorded(self, recorded: Mapping[str, Any]) -> None:
        settings = self._request.settings
        differing = [
            f"{name} is {value} there, {settings.get(name, 'nothing')} here"
            for name, value in recorded["asked"].items()
            if settings.get(name) != value
        ]
        if recorded["seeds"] > self._request.seeds:
            differing.append(f"seeds is {recorded['seeds']} there, {self._request.seeds} here")
        if differing:
            more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
            raise UserError(
                f"--workdir: '{self.path}' holds results that would be lost ({', '.join(differing[:_SHOWN])}{more}); "
                "give another --workdir, or --overwrite"
            )

    def _write(self) -> None:
        about = {"command": self._request.command, "answered": self._recorded, "starts": self._starts}
        write_json(self.path / _ABOUT, about)


@contextlib.contextmanager
def lock(workdir: str, request: Request, *, overwrite: bool) -> Iterator[OutputDirectory]:
    """Opens an output directory, new or from an earlier start of the same command, and locks it for this process.

    Args:
      workdir: the directory.
      request: what the command is asked to compute.
      overwrite: whether `claim` may delete results of earlier starts.

    Raises:
      UserError: the directory cannot be written, is locked by another process, holds something else, or holds results
        that would be lost.
      Preempted: raised by the block; the message is completed for `overwrite`.
    """
    from trainers.run.directory import RunDirectory

    directory = RunDirectory(workdir)
    with directory.hold():
        output = OutputDirectory(directory.path, request, overwrite=overwrite)
        try:
            yield output
        except Preempted as reason:
            # With --overwrite, the next start would delete what this one has trained.
            raise Preempted(f"{reason}, without --overwrite" if overwrite else str(reason)) from None
        finally:
            output.release()
