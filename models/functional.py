"""A model in inference as a pure function of its parameters, for `jax.jit`, `jax.grad` and `jax.vmap`."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jax import Array

from models.interface import Model

Params = dict[str, Any]
"""Parameters as nested dicts of arrays, named as in checkpoints."""


def as_function(model: Model, method: str = "__call__") -> tuple[Callable[[Params, Array], Any], Params]:
    """Splits a model into a pure function and its parameters.

    The function runs the model in inference: no dropout, and batch norms use their running statistics, which are
    constants of the function. It never writes to the model, and may be transformed and compiled by the caller:

        logits_of, params = as_function(model)
        saliency = jax.grad(lambda inputs: logits_of(params, inputs)[:, 0].sum())(inputs)

    Args:
      model: a model with its arrays; the function keeps what it holds now.
      method: "__call__" for the logits, "features" for what the head reads, "representations" for a dict of layers.

    Returns:
      The function `(params, inputs) -> outputs`, whose inputs are preprocessed examples (batch, ...), and the
      parameters, a nested dict of float32 arrays.
    """
    graphdef, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    statistics = nnx.to_pure_dict(statistics)

    def function(params: Params, inputs: Array) -> Any:
        return getattr(nnx.merge(graphdef, params, statistics), method)(inputs)

    return function, nnx.to_pure_dict(params)
