"""The interface of models: inputs to features to logits. Regularisation rates are arguments of the call.

Constructors have these keyword-only arguments, and the fields of the model's own config section:

    input_shape: shape of one example after preprocessing: (height, width, channels), (columns,) of a table, or
      (tokens,) of a text.
    categories: vocabulary sizes of the categorical columns, which are the last columns of a table; for texts the
      vocabulary size of the tokenizer; else ().
    num_outputs: number of classes, of values to predict or, for language modelling, of tokens.
    dtype: type of the arithmetic. Parameters, batch statistics, features and logits are always float32.
    remat: which activations are recomputed in the backward pass, a key of `models.remat.REMAT`; some models ignore it.
    rngs: random keys of the initial parameters.
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
    """Abstract base class. All variables are `nnx.Param` or `nnx.BatchStat`.

    A subclass defines `features` and sets `head`, which is a linear layer unless the model predicts tokens.
    """

    head: nnx.Module | None

    # Whether inputs are token ids of texts; all other models read floats.
    reads_text: ClassVar[bool] = False
    # Whether the prediction at a position depends on this token and earlier ones only.
    causal: ClassVar[bool] = False

    @property
    def predicts_tokens(self) -> bool:
        """Whether the model has outputs for each token, not for the whole input."""
        return False

    # How parameters are sharded: (regular expression over the path, one entry per dimension); the first match counts.
    # "tensor": over this axis of the mesh; "layers": never, because a loop runs along it; None: left to FSDP.
    partition_rules: ClassVar[PartitionRules] = ()

    # Submodules whose parameters are stacked along a leading axis, one entry per block. Where blocks are distinguished,
    # the path of a parameter contains the number of its block: "blocks/3/mlp/out/kernel".
    stacked: ClassVar[tuple[str, ...]] = ()

    def tensor_units(self) -> dict[str, int]:
        """Returns sizes that the tensor axis of a mesh must divide, by the config field that sets them."""
        return {}

    def num_layers(self) -> int:
        """Returns the number of layers that `layer` distinguishes, including the head."""
        return 2

    def layer(self, path: str) -> int:
        """Returns the layer of a parameter, counted from the inputs; the head is the last one.

        Args:
          path: path of the parameter, with the block number if blocks are stacked.
        """
        return self.num_layers() - 1 if path.startswith("head/") else 0

    def freeze(self, frozen: Collection[str]) -> None:
        """Marks parameters that are not trained. Must be called before the model is split.

        A batch norm whose parameters are all frozen uses its running statistics in training as well, and does not
        update them: `use_running_average` is set, which the model must respect. Subclasses may save more computation.

        Args:
          frozen: paths of parameters, with block numbers if blocks are stacked.
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
        """Computes the logits, or the predictions of a regression.

        Args:
          inputs: a batch of examples of `input_shape`. Categories are codes as floats; texts are int32 token ids,
            padded with -1.
          training: use and record the statistics of this batch, and apply the regularisers below. Otherwise the call
            changes no variable.
          key: random key of the regularisers; each layer folds its number into it.
          dropout: rate of dropout. A traced scalar serves all rates with one program, including 0; None removes dropout
            from the program.
          stochastic_depth: rate at which the residual branch of the last block is dropped, likewise.

        Raises:
          ValueError: a regulariser is active and `key` is None.
        """
        features = self.features(inputs, training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth)
        return self.apply_head(features)

    def apply_head(self, features: Float[Array, "batch ... features"]) -> Float32[Array, "batch ... outputs"]:
        """Applies the head to the result of `features`: logits, or the predictions of a regression."""
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
        """Computes the inputs of the head. Arguments as in `__call__`."""

    def representations(self, inputs: Num[Array, "batch ..."]) -> dict[str, Float32[Array, "batch _"]]:
        """Computes one vector per example and layer, in inference, with one forward pass.

        Layers are ordered from the inputs and named like paths of parameters. Values at several positions are averaged.
        The last one is "features", the input of the head, and the only one of a model without named layers.

        Args:
          inputs: as in `__call__`.
        """
        return {"features": self.features(inputs)}


def require_images(name: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns height, width and channels of the images that a model reads.

    Raises:
      UserError: the inputs are not images.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"model.name: '{name}' reads images (height, width, channels), but an input has the shape {input_shape}; "
            "choose 'mlp' or 'linear' for a table"
        )
    return input_shape


def require_positive(where: str, *values: int) -> None:
    """Checks that sizes are positive integers.

    Raises:
      UserError: a size is not an integer of at least 1.
    """
    for value in values:
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}: a size must be an integer of at least 1, not {value!r}")
