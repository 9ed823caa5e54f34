"""Metrics of a whole split, in which every example counts once on any number of devices."""

from collections.abc import Callable, Mapping

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from data import Split
from data.batches import evaluation_batches
from plumbline import UserError
from trainers.building import Training
from trainers.devices.mesh import (
    global_batch,
    in_flight,
    local_rows,
    num_batch_shards,
    on_mesh,
    replicated,
    sharded_batch,
)
from trainers.step.state import InferenceState, Program
from trainers.step.train_step import make_evaluation_step

Evaluate = Callable[[InferenceState, Split], dict[str, float]]
"""`(inference state, split) -> metrics by name`."""


def make_run_evaluate(training: Training) -> Evaluate:
    """The evaluation of a training over its own mesh; raises what `make_evaluate` raises."""
    size = evaluation_batch_size(training.config)
    return make_evaluate(training.program, training.mesh, training.shardings.inference(), batch_size=size)


def make_evaluate(program: Program, mesh: Mesh, shardings: InferenceState, *, batch_size: int) -> Evaluate:
    """The function `(inference state, split) -> metrics by name`, compiled once for all calls.

    Args:
      program: of the run.
      mesh: devices.
      shardings: of the inference state.
      batch_size: examples of a global batch.

    Raises:
      UserError: the evaluation batch cannot be split evenly over the devices.
    """
    parts = num_batch_shards(mesh)
    if batch_size % parts:
        raise UserError(
            f"evaluation.batch_size: {batch_size} is not divisible over {parts} parts (mesh.data x mesh.fsdp); "
            f"take a multiple of {parts}"
        )
    step = jax.jit(
        on_mesh(mesh, make_evaluation_step(program)),
        in_shardings=(shardings, sharded_batch(mesh)),
        out_shardings=replicated(mesh),
    )
    rows, (most_in_flight, _) = local_rows(mesh, batch_size), in_flight(mesh)

    def evaluate(state: InferenceState, split: Split) -> dict[str, float]:
        batches = evaluation_batches(split, batch_size=batch_size, rows=rows, workers=program.config.data.workers)
        # Batches are summed in float64 on the host, so the result does not depend on their number.
        pending = []
        for batch in batches:
            pending.append(step(state, global_batch(mesh, batch, batch_size)))
            jax.block_until_ready(pending[-most_in_flight - 1 : -most_in_flight])
        totals = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), axis=0), *jax.device_get(pending))
        return program.objective.metrics(totals, state.preprocessing)

    return evaluate


def evaluation_batch_size(config: ml_collections.ConfigDict) -> int:
    """Examples in one batch of evaluation: that of training, unless the config says otherwise."""
    return config.evaluation.batch_size or config.train.batch_size


def overall(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics over all examples, without those of single classes and groups."""
    return {name: value for name, value in metrics.items() if "/" not in name}
