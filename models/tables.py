"""Inputs of linear models and MLPs: the columns of a table, or a flattened image."""

import math

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int


def split_columns(
    inputs: Float[Array, "batch ..."], num_categorical: int
) -> tuple[Float[Array, "batch numeric"], Int[Array, "batch categorical"]]:
    """Flattens each example and converts its last columns to category codes.

    Args:
      inputs: examples. With categories, the last `num_categorical` columns of a table, as floats (exact up to 2^24).
      num_categorical: number of categorical columns.
    """
    rows = inputs.reshape(inputs.shape[0], -1)
    num_numeric = rows.shape[1] - num_categorical
    return rows[:, :num_numeric], rows[:, num_numeric:].astype(jnp.int32)


def count_numeric(input_shape: tuple[int, ...], categories: tuple[int, ...]) -> int:
    """Returns the number of columns that are not categorical.

    Raises:
      ValueError: there are more categorical columns than columns, or categories without a table.
    """
    if categories and len(input_shape) != 1:
        raise ValueError(f"categories need a table, but an input has the shape {input_shape}")
    num_numeric = math.prod(input_shape) - len(categories)
    if num_numeric < 0:
        raise ValueError(f"{len(categories)} categorical columns in an input of the shape {input_shape}")
    return num_numeric
