"""Checkpoints: everything a run needs to resume or to predict, saved by Orbax in the background.

Each checkpoint holds the checksums of its files, which Orbax commits together with the files. They are verified before
anything is read.
"""

import dataclasses
import errno
import logging
import os
import pathlib
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from plumbline import UserError
from trainers.run import checksums
from trainers.step.hyperparameters import FIELDS
from trainers.step.state import InferenceState, TrainState
from trainers.step.train_step import Metrics

Tree = Any
Result = TypeVar("Result")

# Orbax writes these files at the commit, after the checksums of all others.
_WRITTEN_LAST = ("_CHECKPOINT_METADATA", "commit_success.txt")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_STEP = -1
# Copying a state smaller than this takes no noticeable time, into any memory.
_LARGE = 64 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation so far: its step, the value of the monitored metric, and the state that was evaluated."""

    step: int
    value: float
    state: InferenceState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
      state: the train state.
      running: sums of the training metrics since the last log line.
      best: the best evaluation so far; None before the first.
      fingerprint: of the data the run reads.
      extra: other small values of the run, by name, as JSON.
    """

    state: TrainState
    running: Metrics
    best: Best | None
    fingerprint: str
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run, by step.

    The newest valid checkpoint is used; damaged ones are named in the log and skipped. If all checkpoints are damaged,
    that is an error, never a silent new start.

    Several processes use it together: each calls every method, in the same order, on a shared file system. The first
    process verifies the files, chooses the step and renames.
    """

    def __init__(self, path: str | os.PathLike, *, keep: int = 1, read_only: bool = False):
        """Opens the folder.

        Args:
          path: folder; created if it is missing, unless `read_only`.
          keep: how many checkpoints to keep, newest first.
          read_only: nothing is saved or renamed; remains of interrupted saves stay.
        """
        managers, arrays = ocp.checkpoint_managers, ocp.StandardCheckpointHandler
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.LatestN(keep),
            save_decision_policy=managers.FixedIntervalPolicy(1),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        handlers = {"state": arrays(), "running": arrays(), "best": arrays(), "about": ocp.JsonCheckpointHandler()}
        for name in ("absl", "asyncio"):
            logging.getLogger(name).addFilter(_drop_orbax_errors)
        self._folder, self._read_only = pathlib.Path(path).absolute(), read_only
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)
        self._is_first = jax.process_index() == 0
        self._saving = _NO_STEP
        self._sealing: threading.Thread | None = None
        self._own_copy = _OwnCopy()

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves in the background; returns once the arrays are copied. Waits for an earlier save first.

        Raises:
          UserError: the disk is full, for this checkpoint or for the one before it.
          Exception: the error with which this save or the one before it failed.
        """
        self.wait()
        best = checkpoint.best
        about = {
            "fingerprint": checkpoint.fingerprint,
            "best": best and {"step": best.step, "value": best.value},
            "extra": dict(checkpoint.extra),
        }
        items = {
            "state": ocp.args.StandardSave(self._own_copy.copy(checkpoint.state)),
            "running": ocp.args.StandardSave(checkpoint.running),
            "about": ocp.args.JsonSave(about),
        }
        if best:
            items["best"] = ocp.args.StandardSave(best.state)
        self._saving = step = int(checkpoint.state.step)
        with self._report_full_disk():
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
        if not saved:
            raise RuntimeError(f"the checkpoint of step {step} was not saved, as a newer one is there")
        if self._is_first:
            self._sealing = threading.Thread(target=self._seal, args=(step,), name="seal_checkpoint")
            self._sealing.start()

    def wait(self) -> None:
        """Returns once everything is on disk.

        Raises:
          UserError: a save in the background found the disk full.
          Exception: the error with which a save in the background failed.
        """
        with self._report_full_disk():
            self._manager.wait_until_finished()
        if self._sealing:
            self._sealing.join()
            self._sealing = None

    def restore(self, state: TrainState, running: Tree, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest valid checkpoint, or None if there is none; damaged newer ones are moved aside.

        Its state lacks the hyperparameters that were added to the config after the save.

        Args:
          state: shapes, types and shardings of the train state, as `abstract` returns them. The mesh may differ
            from that of the save.
          running: those of the running metrics.
          at_most: ignore checkpoints of later steps.

        Raises:
          UserError: all checkpoints are damaged, or the newest valid one is of another model.
        """

        def read(step: int) -> Checkpoint:
            about = self._read(step, about=ocp.args.JsonRestore())["about"]
            wanted = {"state": self._without_added(step, state), "running": running}
            wanted |= {"best": state.inference()} if about["best"] else {}
            items = self._read_arrays(step, **wanted)
            best = about["best"] and Best(**about["best"], state=items["best"])
            return Checkpoint(
                state=items["state"],
                running=items["running"],
                best=best,
                fingerprint=about["fingerprint"],
                extra=about.get("extra", {}),
            )

        self.wait()
        found = self._newest(read, at_most)
        if found and not self._read_only:
            # Orbax would refuse to save below their steps, and count them among those to keep.
            self._move_aside([s for s in self._steps(at_most) if s > int(found.state.step)], "damaged")
        return found

    def restore_inference(self, state: TrainState, which: str) -> tuple[int, InferenceState, str] | None:
        """The inference state of the "best" evaluation or the "last" step; without evaluations the last is the best.

        Args:
          state: as for `restore`.
          which: "best" or "last".

        Returns:
          Its step, the inference state and the fingerprint of the data; None without a checkpoint.

        Raises:
          UserError: as for `restore`.
        """

        def read(step: int) -> tuple[int, InferenceState, str]:
            about = self._read(step, about=ocp.args.JsonRestore())["about"]
            if which == "best" and about["best"]:
                best = self._read_arrays(step, best=state.inference())["best"]
                return about["best"]["step"], best, about["fingerprint"]
            return (
                step,
                self._read_arrays(step, state=self._without_added(step, state))["state"].inference(),
                about["fingerprint"],
            )

        return self._newest(read)

    def move_aside(self, after: int, label: str) -> None:
        """Renames the checkpoints of steps later than `after` to `LABEL-STEP-TIME`; waits for a running save.

        They are kept, but never restored or deleted.
        """
        self.wait()
        self._move_aside([step for step in self._steps() if step > after], label)

    def close(self) -> None:
        """Waits for a running save and closes the folder; raises what `wait` raises."""
        try:
            self.wait()
        finally:
            self._manager.close()

    # ---- Saving.

    def _write_checksums(self) -> None:
        """Called by Orbax in the background of the first process, when all files are written but not committed."""
        uncommitted = self._folder / f"{self._saving}{ocp.path.atomicity_types.TMP_DIR_SUFFIX}"
        checksums.write(uncommitted, leave_out=_WRITTEN_LAST)

    def _seal(self, step: int) -> None:
        """Adds the checksums of the files that were written at the commit."""
        try:
            self._manager.wait_until_finished()
        except Exception:
            return  # The thread that saves gets this error too.
        try:
            checksums.write(self._folder / str(step))
        except (OSError, ValueError) as error:
            logging.warning(
                "The checkpoint of step %d is whole, but %s has no checksum: %s", step, _WRITTEN_LAST, error
            )

    @contextmanager
    def _report_full_disk(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if reason := _full_disk_reason(error):
                raise UserError(
                    f"--workdir: could not save the checkpoint of step {self._saving} in '{self._folder}': {reason}; "
                    "the checkpoints before it are whole; make room and run the same command again"
                ) from error
            raise

    # ---- Restoring.

    def _newest(self, read: Callable[[int], Result], at_most: int | None = None) -> Result | None:
        steps = self._steps(at_most)
        undamaged = (step for step in reversed(steps) if self._is_valid(step))
        while (step := _broadcast(next(undamaged, _NO_STEP) if self._is_first else _NO_STEP)) != _NO_STEP:
            try:
                result, failure = read(step), ""
            except UserError:
                raise
            except Exception as error:  # Orbax, TensorStore and the file system raise errors of their own.
                failure = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            if _is_true_everywhere(not failure):
                return result
            self._log_damage(step, failure or "another process could not read it")
        if not _broadcast(len(steps)):
            return None
        if self._read_only:
            # A training that is running may have replaced them with newer ones.
            self._manager.reload()
            if _broadcast(self._steps(at_most) != steps):
                return self._newest(read, at_most)
        raise UserError(
            f"--workdir: all checkpoints in '{self._folder}' are damaged (steps {steps[::-1]}); "
            "put one back from a copy, or start a new run with another --workdir"
        )

    def _is_valid(self, step: int) -> bool:
        """Whether a checkpoint agrees with its checksums; damage is logged."""
        folder = self._folder / str(step)
        if not (folder / checksums.NAME).exists():
            logging.warning(
                "The checkpoint of step %d could not be verified, as it has no %s; it is used if it can be read",
                step,
                checksums.NAME,
            )
            return True
        phrases = checksums.damage(folder, may_lack=_WRITTEN_LAST)
        if phrases:
            more = f" (and {len(phrases) - 3} more)" if len(phrases) > 3 else ""
            self._log_damage(step, "; ".join(phrases[:3]) + more)
        return not phrases

    def _log_damage(self, step: int, reason: str) -> None:
        logging.warning("The checkpoint of step %d is damaged and skipped: %s", step, reason)

    def _read_arrays(self, step: int, **wanted: Tree) -> Any:
        """Reads items as arrays in the form of the abstract trees in `wanted`.

        Raises:
          UserError: they were saved with other names, shapes or types.
        """
        saved = self._manager.item_metadata(step)
        for item in wanted:
            if saved.get(item) is None:
                raise FileNotFoundError(f"'{item}' is missing")
        differences = [d for item, tree in wanted.items() for d in _differences(saved[item].tree, tree)]
        if differences:
            more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
            raise UserError(
                f"--workdir: the checkpoint of step {step} in '{self._folder}' is of another model: "
                f"{', '.join(differences[:3])}{more}; go back to the code that saved it, or give another --workdir"
            )
        return self._read(step, **{item: ocp.args.StandardRestore(tree) for item, tree in wanted.items()})

    def _without_added(self, step: int, state: TrainState) -> TrainState:
        """The form of the train state without the hyperparameters that were added after the save."""
        saved = self._manager.item_metadata(step).get("state")
        there = _shapes(saved.tree) if saved is not None else {}
        kept = {
            name: leaf
            for name, leaf in state.hyperparameters.items()
            if name not in FIELDS or f"hyperparameters/{name}" in there
        }
        return dataclasses.replace(state, hyperparameters=kept)

    def _read(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _steps(self, at_most: int | None = None) -> list[int]:
        return sorted(step for step in self._manager.all_steps() if at_most is None or step <= at_most)

    def _move_aside(self, steps: Sequence[int], label: str) -> None:
        if not _broadcast(len(steps)):
            return
        for step in steps if self._is_first else ():
            os.replace(self._folder / str(step), self._folder / f"{label}-{step}-{time.time_ns()}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints moved aside")
        self._manager.reload()


class _OwnCopy:
    """A copy of a large state in CPU memory, in buffers that are reused from save to save.

    Orbax copies arrays of an accelerator, but writes arrays in CPU memory directly. The next step cannot reuse their
    buffers, so it copies them into new memory while Orbax keeps all cores busy: with 100 million parameters on two
    cores that step took up to 1.4 s instead of 0.02 s. A copy into existing memory took 0.02 s.
    """

    def __init__(self):
        self._state: TrainState | None = None
        self._copy: Callable[[TrainState | None, TrainState], TrainState] | None = None

    def copy(self, state: TrainState) -> TrainState:
        """A copy that is valid until the next call; the state itself if it is small or not in CPU memory."""
        leaves = jax.tree.leaves(state)
        on_cpu = all(device.platform == "cpu" for device in state.step.devices())
        if not on_cpu or sum(leaf.nbytes for leaf in leaves) < _LARGE:
            return state
        if self._copy is None:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
            self._copy = jax.jit(_copy, donate_argnums=0, keep_unused=True, out_shardings=shardings)
        self._state = self._copy(self._state, state)
        return jax.block_until_ready(self._state)


def _copy(buffers: TrainState | None, state: TrainState) -> TrainState:
    del buffers  # Donated: the copy reuses their memory.
    return jax.tree.map(jnp.copy, state)


def _full_disk_reason(error: BaseException | None) -> str:
    """The message of the system if the disk was full; empty for other errors."""
    while error is not None:
        # TensorStore has the number in its message only.
        numbers = [getattr(error, "errno", None), *map(int, re.findall(r"os_error_code='(\d+)'", str(error)))]
        for number in numbers:
            if number in _NO_ROOM:
                return os.strerror(number).lower()
        error = error.__cause__ or error.__context__
    return ""


def _differences(saved: Tree, wanted: Tree) -> list[str]:
    """How the arrays of a checkpoint differ from the wanted ones, as a phrase for each."""
    there, here = _shapes(saved), _shapes(wanted)
    phrases = [
        f"{name} is {there[name]} there, {shape} here" if name in there else f"{name} is not there, {shape} here"
        for name, shape in here.items()
        if there.get(name) != shape
    ]
    return phrases + [f"{name} is {there[name]} there, not here" for name in there if name not in here]


def _shapes(tree: Tree) -> dict[str, str]:
    """Shape and type by path, as Orbax stores them: a random key is an array of numbers."""
    shapes = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        shapes[jax.tree_util.keystr(path, simple=True, separator="/")] = f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
    return shapes


def _broadcast(value: int) -> int:
    """The value of the first process, in all processes."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if jax.process_count() > 1 else int(value)


def _is_true_everywhere(fine: bool) -> bool:
    """Whether `fine` is true in every process."""
    return bool(np.all(multihost_utils.process_allgather(np.bool_(fine)))) if jax.process_count() > 1 else fine


def _drop_orbax_errors(record: logging.LogRecord) -> bool:
    """Drops tracebacks of Orbax: an error in its threads is raised again where the save is waited for."""
    trace = record.exc_info[2] if record.exc_info else None
    texts = [record.pathname, record.getMessage(), *(frame.filename for frame in traceback.extract_tb(trace))]
    return record.levelno != logging.ERROR or not any("orbax" in text for text in texts)
