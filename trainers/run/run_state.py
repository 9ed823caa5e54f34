"""A run in two values: what stays the same while it takes steps, and what changes."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import jax
import jax.numpy as jnp

import data
from plumbline import UserError
from trainers.building import Training
from trainers.devices.execution_plan import Plan
from trainers.devices.mesh import replicated
from trainers.run.checkpoints import Best
from trainers.run.directory import RunDirectory
from trainers.run.evaluation import Evaluate
from trainers.run.goodput import Goodput
from trainers.run.rules import Rules
from trainers.step.state import InferenceState, Start, TrainState
from trainers.step.train_step import Metrics, zero_metrics


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What stays the same while a run takes its steps.

    Attributes:
      training: its description.
      dataset: that it reads.
      rules: of its course.
      evaluate: `(inference state, split) -> metrics by name`.
      directory: that it writes to.
      goodput: the clock of this call.
      start: arrays that a new training begins with in place of fresh values.
    """

    training: Training
    dataset: data.Dataset
    rules: Rules
    evaluate: Evaluate
    directory: RunDirectory
    goodput: Goodput
    start: Start

    @functools.cached_property
    def zero_sums(self) -> Callable[[], Metrics]:
        """Makes the sums of metrics of no step."""
        program = self.training.program
        return jax.jit(lambda: zero_metrics(program), out_shardings=replicated(self.training.mesh))

    @functools.cached_property
    def copy(self) -> Callable[[InferenceState], InferenceState]:
        """Copies an inference state, which the next step would overwrite."""
        shardings = self.training.shardings.inference()
        return jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=shardings)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunState:
    """What changes during a run.

    Attributes:
      state: the train state; its buffers are donated to the next step.
      running: sums of the training metrics since the last log line; donated as well.
      step: steps taken.
      best: the best evaluation so far; None before the first.
      plan: how steps are dispatched.
      rollback: step from which batches are skipped, their number and the reason, after a rollback; else None.
      saved_step: step of the last checkpoint; None before the first.
      saved_at: when that was, by `time.monotonic`.
      has_requested_save: whether this process has requested a checkpoint that is not saved yet.
      has_evaluated: whether there was an evaluation since this call began.
    """

    state: TrainState
    running: Metrics
    step: int
    best: Best | None
    plan: Plan
    rollback: Mapping[str, Any] | None = None
    saved_step: int | None = None
    saved_at: float = dataclasses.field(default_factory=time.monotonic)
    has_requested_save: bool = False
    has_evaluated: bool = False


@contextmanager
def record_failure(directory: RunDirectory, step: Callable[[], int]) -> Iterator[None]:
    """Writes the exception that ends the block, if one does, into the status of the run.

    Args:
      directory: of the run.
      step: returns the steps taken so far.
    """
    try:
        yield
    except Exception as error:
        # On a full disk, which may be what failed, this fails as well.
        with suppress(UserError):
            directory.write_status("failed", step(), f"{type(error).__name__}: {error}")
        raise
