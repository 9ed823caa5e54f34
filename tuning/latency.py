"""How long a model takes to answer."""

import statistics
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data.pool import Pool
from trainers.building import build_program, make_clock
from trainers.step import hyperparameters
from trainers.step.train_step import make_outputs

_TIMES = 30


def milliseconds(config: ml_collections.ConfigDict, pool: Pool) -> float:
    """The median time of a forward pass for one example, of a model with its first parameters, in milliseconds.

    Args:
      config: of the trial.
      pool: of the examples.

    Raises:
      UserError: the model does not fit the data.
    """
    program, init = build_program(config, pool.features)
    rows = pool.splits["train"]
    clock = make_clock(config, len(rows))
    arguments = jnp.uint32(0), hyperparameters.from_config(config, clock), pool.fit(rows, config.data)
    state = jax.jit(init)(*arguments)
    outputs, inputs = jax.jit(make_outputs(program)), pool.inputs[rows[:1]]
    jax.block_until_ready(outputs(state, inputs))
    spent = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        np.asarray(outputs(state, inputs))
        spent.append(time.perf_counter() - began)
    return 1000 * statistics.median(spent)
