"""What a train step reads and how much it computes, known before anything is compiled."""

import jax
import jax.numpy as jnp

from trainers import flops
from trainers.state import Program, TrainState, make_program
from trainers.step import make_train_step


def batch_shapes(program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a global batch, as a train step reads it."""
    features, size = program.features, program.config.train.batch_size
    return {
        "inputs": jax.ShapeDtypeStruct((size, *features.shape), features.dtype),
        "labels": jax.ShapeDtypeStruct((size, *features.label_shape), features.label_dtype),
        "weight": jax.ShapeDtypeStruct((size,), jnp.float32),
    }


def model_flops(program: Program, state: TrainState) -> int:
    """Floating-point operations of one step over all devices, by `flops.RULE`.

    Args:
      program: of the run.
      state: the state, or its shapes.
    """
    config = program.config.copy_and_resolve_references()
    if config.model.remat != "none":
        config.model.remat = "none"
        program, _ = make_program(config, program.features, program.objective, program.used, program.schedule)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    return flops.count(jax.make_jaxpr(make_train_step(program))(shapes, batch_shapes(program))).total
