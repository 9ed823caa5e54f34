"""The registry of models, by their name in a config."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from models.bert import Bert
from models.convnext import ConvNeXt
from models.gpt import Gpt
from models.interface import Model
from models.linear import Linear
from models.mlp import Mlp
from models.remat import REMAT
from models.resnet import ResNet
from models.vit import VisionTransformer
from plumbline import unknown_name

REGISTRY: dict[str, type[Model]] = {
    "linear": Linear,
    "mlp": Mlp,
    "resnet": ResNet,
    "convnext": ConvNeXt,
    "vit": VisionTransformer,
    "bert": Bert,
    "gpt": Gpt,
}

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build(
    options: ml_collections.ConfigDict | Mapping[str, Any],
    *,
    input_shape: tuple[int, ...],
    categories: tuple[int, ...],
    num_outputs: int,
    key: jax.Array,
) -> Model:
    """Builds the model that a config names, with new parameters.

    Args:
      options: `config.model`. Its `name`, `dtype` and `remat` are read, and the section named like the model, whose
        fields are arguments of the constructor. `dropout` and `stochastic_depth` are arguments of the call instead.
      input_shape: shape of one example after preprocessing: (height, width, channels), (columns,) of a table, or
        (tokens,) of a text.
      categories: vocabulary sizes of the categorical columns, which are the last columns of a table; for texts the
        vocabulary size of the tokenizer; else ().
      num_outputs: number of classes, of values to predict or, for language modelling, of tokens.
      key: random key of the initial parameters; may be traced.

    Raises:
      UserError: unknown name or choice, or sizes that do not fit the inputs.
    """
    name = options["name"]
    if name not in REGISTRY:
        raise unknown_name("model.name", name, REGISTRY)
    if options["dtype"] not in DTYPES:
        raise unknown_name("model.dtype", options["dtype"], DTYPES)
    if options["remat"] not in REMAT:
        raise unknown_name("model.remat", options["remat"], REMAT)
    return REGISTRY[name](
        **options[name],
        input_shape=tuple(input_shape),
        categories=tuple(categories),
        num_outputs=num_outputs,
        dtype=DTYPES[options["dtype"]],
        remat=options["remat"],
        rngs=nnx.Rngs(key),
    )
