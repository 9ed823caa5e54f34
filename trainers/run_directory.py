"""The run directory: the files that whatever makes a run writes, and every later command reads.

`config.json` (resolved), `features.json` (what an example is), `fitted.npz` (arrays fitted on the training rows),
`execution.json` (how steps are dispatched), `status.json`, `metrics.jsonl`, `summary.json`, `tensorboard/` and
`checkpoints/` (whole train states, with the parameters that were best on the validation split).
"""

import json
import math
import os
import pathlib
import shutil
import time
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from data import Features
from plumbline import UserError
from plumbline.files import replaced, write_text

# Fields that a resumed run may change: they say where and how it works, not what it computes.
_OPERATIONAL = ("data.cache_dir", "data.tfds_dir", "data.workers", "execution.compilation_cache", "train.tensorboard")

_FOLDERS = ("checkpoints", "tensorboard")
# `config.json` is deleted last: a checkpoint must never lie there without the config it belongs to.
_FILES = (
    "features.json",
    "fitted.npz",
    "execution.json",
    "status.json",
    "metrics.jsonl",
    "summary.json",
    "config.json",
)


class RunDirectory:
    """One run's files. Whole files are replaced atomically; `metrics.jsonl` grows by whole lines."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).absolute()
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"

    def check(self, config: ml_collections.ConfigDict, *, overwrite: bool) -> None:
        """Checks that a run of `config` can begin or continue here; changes nothing that is there.

        Args:
          config: the resolved config.
          overwrite: what another run left may be deleted.

        Raises:
          UserError: the directory cannot be written, or holds something else: another config's run, or no run at all.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".writable").touch()
            (self.path / ".writable").unlink()
        except OSError as error:
            raise UserError(f"--workdir: cannot write to '{self.path}': {error.strerror}; choose another") from None
        if (self.path / "config.json").exists():
            if not overwrite:
                self._check_same(config)
        elif any(entry.name not in (*_FILES, *_FOLDERS) for entry in self.path.iterdir()):
            raise UserError(f"--workdir: '{self.path}' holds files but no run; choose an empty or a new folder")

    def begin(self, config: ml_collections.ConfigDict, features: Features, fitted: Mapping[str, np.ndarray]) -> None:
        """Writes what the run is, new or continued.

        Args:
          config: the resolved config.
          features: what an example is.
          fitted: arrays fitted on the training rows.
        """
        write_text(self.path / "config.json", _json(config.to_dict()))
        write_text(self.path / "features.json", _json(features.to_json()))
        with replaced(self.path / "fitted.npz") as temporary:
            np.savez(temporary, **fitted)

    def clear(self) -> None:
        """Deletes what a run wrote, and only that: a mistaken --workdir=~ must not empty a home directory."""
        for name in _FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)

    def config(self) -> ml_collections.ConfigDict:
        """The run's config.

        Raises:
          UserError: there is no run here.
        """
        return ml_collections.ConfigDict(_tuples(self._read("config.json"))).lock()

    def features(self) -> Features:
        """What an example of the run is."""
        return Features.from_json(self._read("features.json"))

    def fitted(self) -> dict[str, np.ndarray]:
        """The arrays fitted on the training rows."""
        try:
            with np.load(self.path / "fitted.npz") as arrays:
                return dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"--workdir: fitted.npz in '{self.path}' is missing or damaged ({error})") from None

    def status(self) -> dict[str, Any]:
        """The last status written; empty before the first."""
        return self._read("status.json") if (self.path / "status.json").exists() else {}

    def execution(self) -> dict[str, Any] | None:
        """How the run's steps are dispatched, once that has been chosen."""
        return self._read("execution.json") if (self.path / "execution.json").exists() else None

    def summary(self) -> dict[str, Any]:
        """The summary of a finished run."""
        return self._read("summary.json")

    def write_execution(self, execution: Mapping[str, Any]) -> None:
        """Writes how steps are dispatched."""
        write_text(self.path / "execution.json", _json(execution))

    def write_status(self, status: str, step: int, reason: str = "") -> None:
        """Writes the status: running, done, preempted, diverged or failed."""
        write_text(self.path / "status.json", _json({"status": status, "step": step, "reason": reason}))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary."""
        write_text(self.path / "summary.json", _json(summary))

    def append_metrics(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Adds one line: `{"step", "time" (Unix, s), "split", metric: value, ...}`; a value not finite becomes null."""
        line = json.dumps(_finite({"step": step, "time": round(time.time(), 3), "split": split, **metrics}))
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of `metrics.jsonl`; a last one that a kill cut short is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def last_metrics(self, split: str) -> dict[str, float]:
        """The last metrics of a split, without step and time; empty if there are none."""
        lines = [line for line in self.metrics() if line["split"] == split]
        return {k: v for k, v in lines[-1].items() if k not in ("step", "time", "split")} if lines else {}

    def forget_metrics_after(self, step: int) -> None:
        """Removes the lines of steps after `step`, which a resumed run will write again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"--workdir: no {name} in '{self.path}'; is it the directory of a run?") from None
        except json.JSONDecodeError as error:
            raise UserError(f"--workdir: {self.path / name} is damaged ({error})") from None

    def _check_same(self, config: ml_collections.ConfigDict) -> None:
        old, new = _flat(self._read("config.json")), _flat(json.loads(_json(config.to_dict())))
        differing = sorted(name for name in old | new if old.get(name) != new.get(name) and name not in _OPERATIONAL)
        if differing:
            shown = ", ".join(f"{name} is {old.get(name)!r} there, {new.get(name)!r} here" for name in differing[:5])
            more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise UserError(
                f"--workdir: '{self.path}' holds a run of another config ({shown}{more}); "
                "give another --workdir, or --overwrite to delete that run"
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _tuples(value: Any) -> Any:
    # JSON knows lists only; configs hold tuples, so that nobody changes one in place.
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: Any) -> str:
    return json.dumps(_finite(value), indent=2) + "\n"
