"""Multilayer perceptron, for tables and for small images; categories are embedded."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, PRNGKeyArray

from models.interface import Model, Scalar, require_positive
from models.regularization import Regularization
from models.tables import count_numeric, split_columns
from plumbline import axes, unknown_name

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "silu": jax.nn.silu}


class Mlp(Model):
    """Dense layers, each followed by an activation and dropout; categorical columns enter through embeddings.

    Embeddings of categories: Guo and Berkhahn 2016, "Entity Embeddings of Categorical Variables", section 3.
    """

    embeddings: nnx.List[nnx.Embed]
    hidden: nnx.List[nnx.Linear]
    head: nnx.Linear
    activation: str

    # Layers in pairs: the first is sharded by outputs, the second by inputs, so that devices sum only the result of the
    # second (Shoeybi et al. 2019, "Megatron-LM", section 3).
    partition_rules = (
        (r"^hidden/\d*[02468]/kernel$", (None, "tensor")),
        (r"^hidden/\d*[02468]/bias$", ("tensor",)),
        (r"^hidden/\d*[13579]/kernel$", ("tensor", None)),
    )

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        hidden_sizes: Sequence[int] = (128, 128),
        embedding_size: int = 0,
        activation: str = "relu",
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        """Takes further arguments to those of `models/interface.py`, of which `remat` is ignored.

        Args:
          hidden_sizes: units of each hidden layer; () gives a linear model on the embeddings.
          embedding_size: units of a category embedding; 0 means min(50, (categories + 1) // 2) for each column.
          activation: "relu", "gelu" or "silu".

        Raises:
          UserError: unknown activation, or a size below 1.
        """
        if activation not in ACTIVATIONS:
            raise unknown_name("model.mlp.activation", activation, ACTIVATIONS)
        require_positive("model.mlp.hidden_sizes", *hidden_sizes)
        require_positive("model.mlp.embedding_size", embedding_size or 1)
        widths = [embedding_size or min(50, (size + 1) // 2) for size in categories]
        self.embeddings = nnx.List(
            nnx.Embed(size, width, dtype=dtype, rngs=rngs) for size, width in zip(categories, widths, strict=True)
        )
        sizes = [count_numeric(input_shape, categories) + sum(widths), *hidden_sizes]
        self.hidden = nnx.List(
            nnx.Linear(fan_in, fan_out, kernel_init=nnx.initializers.he_normal(), dtype=dtype, rngs=rngs)
            for fan_in, fan_out in itertools.pairwise(sizes)
        )
        self.head = nnx.Linear(sizes[-1], num_outputs, rngs=rngs)
        self.activation = activation

    def tensor_units(self) -> dict[str, int]:
        """Returns the units of the layers that are sharded by outputs."""
        units = (layer.out_features for layer in self.hidden[::2])
        return {"model.mlp.hidden_sizes": math.gcd(*units)} if self.hidden else {}

    def num_layers(self) -> int:
        """Counts the embeddings, each hidden layer, and the head."""
        return len(self.hidden) + 2

    def layer(self, path: str) -> int:
        """Numbers hidden layers from 1."""
        return int(path.split("/")[1]) + 1 if path.startswith("hidden/") else super().layer(path)

    def features(
        self,
        inputs: Float[Array, "batch ..."],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch features"]:
        """Computes the last hidden layer; ignores `stochastic_depth`. Arguments as in `Model`."""
        *_, values = self._layers(inputs, Regularization.from_arguments(training=training, key=key, dropout=dropout))
        return values.astype(jnp.float32)

    def representations(self, inputs: Float[Array, "batch ..."]) -> dict[str, Float32[Array, "batch _"]]:
        """Computes the columns with embeddings, if any, and each hidden layer; the last one is "features"."""
        values = [
            layer.astype(jnp.float32)
            for layer in self._layers(inputs, Regularization.from_arguments(training=False, key=None))
        ]
        names = ["embeddings", *(f"hidden/{layer}" for layer in range(len(self.hidden)))]
        found = dict(zip([*names[:-1], "features"], values, strict=True))
        # Without embeddings, the columns are the inputs.
        return {name: layer for name, layer in found.items() if name != "embeddings" or self.embeddings}

    def _layers(
        self, inputs: Float[Array, "batch ..."], regularization: Regularization
    ) -> Iterator[Float[Array, "batch units"]]:
        """Yields the input of the first hidden layer, then each hidden layer."""
        numeric, codes = split_columns(inputs, len(self.embeddings))
        columns = [numeric.astype(jnp.float32)]
        for column, embedding in enumerate(self.embeddings):
            columns.append(embedding(codes[:, column]).astype(jnp.float32))
        values = jnp.concatenate(columns, axis=1)
        yield values
        for layer, dense in enumerate(self.hidden):
            values = ACTIVATIONS[self.activation](dense(values))
            values = axes.constrain(values, axes.BATCH, axes.TENSOR if layer % 2 == 0 else None)
            values = regularization.drop_units(values, layer)
            yield values
