"""Low-rank adapters of linear layers.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1: a layer computes
`x W + b + alpha / rank * (x A) B`, where W is not trained, A is drawn at random, and B starts at zero.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from models.interface import Model, require_positive
from plumbline import UserError

Tree = Any
# Names of the adapters of a layer, next to `kernel` and `bias`.
NAMES = ("lora_a", "lora_b")

_FIELD = "transfer.lora.patterns"


class LoraLinear(nnx.Linear):
    """A linear layer with adapters. In stacked blocks, adapters are stacked like all parameters."""

    lora_a: nnx.Param
    lora_b: nnx.Param
    scale: float

    def __init__(self, linear: nnx.Linear, *, rank: int, scale: float, key: PRNGKeyArray):
        """Takes the attributes of a linear layer; `scale` is alpha / rank."""
        for name in _ATTRIBUTES:
            setattr(self, name, getattr(linear, name))
        *blocks, inputs, outputs = self.kernel.shape
        self.lora_a = nnx.Param(jax.random.normal(key, (*blocks, inputs, rank)) / inputs**0.5)
        self.lora_b = nnx.Param(jnp.zeros((*blocks, rank, outputs)))
        self.scale = scale

    def __call__(self, inputs: Float[Array, "... inputs"], out_sharding: Any = None) -> Float[Array, "... outputs"]:
        """Applies kernel, bias and adapters along the last dimension."""
        outputs = super().__call__(inputs, out_sharding)
        inputs, first, second = self.promote_dtype((inputs, self.lora_a[...], self.lora_b[...]), dtype=self.dtype)
        return outputs + (self.scale * (inputs @ first) @ second).astype(outputs.dtype)


# The attributes of a linear layer.
_ATTRIBUTES = (
    "kernel",
    "bias",
    "in_features",
    "out_features",
    "use_bias",
    "dtype",
    "param_dtype",
    "precision",
    "dot_general",
    "promote_dtype",
    "preferred_element_type",
)


def add(model: Model, patterns: Sequence[str], *, rank: int, alpha: float, key: PRNGKeyArray) -> None:
    """Adds adapters to linear layers of a model, except its head.

    Args:
      model: model whose layers are replaced in place.
      patterns: regular expressions over paths of layers, such as "blocks/attention/query", without block numbers.
        Layers that match one of them get adapters.
      rank: rank of the adapters.
      alpha: the product of the adapters is scaled by alpha / rank.
      key: random key of the initial adapters; may be traced.

    Raises:
      UserError: a pattern is not a regular expression or matches no linear layer, or the rank is below 1.
    """
    if not patterns:
        return
    require_positive("transfer.lora.rank", rank)
    layers = [path for path, module in nnx.iter_modules(model) if isinstance(module, nnx.Linear)]
    layers = sorted((path for path in layers if path != ("head",)), key=str)
    names = ["/".join(map(str, path)) for path in layers]
    chosen = set()
    for pattern in patterns:
        try:
            found = [path for path, name in zip(layers, names, strict=True) if re.search(pattern, name)]
        except re.error as error:
            raise UserError(f"{_FIELD}: '{pattern}' is not a regular expression: {error}") from None
        if not found:
            there = ", ".join(names) or "none"
            raise UserError(f"{_FIELD}: '{pattern}' matches no linear layer; choose from {there}")
        chosen.update(found)
    for number, path in enumerate(layers):
        if path in chosen:
            parent = model
            for part in path[:-1]:
                parent = _child(parent, part)
            layer = LoraLinear(
                _child(parent, path[-1]), rank=rank, scale=alpha / rank, key=jax.random.fold_in(key, number)
            )
            if isinstance(path[-1], int):
                parent[path[-1]] = layer
            else:
                setattr(parent, path[-1], layer)


def merge(params: Tree, scale: float) -> Tree:
    """Merges adapters into their kernels, for the same model without adapters.

    Args:
      params: nested dict of parameters; returned unchanged if there are no adapters.
      scale: alpha / rank.
    """
    if not isinstance(params, Mapping):
        return params
    merged = {name: merge(part, scale) for name, part in params.items() if name not in NAMES}
    if NAMES[0] in params:
        merged["kernel"] = params["kernel"] + scale * (params[NAMES[0]] @ params[NAMES[1]])
    return merged


def find_kernels(params: Tree, prefix: str = "") -> list[str]:
    """Returns the paths of kernels with adapters."""
    if not isinstance(params, Mapping):
        return []
    own = [f"{prefix}kernel"] if NAMES[0] in params else []
    return own + [path for name, part in params.items() for path in find_kernels(part, f"{prefix}{name}/")]


def _child(module: Any, name: str | int) -> Any:
    return module[name] if isinstance(name, int) else getattr(module, name)
