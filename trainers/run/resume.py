"""The state that a run starts from: that of its newest valid checkpoint, or a new one."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from trainers.building import Training
from trainers.devices.execution_plan import Plan
from trainers.devices.mesh import replicated
from trainers.devices.sharding import abstract
from trainers.processes import coordination
from trainers.run import extension
from trainers.run.checkpoints import Checkpoint, Checkpoints
from trainers.run.directory import RunDirectory
from trainers.run.run_state import Run, RunState
from trainers.step.hyperparameters import Hyperparameters
from trainers.step.state import Start, TrainState
from trainers.step.train_step import zero_metrics


@contextmanager
def open_checkpoints(directory: RunDirectory, *, keep: int) -> Iterator[Checkpoints]:
    """Opens the checkpoints of a run; waits for the last save at the end.

    Args:
      directory: of the run.
      keep: how many checkpoints to keep.
    """
    checkpoints = Checkpoints(directory.checkpoints, keep=keep)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def restore_or_begin(run: Run, checkpoints: Checkpoints, plan: Plan) -> RunState:
    """The state after the newest valid checkpoint, or a new one if there is no checkpoint.

    Args:
      run: that is to take steps.
      checkpoints: of the run.
      plan: how a new run dispatches its steps.

    Raises:
      UserError: all checkpoints are damaged, or the data are not those that the run began with.
    """
    # What process 0 reads counts, in case the files are rewritten meanwhile.
    directory = run.directory
    written, rollback, extensions = coordination.broadcast(
        [directory.execution(), directory.rollback(), [each["step"] for each in directory.extensions()]]
    )
    restored = restore(run, checkpoints)
    if restored is not None:
        run.dataset.check_same(restored.fingerprint, run.directory.features(), source=run.training.config.data.source)
    if restored is not None and written:
        plan = Plan.from_json(written)
        # Several processes do not continue a trial that one process began: each would measure something else.
        plan = dataclasses.replace(plan, decided=plan.decided or coordination.process_count() > 1)
    if restored is not None and extensions:
        restored = _extend(restored, run.training, extensions[-1])
    run.goodput.resume_from(restored.extra if restored else {})
    return dataclasses.replace(start_from(run, restored, plan), rollback=rollback)


def restore(run: Run, checkpoints: Checkpoints, *, at_most: int | None = None) -> Checkpoint | None:
    """The newest valid checkpoint, up to step `at_most`; None if there is none."""
    sums = jax.eval_shape(lambda: zero_metrics(run.training.program))
    found = checkpoints.restore(
        run.training.abstract_state, abstract(sums, replicated(run.training.mesh)), at_most=at_most
    )
    return found and dataclasses.replace(found, state=_add_hyperparameters(found.state, run.training))


def start_from(run: Run, restored: Checkpoint | None, plan: Plan) -> RunState:
    """The state in a checkpoint, or a new one; removes the lines of metrics after it."""
    state = restored.state if restored else _make_first_state(run.training, run.start)
    step = int(state.step)
    run.directory.forget_metrics_after(step)
    return RunState(
        state=state,
        running=restored.running if restored else run.zero_sums(),
        step=step,
        best=restored.best if restored else None,
        plan=plan,
        saved_step=step if restored else None,
    )


def _extend(restored: Checkpoint, training: Training, since: int) -> Checkpoint:
    """Restarts the schedule in a checkpoint from before the extension; others have it.

    Args:
      restored: the checkpoint.
      training: the extended one.
      since: steps of the run before its last extension.
    """
    step = int(restored.state.step)
    if step > since or step >= training.clock.total_steps:
        return restored
    values = extension.changed_hyperparameters(training.config, training.clock.total_steps, step)
    return dataclasses.replace(restored, state=_with_hyperparameters(restored.state, training, values))


def _add_hyperparameters(state: TrainState, training: Training) -> TrainState:
    """Adds the hyperparameters that were added to the config after the state was saved."""
    _, values, _ = training.init_arguments
    added = {name: value for name, value in values.items() if name not in state.hyperparameters}
    return _with_hyperparameters(state, training, added)


def _with_hyperparameters(state: TrainState, training: Training, values: Hyperparameters) -> TrainState:
    """The train state with other or more hyperparameters."""
    placed = _place_start(training, {"hyperparameters": values})["hyperparameters"]
    return dataclasses.replace(state, hyperparameters={**state.hyperparameters, **placed})


def _make_first_state(training: Training, start: Start) -> TrainState:
    # Compiled and run once. On CPU most of LLVM's optimization would be wasted.
    on_cpu = training.mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    init = jax.jit(training.init, out_shardings=training.shardings, compiler_options=options)
    return init(*training.init_arguments, _place_start(training, start))


def _place_start(training: Training, start: Start) -> Start:
    """The arrays that a run begins with, sharded as the state is."""

    def place(tree: Any, shardings: Any) -> Any:
        if isinstance(tree, Mapping):
            return {name: place(part, shardings[name]) for name, part in tree.items()}
        return jax.make_array_from_callback(tree.shape, shardings, lambda index: tree[index])

    return {name: place(tree, getattr(training.shardings, name)) for name, tree in start.items()}
