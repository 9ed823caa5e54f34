"""The working directory of a command that trains a population: which command it belongs to, and what it answers."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from plumbline import Preempted, UserError, exit_codes
from plumbline.files import remove_unfinished, write_json

# What a population saves itself in, and what says whose it is.
_POPULATION, _ABOUT = "population.npz", "population.json"
# Differences that a message shows.
_SHOWN = 3


def stoppable() -> None:
    """Lets SIGTERM end the process at once where nothing is under way that would have to be saved.

    Trainings listen for themselves; an exception could get lost in what is being imported.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(exit_codes.PREEMPTED))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What a command is asked, as far as another answer would replace an earlier one in the same directory.

    Attributes:
      command: such as "crossvalidate".
      asked: by name, as JSON values. What was asked before must be asked again; more may be.
      seeds: trainings of each; no fewer than before.
      results: names of the files with the answer.
    """

    command: str
    asked: Mapping[str, str | int]
    seeds: int
    results: tuple[str, ...]


class Workplace:
    """A directory that one command keeps to itself; `population.json` says which, and what its results answer.

    Attributes:
      path: of the directory.
    """

    def __init__(self, path: pathlib.Path, question: Question, *, overwrite: bool):
        """Checks that the directory is new, or of the same command and question; changes nothing but what kills left.

        Raises:
          UserError: it holds something else, or results that would be lost.
        """
        self.path, self._question, self._overwrite = path, question, overwrite
        self._answered = self._check()
        for name in (_ABOUT, *question.results):
            remove_unfinished(path / name)

    def begin(self) -> None:
        """Makes the directory this command's, and if it is to be overwritten forgets what was there before.

        Comes once the data and what is asked are found right.
        """
        if self._overwrite:
            self._answered = None
            for name in (_POPULATION, *self._question.results):
                (self.path / name).unlink(missing_ok=True)
        self._write()

    def answer(self) -> None:
        """Notes what the results, which are written next, are an answer to."""
        self._answered = {"asked": dict(self._question.asked), "seeds": self._question.seeds}
        self._write()

    def leave(self) -> None:
        """Makes nobody's what nothing came of: a directory that holds no more than whose it is."""
        if all(entry.name[0] == "." or entry.name == _ABOUT for entry in self.path.iterdir()):
            (self.path / _ABOUT).unlink(missing_ok=True)

    def _check(self) -> dict[str, Any] | None:
        """What the results that are there answer."""
        try:
            about = json.loads((self.path / _ABOUT).read_text(encoding="utf-8"))
            owner, answered = about["command"], about["answered"]
        except FileNotFoundError:
            self._check_empty()
            return None
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UserError(f"--workdir: '{self.path / _ABOUT}' is damaged; choose an empty or a new folder") from None
        if owner != self._question.command:
            raise UserError(f"--workdir: '{self.path}' belongs to experiments.{owner}; choose an empty or a new folder")
        if answered and not self._overwrite:
            self._check_kept(answered)
        return answered

    def _check_empty(self) -> None:
        if (self.path / "sweep.json").exists():
            raise UserError(f"--workdir: '{self.path}' holds a search; choose an empty or a new folder")
        if any(entry.name[0] != "." for entry in self.path.iterdir()):
            raise UserError(f"--workdir: '{self.path}' holds files of something else; choose an empty or a new folder")

    def _check_kept(self, answered: Mapping[str, Any]) -> None:
        here = self._question.asked
        differing = [
            f"{name} is {value} there, {here.get(name, 'nothing')} here"
            for name, value in answered["asked"].items()
            if here.get(name) != value
        ]
        if answered["seeds"] > self._question.seeds:
            differing.append(f"seeds is {answered['seeds']} there, {self._question.seeds} here")
        if differing:
            more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
            raise UserError(
                f"--workdir: '{self.path}' holds results that would be lost ({', '.join(differing[:_SHOWN])}{more}); "
                "give another --workdir, or --overwrite"
            )

    def _write(self) -> None:
        write_json(self.path / _ABOUT, {"command": self._question.command, "answered": self._answered})


@contextlib.contextmanager
def held(workdir: str, question: Question, *, overwrite: bool) -> Iterator[Workplace]:
    """Keeps a directory, new or that of an earlier start of the same command, to this process.

    Args:
      workdir: the directory.
      question: what the command is asked.
      overwrite: what earlier starts left may be lost, from `begin` on.

    Raises:
      UserError: it cannot be written, another process is at work in it, it holds something else, or results that would
        be lost.
      Preempted: as the block does.
    """
    from trainers.run.directory import RunDirectory

    directory = RunDirectory(workdir)
    with directory.held():
        place = Workplace(directory.path, question, overwrite=overwrite)
        try:
            yield place
        except Preempted as reason:
            # What was trained since would be deleted once more.
            raise Preempted(f"{reason}, without --overwrite" if overwrite else str(reason)) from None
        finally:
            place.leave()
