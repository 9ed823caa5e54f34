"""The lines that a run prints before its first step."""

import sys

import jax

from data import description
from trainers.processes import coordination
from trainers.run.run_state import Run, RunState
from trainers.step.state import num_parameters


def announce(run: Run, at: RunState) -> None:
    """Prints what the data hold, and model, length and devices of a run to standard error, once for all processes."""
    if coordination.process_index() == 0:
        verb = f"resuming at step {at.step}" if at.step else "starting"
        lines = description.describe(run.dataset, run.training.config.data)
        print("\n".join([*lines, f"{describe(run)}; {verb}"]), file=sys.stderr, flush=True)


def describe(run: Run) -> str:
    """Model, data, length and devices of a run, in one line."""
    training, split = run.training, run.dataset.splits["train"]
    config, devices = training.config, training.mesh.devices.flat
    without_weight = int((split.weights == 0).sum())
    left_out = f" ({without_weight} of weight 0 or corrupt)" if without_weight else ""
    count = coordination.process_count()
    partition = training.program.partition
    some = num_parameters(jax.eval_shape(partition.select, training.shapes.params))
    trained = f" ({some:,} of them trained)" if partition.frozen else ""
    return (
        f"{config.model.name}, {training.num_parameters:,} parameters{trained}; {config.data.source}, "
        f"{len(split):,} training examples{left_out}; "
        f"{run.rules.total_steps:,} steps of {config.train.batch_size}; "
        f"{len(devices)} {devices[0].device_kind} device{'s' * (len(devices) > 1)}"
        f"{f' in {count} processes' if count > 1 else ''}, mesh {dict(training.mesh.shape)} by {config.parallel.mode}; "
        f"execution {config.execution.mode}"
    )
