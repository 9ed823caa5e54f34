"""Latency of a model."""

import statistics
import time

import jax
import ml_collections
import numpy as np

from data.pool import Pool
from trainers.building import build_training
from trainers.step.train_step import make_outputs

_REPEATS = 30


def measure_latency(config: ml_collections.ConfigDict, pool: Pool) -> float:
    """Measures the median time of a forward pass for one example, with initial parameters, in milliseconds.

    Args:
      config: of the trial.
      pool: of examples.

    Raises:
      UserError: the model does not fit the data.
    """
    rows = pool.splits["train"]
    training = build_training(config, pool.features, pool.fit(rows, config.data), num_examples=len(rows))
    state = jax.jit(training.init)(*training.init_arguments)
    outputs, inputs = jax.jit(make_outputs(training.program)), pool.inputs[rows[:1]]
    jax.block_until_ready(outputs(state, inputs))
    spent = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        np.asarray(outputs(state, inputs))
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)
