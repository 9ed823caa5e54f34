"""Checkpoints: all that a run needs to go on or to answer, saved by Orbax in the background."""

import dataclasses
import logging
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from plumbline import UserError
from trainers.state import InferenceState, TrainState
from trainers.step import Metrics

Tree = Any
Result = TypeVar("Result")


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
    """

    state: TrainState
    running: Metrics
    best: Best | None
    fingerprint: str


class Checkpoints:
    """The checkpoints of one run, by step.

    The newest that is whole is used; a damaged one is named in the log and passed over. There is never a silent fresh
    start: if all that are there are damaged, that is an error.
    """

    def __init__(self, path: str | os.PathLike, *, keep: int = 1, read_only: bool = False):
        """Opens the folder.

        Args:
          path: folder; made if it is not there, unless `read_only`.
          keep: how many checkpoints to keep, newest first.
          read_only: nothing will be saved; leftovers of saves that were cut short stay.
        """
        managers = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.LatestN(keep),
            save_decision_policy=managers.FixedIntervalPolicy(1),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        self._manager = ocp.CheckpointManager(pathlib.Path(path).absolute(), options=options)

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves in the background; returns as soon as the arrays are copied. Waits for a save still under way."""
        best = checkpoint.best
        about = {"fingerprint": checkpoint.fingerprint, "best": best and {"step": best.step, "value": best.value}}
        items = {
            "state": ocp.args.StandardSave(checkpoint.state),
            "running": ocp.args.StandardSave(checkpoint.running),
            "about": ocp.args.JsonSave(about),
        }
        if best:
            items["best"] = ocp.args.StandardSave(best.state)
        step = int(checkpoint.state.step)
        if not self._manager.save(step, args=ocp.args.Composite(**items)):
            raise RuntimeError(f"the checkpoint of step {step} was not saved, as a newer one is there")

    def wait(self) -> None:
        """Returns once everything is on disk.

        Raises:
          Exception: a save in the background failed; whatever it failed with.
        """
        self._manager.wait_until_finished()

    def restore(self, state: TrainState, running: Tree) -> Checkpoint | None:
        """The newest whole checkpoint, or None if there is none at all; damaged newer ones are moved aside.

        Args:
          state: shapes, types and shardings of the train state, as `abstract` gives them.
          running: those of the running metrics.

        Raises:
          UserError: there are checkpoints, but all are damaged.
        """

        def read(step: int) -> Checkpoint:
            about = self._read(step, about=ocp.args.JsonRestore())["about"]
            wanted = {"state": ocp.args.StandardRestore(state), "running": ocp.args.StandardRestore(running)}
            if about["best"]:
                wanted["best"] = ocp.args.StandardRestore(state.inference())
            items = self._read(step, **wanted)
            best = about["best"] and Best(**about["best"], state=items["best"])
            return Checkpoint(
                state=items["state"], running=items["running"], best=best, fingerprint=about["fingerprint"]
            )

        found = self._newest(read)
        if found:
            self._move_aside_after(int(found.state.step))
        return found

    def restore_inference(self, state: TrainState, which: str) -> tuple[int, InferenceState, str] | None:
        """What answers at the "best" evaluation or at the "last" step; without any evaluation the last is the best.

        Args:
          state: as for `restore`.
          which: "best" or "last".

        Returns:
          Its step, the inference state and the fingerprint of the data; None without a checkpoint.

        Raises:
          UserError: there are checkpoints, but all are damaged.
        """

        def read(step: int) -> tuple[int, InferenceState, str]:
            about = self._read(step, about=ocp.args.JsonRestore())["about"]
            if which == "best" and about["best"]:
                items = self._read(step, best=ocp.args.StandardRestore(state.inference()))
                return about["best"]["step"], items["best"], about["fingerprint"]
            items = self._read(step, state=ocp.args.StandardRestore(state))
            return step, items["state"].inference(), about["fingerprint"]

        return self._newest(read)

    def close(self) -> None:
        """Waits for a save under way, and lets go of the folder."""
        self._manager.close()

    def _newest(self, read: Callable[[int], Result]) -> Result | None:
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return read(step)
            except Exception as error:  # Orbax, TensorStore and the file system each raise their own.
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                logging.warning("The checkpoint of step %d is damaged and passed over: %s", step, reason)
        if steps:
            raise UserError(
                f"--workdir: all checkpoints in '{self._manager.directory}' are damaged (steps {steps}); "
                "put one back from a copy, or start again with --overwrite"
            )
        return None

    def _move_aside_after(self, step: int) -> None:
        """Renames damaged checkpoints: Orbax would refuse to save below them, and count them among those to keep."""
        damaged = [newer for newer in self._manager.all_steps() if newer > step]
        for newer in damaged:
            folder = pathlib.Path(self._manager.directory)
            os.replace(folder / str(newer), folder / f"damaged-{newer}-{time.time_ns()}")
        if damaged:
            self._manager.reload()

    def _read(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """The tree with shapes, types and `sharding` in place of arrays: what a restore needs."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
