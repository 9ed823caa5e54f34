"""What every model is: inputs to features to logits, with regularisation handed in at the call.

The common arguments of a model's constructor, all keyword-only; the rest are the fields of its own config section:

    input_shape: shape of one example after preprocessing: (height, width, channels), (columns,) of a table, or
      (tokens,) of a text.
    categories: vocabulary sizes of the categorical columns, which are the last ones of a table; of a text that of its
      tokens; () without any.
    num_outputs: classes, numbers to predict or, of each token, tokens that it may be.
    dtype: type of the arithmetic. Parameters, statistics of norms, features and logits are float32 whatever it is.
    remat: which activations are recomputed in the backward pass, a key of `models.remat.REMAT`; some models ignore it.
    rngs: source of initial parameters; not kept.
"""

import abc
from collections.abc import Collection
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import ArrayLike, Float, Float32, Num, PRNGKeyArray

from plumbline import UserError

Scalar = Float[ArrayLike, ""]

PartitionRules = tuple[tuple[str, tuple[str | None, ...]], ...]


class Model(nnx.Module):
    """Abstract. A tree of modules whose variables are `nnx.Param` and `nnx.BatchStat` and nothing else.

    A family defines `features` and sets `head`, which is a linear layer unless the model answers for each token.
    """

    head: nnx.Module | None

    # Whether an input is a text, as token ids; all other models read floats.
    reads_text: ClassVar[bool] = False
    # Whether the answer for a token goes by it and earlier ones alone.
    causal: ClassVar[bool] = False

    @property
    def predicts_tokens(self) -> bool:
        """Whether there is an answer for each token of an input, not for the input."""
        return False

    # How parameters may be split: (regular expression over the path, an entry for each dimension), the first that is
    # found wins. "tensor": over that axis of the mesh; "layers": never, as a loop runs along it; None: left to FSDP.
    partition_rules: ClassVar[PartitionRules] = ()

    # Submodules whose parameters are stacked along a leading axis, an entry for each block. The path of a parameter in
    # one of them has the number of the block in it where blocks are told apart: "blocks/3/mlp/out/kernel".
    stacked: ClassVar[tuple[str, ...]] = ()

    def tensor_units(self) -> dict[str, int]:
        """What the tensor axis of a mesh has to divide: sizes, by the config field that sets them."""
        return {}

    def num_layers(self) -> int:
        """How many layers `layer` tells apart, the head among them."""
        return 2

    def layer(self, path: str) -> int:
        """The layer that a parameter is in, counted from the inputs on; the head is the last one.

        Args:
          path: of the parameter, with the number of the block where blocks are stacked.
        """
        return self.num_layers() - 1 if path.startswith("head/") else 0

    def freeze(self, frozen: Collection[str]) -> None:
        """Takes note of what is never trained, before the model is split.

        Batch norms that have parameters, all of them frozen, use and keep their running statistics, in training too:
        their `use_running_average` is set, which the model has to go by. A family may spare itself more.

        Args:
          frozen: paths of parameters, with the number of the block where blocks are stacked.
        """
        for path, module in nnx.iter_modules(self):
            if isinstance(module, nnx.BatchNorm):
                where = "/".join(map(str, path))
                own = [f"{where}/{name}" for name in ("scale", "bias") if getattr(module, name) is not None]
                module.use_running_average = bool(own) and all(name in frozen for name in own)

    def __call__(
        self,
        inputs: Num[Array, "batch ..."],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch ... outputs"]:
        """Computes the logits, or the numbers predicted in a regression.

        Args:
          inputs: a batch of examples of `input_shape`; categories are codes held as floats, texts int32 ids of tokens
            with -1 after their end.
          training: batch statistics are those of this batch, and are recorded; the regularisers below act.
          key: randomness of the regularisers; each layer folds its own number into it.
          dropout: share of activations dropped; a traced scalar serves many rates with one program, 0 among them; None
            leaves it out of the program.
          stochastic_depth: share of residual branches dropped in the last block, likewise.

        Raises:
          ValueError: if a regulariser acts and there is no key.
        """
        features = self.features(inputs, training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth)
        return self.apply_head(features)

    def apply_head(self, features: Float[Array, "batch ... features"]) -> Float32[Array, "batch ... outputs"]:
        """The logits, or the numbers predicted, of what `features` gives: what the head makes of it."""
        return self.head(features).astype(jnp.float32)

    @abc.abstractmethod
    def features(
        self,
        inputs: Num[Array, "batch ..."],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch ... features"]:
        """Computes the representation that the head reads; arguments as in `__call__`."""

    def representations(self, inputs: Num[Array, "batch ..."]) -> dict[str, Float32[Array, "batch _"]]:
        """What each layer makes of the examples in inference, out of one forward pass: a vector an example.

        From the inputs on, named as paths of parameters are; what a layer has for each position is averaged over the
        positions. The last one is "features", what the head reads. A family that tells no layers apart has that alone.

        Args:
          inputs: as in `__call__`.
        """
        return {"features": self.features(inputs)}


def require_images(name: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The height, width and channels of the images that a model reads.

    Raises:
      UserError: if the inputs are no images.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"model.name: '{name}' reads images (height, width, channels), but an input has the shape {input_shape}; "
            "choose 'mlp' or 'linear' for a table"
        )
    return input_shape


def require_positive(where: str, *values: int) -> None:
    """Checks sizes.

    Raises:
      UserError: if one of them is no whole number from 1 on.
    """
    for value in values:
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}: a size must be a whole number, at least 1, not {value!r}")
