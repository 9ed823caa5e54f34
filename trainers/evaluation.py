"""Metrics of a whole split: every example counted once, on any number of devices."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from data import Split
from data.batches import evaluation_batches
from plumbline import UserError
from trainers.mesh import replicated, sharded_batch
from trainers.state import InferenceState, Program
from trainers.step import make_evaluation_step


def make_evaluate(program: Program, mesh: Mesh) -> Callable[[InferenceState, Split], dict[str, float]]:
    """The function `(inference state, split) -> metrics by name`, compiled once for all calls.

    Raises:
      UserError: the evaluation batch cannot be shared out evenly over the devices.
    """
    config = program.config
    batch_size = config.evaluation.batch_size or config.train.batch_size
    if batch_size % mesh.size:
        raise UserError(f"evaluation.batch_size: {batch_size} is not divisible over {mesh.size} devices")
    step = jax.jit(make_evaluation_step(program), in_shardings=(replicated(mesh), sharded_batch(mesh)))

    def evaluate(state: InferenceState, split: Split) -> dict[str, float]:
        batches = evaluation_batches(split, batch_size=batch_size, workers=config.data.workers)
        # Batches are added up in float64 on the host, so that their number does not matter.
        pending = [step(state, batch) for batch in batches]
        totals = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), axis=0), *jax.device_get(pending))
        return program.objective.metrics(totals, state.preprocessing)

    return evaluate


def overall(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics over all examples: those of single classes and groups left out."""
    return {name: value for name, value in metrics.items() if "/" not in name}
