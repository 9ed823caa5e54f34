"""Checkpoints: all that a run needs to go on or to answer, saved by Orbax in the background.

Each comes with the checksums of its files, which are part of what Orbax commits: a checkpoint is there with them or not
at all. They are checked before anything is read.
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
from trainers.step.state import InferenceState, TrainState
from trainers.step.train_step import Metrics

Tree = Any
Result = TypeVar("Result")

# Orbax writes these at the very moment of the commit, after the checksums of all others.
_WRITTEN_LAST = ("_CHECKPOINT_METADATA", "commit_success.txt")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_STEP = -1
# A state smaller than this is copied in no time, whatever memory it is copied to.
_LARGE = 64 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation so far: at which step, the value of the metric that chooses, and what was evaluated."""

    step: int
    value: float
    state: InferenceState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
      state: the train state.
      running: sums of the training metrics since they were last written.
      best: the best evaluation so far; None before the first.
      fingerprint: of the data the run reads.
      extra: small facts of the run, by name; whatever JSON can hold.
    """

    state: TrainState
    running: Metrics
    best: Best | None
    fingerprint: str
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run, by step.

    The newest that is whole is used; a damaged one is named in the log and passed over. There is never a silent fresh
    start: if all that are there are damaged, that is an error.

    Several processes use it together: each calls every method, in the same order, on a file system that all of them
    see. The first one checks the files, chooses the step, and renames.
    """

    def __init__(self, path: str | os.PathLike, *, keep: int = 1, read_only: bool = False):
        """Opens the folder.

        Args:
          path: folder; made if it is not there, unless `read_only`.
          keep: how many checkpoints to keep, newest first.
          read_only: nothing will be saved or renamed; leftovers of saves that were cut short stay.
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
            logging.getLogger(name).addFilter(_without_errors_of_orbax)
        self._folder, self._read_only = pathlib.Path(path).absolute(), read_only
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)
        self._is_first = jax.process_index() == 0
        self._saving = _NO_STEP
        self._sealing: threading.Thread | None = None
        self._own_copy = _OwnCopy()

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves in the background; returns as soon as the arrays are copied. Waits for a save still under way.

        Raises:
          UserError: there is no room on the disk, for this checkpoint or for the one before it.
          Exception: this save or the one before it failed; whatever it failed with.
        """
        self.wait()
        best = checkpoint.best
        about = {
            "fingerprint": checkpoint.fingerprint,
            "best": best and {"step": best.step, "value": best.value},
            "extra": dict(checkpoint.extra),
        }
        items = {
            "state": ocp.args.StandardSave(self._own_copy.of(checkpoint.state)),
            "running": ocp.args.StandardSave(checkpoint.running),
            "about": ocp.args.JsonSave(about),
        }
        if best:
            items["best"] = ocp.args.StandardSave(best.state)
        self._saving = step = int(checkpoint.state.step)
        with self._full_disk_told():
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
        if not saved:
            raise RuntimeError(f"the checkpoint of step {step} was not saved, as a newer one is there")
        if self._is_first:
            self._sealing = threading.Thread(target=self._seal, args=(step,), name="seal_checkpoint")
            self._sealing.start()

    def wait(self) -> None:
        """Returns once everything is on disk.

        Raises:
          UserError: a save in the background found no room on the disk.
          Exception: a save in the background failed; whatever it failed with.
        """
        with self._full_disk_told():
            self._manager.wait_until_finished()
        if self._sealing:
            self._sealing.join()
            self._sealing = None

    def restore(self, state: TrainState, running: Tree, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest whole checkpoint, or None if there is none at all; damaged newer ones are moved aside.

        Args:
          state: shapes, types and shardings of the train state, as `abstract` gives them. The mesh may be another than
            the one the checkpoint was saved on.
          running: those of the running metrics.
          at_most: leave out checkpoints of later steps, which stay as they are.

        Raises:
          UserError: there are checkpoints, but all are damaged; or the newest whole one is of another model.
        """

        def read(step: int) -> Checkpoint:
            about = self._read(step, about=ocp.args.JsonRestore())["about"]
            wanted = {"state": state, "running": running} | ({"best": state.inference()} if about["best"] else {})
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
            # Orbax would refuse to save below them, and count them among those to keep.
            self._move_aside([s for s in self._steps(at_most) if s > int(found.state.step)], "damaged")
        return found

    def restore_inference(self, state: TrainState, which: str) -> tuple[int, InferenceState, str] | None:
        """What answers at the "best" evaluation or at the "last" step; without any evaluation the last is the best.

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
            return step, self._read_arrays(step, state=state)["state"].inference(), about["fingerprint"]

        return self._newest(read)

    def move_aside(self, after: int, label: str) -> None:
        """Renames the checkpoints of later steps than `after` to `LABEL-STEP-TIME`; waits for a save under way.

        They are kept, but never restored or deleted.
        """
        self.wait()
        self._move_aside([step for step in self._steps() if step > after], label)

    def close(self) -> None:
        """Waits for a save under way, and lets go of the folder; raises what `wait` raises."""
        try:
            self.wait()
        finally:
            self._manager.close()

    # ---- Saving.

    def _write_checksums(self) -> None:
        """Called by Orbax in the background, in the first process, when all is written but not committed yet."""
        uncommitted = self._folder / f"{self._saving}{ocp.path.atomicity_types.TMP_DIR_SUFFIX}"
        checksums.write(uncommitted, leave_out=_WRITTEN_LAST)

    def _seal(self, step: int) -> None:
        """Adds the checksums of what was written at the commit."""
        try:
            self._manager.wait_until_finished()
        except Exception:
            return  # The thread that saves is told of it as well.
        try:
            checksums.write(self._folder / str(step))
        except (OSError, ValueError) as error:
            logging.warning(
                "The checkpoint of step %d is whole, but %s has no checksum: %s", step, _WRITTEN_LAST, error
            )

    @contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if reason := _no_room(error):
                raise UserError(
                    f"--workdir: could not save the checkpoint of step {self._saving} in '{self._folder}': {reason}; "
                    "the checkpoints before it are whole; make room and run the same command again"
                ) from error
            raise

    # ---- Restoring.

    def _newest(self, read: Callable[[int], Result], at_most: int | None = None) -> Result | None:
        steps = self._steps(at_most)
        undamaged = (step for step in reversed(steps) if self._is_undamaged(step))
        while (step := _agreed(next(undamaged, _NO_STEP) if self._is_first else _NO_STEP)) != _NO_STEP:
            try:
                result, failure = read(step), ""
            except UserError:
                raise
            except Exception as error:  # Orbax, TensorStore and the file system each raise their own.
                failure = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            if _in_all_processes(not failure):
                return result
            self._pass_over(step, failure or "another process could not read it")
        if not _agreed(len(steps)):
            return None
        if self._read_only:
            # A training that goes on may have put newer ones in their place.
            self._manager.reload()
            if _agreed(self._steps(at_most) != steps):
                return self._newest(read, at_most)
        raise UserError(
            f"--workdir: all checkpoints in '{self._folder}' are damaged (steps {steps[::-1]}); "
            "put one back from a copy, or start again with --overwrite"
        )

    def _is_undamaged(self, step: int) -> bool:
        """Whether it is, as far as its checksums tell; the log says what they tell."""
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
            self._pass_over(step, "; ".join(phrases[:3]) + more)
        return not phrases

    def _pass_over(self, step: int, reason: str) -> None:
        logging.warning("The checkpoint of step %d is damaged and passed over: %s", step, reason)

    def _read_arrays(self, step: int, **wanted: Tree) -> Any:
        """Items as arrays, like the abstract trees in `wanted`.

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

    def _read(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _steps(self, at_most: int | None = None) -> list[int]:
        return sorted(step for step in self._manager.all_steps() if at_most is None or step <= at_most)

    def _move_aside(self, steps: Sequence[int], label: str) -> None:
        if not _agreed(len(steps)):
            return
        for step in steps if self._is_first else ():
            os.replace(self._folder / str(step), self._folder / f"{label}-{step}-{time.time_ns()}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints moved aside")
        self._manager.reload()


class _OwnCopy:
    """A copy of a large state that lies in the CPU's memory, in buffers that are kept from save to save.

    Orbax copies what lies on an accelerator, but writes from an array in the CPU's memory itself. So the next step,
    which would use up the array, makes a copy instead, in fresh memory, while Orbax keeps all cores busy: with 100
    million parameters on two cores that step took up to 1.4 s in place of 0.02 s. A copy to memory that is there
    already took 0.02 s.
    """

    def __init__(self):
        self._state: TrainState | None = None

    def of(self, state: TrainState) -> TrainState:
        """A copy, good until the next call; the state itself where there is nothing to gain."""
        leaves = jax.tree.leaves(state)
        on_cpu = all(device.platform == "cpu" for device in state.step.devices())
        if not on_cpu or sum(leaf.nbytes for leaf in leaves) < _LARGE:
            return state
        if self._state is None:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
            self._copy = jax.jit(_copy, donate_argnums=0, keep_unused=True, out_shardings=shardings)
        self._state = self._copy(self._state, state)
        return jax.block_until_ready(self._state)


def _copy(buffers: TrainState | None, state: TrainState) -> TrainState:
    del buffers  # Given away; the copy takes their memory.
    return jax.tree.map(jnp.copy, state)


def _no_room(error: BaseException | None) -> str:
    """What the system says if there was no room on the disk; empty for another error."""
    while error is not None:
        # TensorStore gives the number in its text only.
        numbers = [getattr(error, "errno", None), *map(int, re.findall(r"os_error_code='(\d+)'", str(error)))]
        for number in numbers:
            if number in _NO_ROOM:
                return os.strerror(number).lower()
        error = error.__cause__ or error.__context__
    return ""


def _differences(saved: Tree, wanted: Tree) -> list[str]:
    """How the arrays of a checkpoint differ from those asked for: a phrase for each."""
    there, here = _shapes(saved), _shapes(wanted)
    phrases = [
        f"{name} is {there[name]} there, {shape} here" if name in there else f"{name} is not there, {shape} here"
        for name, shape in here.items()
        if there.get(name) != shape
    ]
    return phrases + [f"{name} is {there[name]} there, not here" for name in there if name not in here]


def _shapes(tree: Tree) -> dict[str, str]:
    """Path to shape and type, as Orbax sees them: a random key is the numbers it is made of."""
    shapes = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        shapes[jax.tree_util.keystr(path, simple=True, separator="/")] = f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
    return shapes


def _agreed(value: int) -> int:
    """The first process's value, in all of them."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if jax.process_count() > 1 else int(value)


def _in_all_processes(fine: bool) -> bool:
    """Whether it is so in every one of them."""
    return bool(np.all(multihost_utils.process_allgather(np.bool_(fine)))) if jax.process_count() > 1 else fine


def _without_errors_of_orbax(record: logging.LogRecord) -> bool:
    """Leaves out its tracebacks: what fails in its threads is raised where a save is waited for, and told once."""
    trace = record.exc_info[2] if record.exc_info else None
    texts = [record.pathname, record.getMessage(), *(frame.filename for frame in traceback.extract_tb(trace))]
    return record.levelno != logging.ERROR or not any("orbax" in text for text in texts)
