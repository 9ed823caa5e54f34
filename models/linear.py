"""Linear model: softmax regression or linear regression, the baseline for all other models."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, PRNGKeyArray

from models.interface import Model, Scalar
from models.tables import count_numeric, split_columns


class Linear(Model):
    """One dense layer on the flattened image, or on the numeric columns and one-hot codes of a table."""

    # The head uses the type of the model, because there is no other layer.
    head: nnx.Linear
    categories: tuple[int, ...]

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        """Takes the arguments of `models/interface.py`; `remat` is ignored. Starts from zero: the loss is convex."""
        num_features = count_numeric(input_shape, categories) + sum(categories)
        self.head = nnx.Linear(num_features, num_outputs, kernel_init=nnx.initializers.zeros, dtype=dtype, rngs=rngs)
        self.categories = categories

    def features(
        self,
        inputs: Float[Array, "batch ..."],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch features"]:
        """Returns the numeric columns, then the one-hot codes. Not regularised. Arguments as in `Model`."""
        numeric, codes = split_columns(inputs, len(self.categories))
        columns = [numeric.astype(jnp.float32)]
        for column, size in enumerate(self.categories):
            columns.append(jax.nn.one_hot(codes[:, column], size, dtype=jnp.float32))
        return jnp.concatenate(columns, axis=1)
