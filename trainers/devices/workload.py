"""The batch that a train step reads and the FLOPs that it takes, known before anything is compiled."""

import dataclasses

import jax
import jax.numpy as jnp

from trainers.devices import flops
from trainers.step.state import Program, TrainState, make_program
from trainers.step.train_step import make_train_step


def batch_shapes(program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a global batch, as a train step reads it."""
    features, size = program.features, program.config.train.batch_size
    inputs = jax.ShapeDtypeStruct((size, *features.shape), features.dtype)
    if program.reads_features:
        inputs = jax.ShapeDtypeStruct((size, program.params["head"]["kernel"].shape[0]), jnp.float32)
    return {
        "inputs": inputs,
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
        again, _ = make_program(config, program.features, program.objective, program.used, program.schedule)
        program = dataclasses.replace(again, reads_features=program.reads_features)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    return flops.count(jax.make_jaxpr(make_train_step(program))(shapes, batch_shapes(program))).total
