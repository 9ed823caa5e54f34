"""The run directory: the files of a run, which training writes and every later command reads.

`config.json` (resolved), `provenance.json` (version, command and commit of each start; `provenance.damaged.json` is one
that could not be read), `features.json` (of an example), `tokenizer.json` (of texts, for other tools), `fitted.npz`
(arrays fitted on the training rows), `rows.npz` (rows that are left out or weigh less, if any), `execution.json` (how
steps are dispatched), `rollback.json` (after a rollback), `extensions.json` (config and summary before each extension),
`status.json`, `metrics.jsonl`, `goodput.jsonl` (where wall time went), `summary.json`, `tensorboard/` and
`checkpoints/` (train states, with the parameters that were best on the validation split). A run with a transfer source
has `transfer.txt` (the source of each parameter) and, if it was checked, `scratch/` (the same training without the
source), `repetitions/` (both with other seeds) and `transfer_check.json`.
"""

import errno
import fcntl
import json
import logging
import os
import pathlib
import shutil
import sys
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ml_collections
import numpy as np

from data import Dataset, Features, RunAssets
from data.row_lists import RowLists
from plumbline import UserError, provenance
from plumbline.files import (
    append_line,
    describe_missing,
    expand_home,
    replace_atomically,
    replace_non_finite,
    write_text,
)
from trainers import settings
from trainers.run import extension
from trainers.run.identity import Comparison

POPULATION = "population.npz"
"""Of the file of a population, whose directory is not that of a run."""
_LOCK = ".lock"
_MARK = ".mark-"
# Seconds that another process may take to see a new file, as on network file systems.
_SHARED_SECONDS = 10.0
_PROVENANCE, _DAMAGED_PROVENANCE = "provenance.json", "provenance.damaged.json"
_EXTENSIONS = "extensions.json"
_FOLDERS = ("checkpoints", "tensorboard", "scratch", "repetitions")
# In the order in which they are deleted: a run with the status "done" must have its checkpoints, and checkpoints must
# always have their config.
_FILES = (
    "status.json",
    "summary.json",
    "features.json",
    "tokenizer.json",
    "fitted.npz",
    "rows.npz",
    "execution.json",
    "rollback.json",
    _EXTENSIONS,
    "metrics.jsonl",
    "goodput.jsonl",
    "transfer.txt",
    "transfer_check.json",
    _PROVENANCE,
    _DAMAGED_PROVENANCE,
    "config.json",
)


class RunDirectory:
    """The files of one run. They are replaced atomically; `metrics.jsonl` and `goodput.jsonl` grow by whole lines."""

    def __init__(self, path: str | os.PathLike, *, writes: bool = True):
        """Reads and writes nothing yet.

        Args:
          path: of the directory.
          writes: if False, methods that change files do nothing. Of several processes, one writes.
        """
        if "://" in os.fspath(path):
            raise UserError(
                f"--workdir: '{path}' is not a path of a file system; mount the bucket, as `plumbline launch` does, "
                "and give the path it is mounted at"
            )
        self.path = pathlib.Path(expand_home(path)).absolute()
        self._writes = writes
        # Name of a file by which other processes know this directory.
        self.mark = f"{_MARK}{uuid.uuid4().hex}"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.scratch = self.path / "scratch"
        self.repetitions = self.path / "repetitions"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Creates the directory if it is missing, and locks it while the block runs.

        Raises:
          UserError: the directory cannot be written, or another process is training in it.
        """
        if not self._writes:
            yield
            return
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            before = self._entries()
            lock = (self.path / _LOCK).open("a")
        except OSError as error:
            raise self._write_error(error.strerror) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._lock_error() from None
            except OSError as error:  # Some network file systems have no locks.
                logging.warning("No lock on %s (%s): keep other trainings out of it.", self.path, error)
            self._remove_marks()
            with self._report_full_disk():
                # A new name and a closed file: only these become visible through mounted buckets soon.
                (self.path / self.mark).write_text("", encoding="utf-8")
            try:
                yield
            finally:
                self._remove_marks()
                self._remove_traces(before, made)

    def check_available(self) -> None:
        """Checks that a training could hold the directory; writes nothing.

        Raises:
          UserError: the directory cannot be written, or another process is training in it.
        """
        if not self._writes:
            return
        nearest = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
            raise self._write_error("Permission denied")
        self._check_links()
        if not (self.path / _LOCK).exists():
            return
        with suppress(OSError), (self.path / _LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._lock_error() from None

    def check_shared(self, mark: str) -> None:
        """Checks that this is the directory that the writing process has locked, not another one of the same name.

        Args:
          mark: the `mark` of the writing process, once it has locked the directory.

        Raises:
          UserError: it is another one, or does not exist.
        """
        if not self._writes and not self._shows(mark):
            raise UserError(
                f"--workdir: '{self.path}' is not the directory that process 0 writes to; give one on a file system "
                "that all processes share"
            )

    def check(self, config: ml_collections.ConfigDict, *, overwrite: bool, extend: bool = False) -> None:
        """Checks that a run of `config` can begin or resume here; changes nothing.

        Args:
          config: the resolved config.
          overwrite: whether the files of another run may be deleted.
          extend: whether a run that is done may continue with other values of `extension.FIELDS`.

        Raises:
          UserError: the directory holds a run of another config, or files that are not those of a run; or there is
            nothing to extend.
        """
        if extend:
            extension.check_alone(overwrite=overwrite, checks_transfer=config.transfer.check)
        if not self._writes:
            return
        if (self.path / "config.json").exists():
            if not overwrite:
                self._check_same(config, extend=extend)
        elif extend:
            raise UserError(f"--extend: no run in '{self.path}'; leave it out to start one")
        elif self._holds_other_files():
            raise UserError(f"--workdir: '{self.path}' holds files but no run; choose an empty or a new folder")

    def begin(
        self, config: ml_collections.ConfigDict, dataset: Dataset, fitted: Mapping[str, np.ndarray], origin: str = ""
    ) -> None:
        """Writes the description of a run that begins or resumes. Prints fields of the config that have changed.

        Args:
          config: the resolved config.
          dataset: that it trains on.
          fitted: arrays fitted on the training rows.
          origin: table of the sources of the first parameters; "" writes nothing.
        """
        if not self._writes:
            return
        if origin:
            write_text(self.path / "transfer.txt", origin)
        self._record_start(self._compare(config).changed if (self.path / "config.json").exists() else {})
        self._write("config.json", config.to_dict())
        self._write("features.json", dataset.features.to_json())
        if dataset.features.tokenizer:
            write_text(self.path / "tokenizer.json", dataset.features.tokenizer)
        if dataset.row_lists.digest():
            dataset.row_lists.save(self.path / "rows.npz")
        with replace_atomically(self.path / "fitted.npz") as temporary:
            np.savez(temporary, **fitted)

    def clear(self) -> None:
        """Deletes the files of a run and nothing else: a mistaken --workdir=~ must not empty a home directory."""
        for name in (*_FILES[:2], *_FOLDERS, *_FILES[2:]) if self._writes else ():
            path = self.path / name
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"--workdir: cannot delete '{path}': {error.strerror}; delete it yourself") from None

    def config(self) -> ml_collections.ConfigDict:
        """The config of the run. Fields that were added after it was written have their defaults.

        Raises:
          UserError: there is no run here, or it was written with a newer version.
        """
        return ml_collections.ConfigDict(_to_tuples(self._read_config())).lock()

    def features(self) -> Features:
        """Kind, shape and labels of an example."""
        try:
            return Features.from_json(self._read("features.json"))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"--workdir: {self.path / 'features.json'} cannot be read ({error}); it was written with "
                f"{self._writer()}: use that version for it"
            ) from None

    def assets(self) -> RunAssets:
        """What the run keeps of its data, so that it needs no other files beside them."""
        chosen = self.config().data
        lists = RowLists.load(self.path / "rows.npz") if chosen.drop or chosen.weights else RowLists()
        features = self.features()
        return RunAssets(
            tokenizer=features.tokenizer,
            row_lists=lists,
            columns=features.columns,
            target_offset=features.target_offset,
        )

    def fitted_arrays(self) -> dict[str, np.ndarray]:
        """The arrays fitted on the training rows."""
        try:
            with np.load(self.path / "fitted.npz") as arrays:
                return dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"--workdir: fitted.npz in '{self.path}' is missing or damaged ({error})") from None

    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was saved, valid or not."""
        return self.checkpoints.is_dir() and any(entry.name.isdigit() for entry in self.checkpoints.iterdir())

    def is_done(self) -> bool:
        """Whether the run has ended."""
        return self.status().get("status") == "done"

    def can_extend(self) -> bool:
        """Whether the run has ended, and no steps have been taken since then."""
        return self.is_done() or any(each["step"] == self.status().get("step") for each in self.extensions())

    def differs(self, config: ml_collections.ConfigDict) -> bool:
        """Whether a run of `config` would be another than the one that is here."""
        return bool(self._compare(config).differing)

    def status(self) -> dict[str, Any]:
        """The last status that was written; empty before the first."""
        return self._read("status.json") if (self.path / "status.json").exists() else {}

    def execution(self) -> dict[str, Any] | None:
        """How steps are dispatched; None before that is chosen."""
        return self._read("execution.json") if (self.path / "execution.json").exists() else None

    def provenance(self) -> dict[str, Any]:
        """Command, folder, git commit and time of each start, as `plumbline.provenance`.

        Empty for runs of earlier versions, and where the file is damaged.
        """
        with suppress(OSError, ValueError):
            return provenance.parse((self.path / _PROVENANCE).read_text(encoding="utf-8"))
        return {}

    def rollback(self) -> dict[str, Any] | None:
        """Step from which batches are skipped, their number and the reason, after a rollback; else None."""
        return self._read("rollback.json") if (self.path / "rollback.json").exists() else None

    def transfer_check(self) -> dict[str, Any] | None:
        """The result of the comparison with a training from scratch; None before it or without one."""
        return self._read("transfer_check.json") if (self.path / "transfer_check.json").exists() else None

    def extensions(self) -> list[dict[str, Any]]:
        """What each extension began with, in order: `step`, `time` (Unix, s), `config` and `summary` before it."""
        return self._read(_EXTENSIONS)["extensions"] if (self.path / _EXTENSIONS).exists() else []

    def record_extension(self) -> None:
        """Adds step, config and summary of the run that is here to the record of extensions. It is then running."""
        step = self.status()["step"]
        if self.is_done():
            entry = {"step": step, "time": round(time.time(), 3), "config": self._read("config.json")}
            # A kill may have come after this record, and before the status.
            earlier = [each for each in self.extensions() if each["step"] < step]
            self._write(_EXTENSIONS, {"extensions": [*earlier, {**entry, "summary": self.summary()}]})
        self.write_status("running", step)

    def summary(self) -> dict[str, Any]:
        """The summary of a finished run."""
        return self._read("summary.json")

    def write_execution(self, execution: Mapping[str, Any]) -> None:
        """Writes how steps are dispatched."""
        self._write("execution.json", execution)

    def write_rollback(self, rollback: Mapping[str, Any]) -> None:
        """Writes which batches are skipped: `{"step", "batches", "reason"}`."""
        self._write("rollback.json", rollback)

    def write_status(self, status: str, step: int, reason: str = "") -> None:
        """Writes the status: running, done, preempted, diverged or failed."""
        self._write("status.json", {"status": status, "step": step, "reason": reason})

    def write_transfer_check(self, figures: Mapping[str, Any]) -> None:
        """Writes the result of the comparison with a training from scratch."""
        self._write("transfer_check.json", figures)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary."""
        self._write("summary.json", summary)

    def append_metrics(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Adds a line `{"step", "time" (Unix, s), "split", metric: value, ...}`; values not finite become null."""
        self._append("metrics.jsonl", {"step": step, "time": round(time.time(), 3), "split": split, **metrics})

    def append_goodput(self, step: int, figures: Mapping[str, Any]) -> None:
        """Adds a line `{"step", "time" (Unix, s), figure: value, ...}`; lines of earlier starts stay."""
        self._append("goodput.jsonl", {"step": step, "time": round(time.time(), 3), **figures})

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of `metrics.jsonl`, without an unfinished last line."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def last_metrics(self, split: str) -> dict[str, float]:
        """The last metrics of a split, without step and time; empty if there are none."""
        lines = [line for line in self.metrics() if line["split"] == split]
        return {k: v for k, v in lines[-1].items() if k not in ("step", "time", "split")} if lines else {}

    def forget_metrics_after(self, step: int) -> None:
        """Removes the lines of later steps, which a resumed run writes again."""
        if not self._writes:
            return
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def _record_start(self, changed: Mapping[str, Any]) -> None:
        """Adds this start to the record. A damaged record does not stop the run: it is kept beside the new one.

        Args:
          changed: the values, before and now, of fields that differ from those of the start before; printed.
        """
        if changed:
            phrases = (f"{path} is {new!r}, and was {old!r}" for path, (old, new) in changed.items())
            print(f"resuming with other settings: {'; '.join(phrases)}", file=sys.stderr, flush=True)
        recorded = self.provenance()
        if not recorded and (self.path / _PROVENANCE).exists():
            os.replace(self.path / _PROVENANCE, self.path / _DAMAGED_PROVENANCE)
            print(
                f"--workdir: {_PROVENANCE} in '{self.path}' is damaged, so the record of earlier starts is lost; it is "
                f"kept as {_DAMAGED_PROVENANCE}, and the run continues with a new record",
                file=sys.stderr,
            )
        self._write(_PROVENANCE, provenance.add_start(recorded, **({"changed": changed} if changed else {})))

    def _holds_other_files(self) -> bool:
        entries = self.path.iterdir() if self.path.exists() else ()
        return any(entry.name not in (*_FILES, *_FOLDERS) for entry in entries if entry.name[0] != ".")

    def _write_error(self, problem: str) -> UserError:
        self._check_links()
        if any(path.is_file() for path in (self.path, *self.path.parents)):
            return UserError(f"--workdir: {describe_missing(self.path)}; choose another path")
        return UserError(f"--workdir: cannot write to '{self.path}': {problem}; choose another")

    def _check_links(self) -> None:
        """Checks that no part of the path is a link to a folder that does not exist."""
        for path in (self.path, *self.path.parents):
            if path.is_symlink() and not path.exists():
                raise UserError(
                    f"--workdir: '{path}' is a link to '{path.readlink()}', which does not exist; create that folder, "
                    "or choose another path"
                )

    def _lock_error(self) -> UserError:
        return UserError(f"--workdir: another process is training in '{self.path}'; wait for it, or choose another")

    def _shows(self, mark: str) -> bool:
        end = time.monotonic() + _SHARED_SECONDS
        while not (self.path / mark).exists():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def _remove_marks(self) -> None:
        for mark in self.path.glob(f"{_MARK}*"):
            mark.unlink(missing_ok=True)

    def _entries(self) -> set[str]:
        entries = self.path.iterdir() if self.path.is_dir() else ()
        return {entry.name for entry in entries if not entry.name.startswith(_MARK)}

    def _remove_traces(self, before: set[str], made: Sequence[pathlib.Path]) -> None:
        """Removes the lock and the folders that were created for a run that never began."""
        after = self._entries()
        if after == {_LOCK} or after == {*before, _LOCK} != before:
            (self.path / _LOCK).unlink()
        with suppress(OSError):
            for folder in made:
                folder.rmdir()

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        if self._writes:
            with self._report_full_disk():
                write_text(self.path / name, _json(value))

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        if self._writes:
            with self._report_full_disk():
                append_line(self.path / name, json.dumps(replace_non_finite(line)))

    @contextmanager
    def _report_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(
                f"--workdir: cannot write to '{self.path}': {error.strerror.lower()}; its checkpoints are whole; free "
                "some space and run the same command again"
            ) from None

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise self._read_error(name, error) from None
        except ValueError as error:  # No JSON, or no UTF-8.
            raise UserError(f"--workdir: {self.path / name} is damaged ({error})") from None

    def _read_error(self, name: str, error: OSError) -> UserError:
        self._check_links()
        if isinstance(error, NotADirectoryError):
            return UserError(f"--workdir: {describe_missing(self.path)}; give the directory of a run")
        if not isinstance(error, FileNotFoundError):
            return UserError(f"--workdir: cannot read '{self.path / name}': {error.strerror}; give another directory")
        if (self.path / POPULATION).exists():
            return UserError(
                f"--workdir: '{self.path}' holds a population of trainings, not a run; "
                "plumbline.population_history reads its metrics"
            )
        return UserError(f"--workdir: no {name} in '{self.path}'; is it the directory of a run?")

    def _writer(self) -> str:
        return provenance.describe_writer(self.provenance())

    def _read_config(self) -> dict[str, Any]:
        provenance.check_version(self.provenance(), self.path)
        stored = self._read("config.json")
        if not isinstance(stored, dict):
            raise UserError(f"--workdir: {self.path / 'config.json'} is damaged (no config)")
        return settings.with_defaults(stored)

    def _compare(self, config: ml_collections.ConfigDict) -> Comparison:
        """The config of the run that is here beside `config`, both as they are written."""
        there, here = self._read_config(), settings.with_defaults(config.to_dict())
        return Comparison(json.loads(_json(there)), json.loads(_json(here)))

    def _check_same(self, config: ml_collections.ConfigDict, *, extend: bool) -> None:
        comparison = self._compare(config)
        if unknown := comparison.unknown:
            raise UserError(
                f"--workdir: '{self.path}' holds a run with fields that are unknown here ({', '.join(unknown[:5])}); "
                f"resume it with {self._writer()}, which wrote it, or give another --workdir"
            )
        differing = comparison.differing
        if extend:
            fixed = extension.find_fixed(comparison.old, comparison.new, differing)
            if not fixed:
                self._check_can_extend(differing)
            differing = fixed
        if differing:
            raise UserError(
                f"--workdir: '{self.path}' holds a run of another config ({comparison.describe(differing)}); "
                f"{self._remedy(differing)}"
            )

    def _check_can_extend(self, differing: Sequence[str]) -> None:
        if differing and not self.can_extend():
            status = self.status().get("status", "not begun")
            raise UserError(
                f"--extend: the run in '{self.path}' is {status}; run it to its end first, with the config that it has "
                f"({', '.join(differing)} differ)"
            )
        if not self.has_checkpoint():
            raise UserError(f"--extend: no checkpoint in '{self.path}'; leave the flag out, and give another --workdir")

    def _remedy(self, differing: Sequence[str]) -> str:
        """What to do about a config that differs in these fields from that of the run."""
        if self.is_done() and "train.duration" in differing and set(differing) <= set(extension.FIELDS):
            return (
                "--extend continues that run, which is done; or start another from its parameters in another "
                f"--workdir with --config.transfer.source={self.path}"
            )
        return "give another --workdir, or --overwrite to delete that run"


def _to_tuples(value: Any) -> Any:
    # JSON has lists only; configs hold tuples, which cannot be changed in place.
    if isinstance(value, dict):
        return {name: _to_tuples(inner) for name, inner in value.items()}
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value


def _json(value: Any) -> str:
    return json.dumps(replace_non_finite(value), indent=2) + "\n"
