"""The common part of text models: from token ids to outputs for each text or for each token.

Inputs are (batch, tokens) int32, padded with `PADDING_TOKEN`. A model that predicts tokens shares the embedding table
with its head (Press and Wolf 2017, "Using the Output Embedding to Improve Language Models"); the table is one parameter
of the embedding.
"""

import abc

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Float32, Int, PRNGKeyArray

from models.interface import Scalar, require_positive
from models.regularization import Regularization
from models.transformer import ACTIVATIONS, Sizes, Transformer
from plumbline import UserError, unknown_name

# Token id of padding.
PADDING_TOKEN = -1

# The pooling of a model that predicts tokens.
TOKENS = "tokens"

# Initializer of all kernels and tables (Radford et al. 2018, "Improving Language Understanding by Generative
# Pre-Training", section 4.1; code of Devlin et al. 2019).
NORMAL = nnx.initializers.normal(0.02)


class TextModel(Transformer):
    """Abstract base class of transformers on text. A subclass sets the attributes and defines `embed` and `pool`.

    Attributes:
      vocabulary: number of rows of the token table.
      max_length: number of positions.
      pooling: how tokens become inputs of the head.
      num_outputs: number of classes, of values to predict or, for language modelling, of tokens.
    """

    embedding: nnx.Embed
    positions: nnx.Param
    head: nnx.Module | None
    vocabulary: int
    max_length: int
    pooling: str
    num_outputs: int

    reads_text = True
    # All poolings. The first is the default of a model with one output per text.
    poolings: tuple[str, ...] = ()

    @property
    def predicts_tokens(self) -> bool:
        """Whether the model has outputs for each token."""
        return self.pooling == TOKENS

    def apply_head(self, features: Float[Array, "batch ... features"]) -> Float32[Array, "batch ... outputs"]:
        """Computes the logits; those of each token (batch, tokens, outputs) if the pooling is "tokens"."""
        return self.token_logits(features) if self.predicts_tokens else super().apply_head(features)

    def features(
        self,
        inputs: Int[Array, "batch tokens"],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch ... features"]:
        """Computes a vector per text, or per token (batch, tokens, features). Arguments as in `Model`."""
        regularization = Regularization.from_arguments(
            training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth
        )
        present = inputs != PADDING_TOKEN
        tokens = regularization.drop_units(self.embed(inputs), 2 * self.sizes.depth)
        tokens = self.finish(self.run_blocks(tokens, regularization, self.attention_mask(present)))
        return self.pool(tokens, present).astype(jnp.float32)

    def representations(self, inputs: Int[Array, "batch tokens"]) -> dict[str, Float32[Array, "batch _"]]:
        """Computes the mean over tokens after the embedding and after each block, then the features.

        Padding is excluded. For a model that predicts tokens, "features" is the mean over tokens as well.
        """
        present = inputs != PADDING_TOKEN
        found, tokens = self.run_and_summarize(
            self.embed(inputs), lambda tokens: mean_pool(tokens, present), self.attention_mask(present)
        )
        tokens = self.finish(tokens)
        features = mean_pool(tokens, present) if self.predicts_tokens else self.pool(tokens, present)
        return found | {"features": features.astype(jnp.float32)}

    @abc.abstractmethod
    def embed(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Computes the input of the first block."""

    def attention_mask(self, present: Bool[Array, "batch tokens"]) -> Bool[Array, "batch tokens"] | None:
        """Returns which tokens may be attended to; None for all."""
        return present

    def finish(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens units"]:
        """Applies the layers after the last block."""
        return tokens

    @abc.abstractmethod
    def pool(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch ... features"]:
        """Reduces tokens to the input of the head."""

    def token_logits(self, features: Float[Array, "batch tokens features"]) -> Float32[Array, "batch tokens outputs"]:
        """Computes logits of all tokens at each position: products with the rows of the token table."""
        table = self.embedding.embedding[...][: self.num_outputs].astype(self.dtype)
        return jnp.einsum("btf,vf->btv", features.astype(self.dtype), table, preferred_element_type=jnp.float32)

    def embed_tokens(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Embeds tokens and positions. Values at padding are not meaningful."""
        tokens = self.embedding(jnp.maximum(inputs, 0))
        return tokens + self.positions[...][: inputs.shape[1]].astype(self.dtype)[None]

    def set_up(
        self,
        section: str,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        vocabulary: int,
        max_length: int,
        sizes: Sizes,
        activation: str,
        pooling: str,
        dtype: DTypeLike,
        remat: str,
        rngs: nnx.Rngs,
    ) -> None:
        """Sets the common attributes and makes the tables of tokens and positions.

        Args:
          section: section of the config, such as "model.bert".
          vocabulary: rows of the token table; 0 means the vocabulary of the tokenizer.
          max_length: rows of the position table; 0 means the length of a text.
          activation: a key of `ACTIVATIONS`; it is only checked.
          pooling: one of `poolings`; "" means "tokens" if outputs are tokens, else the first one.
          input_shape, categories, num_outputs, sizes, dtype, remat, rngs: as in a model's constructor.

        Raises:
          UserError: the inputs are not texts, or a size or choice is invalid.
        """
        if len(input_shape) != 1 or len(categories) != 1:
            raise UserError(
                f"model.name: '{section.partition('.')[2]}' reads texts, but an input has the shape {input_shape}; "
                "choose 'mlp' or 'linear' for a table, 'resnet' or 'vit' for images"
            )
        sizes.check(section)
        (length,), (known,) = input_shape, categories
        _check_tables(section, vocabulary, max_length, tokens=known, text_length=length)
        if activation not in ACTIVATIONS:
            raise unknown_name(f"{section}.activation", activation, ACTIVATIONS)
        if pooling and pooling not in self.poolings:
            raise unknown_name(f"{section}.pooling", pooling, self.poolings)
        self.vocabulary, self.max_length = vocabulary or known, max_length or length
        # The task is not known here, only the number of outputs. The caller, who knows it, finds mistakes.
        self.pooling = pooling or (TOKENS if num_outputs == known else self.poolings[0])
        if self.predicts_tokens and num_outputs > self.vocabulary:
            raise UserError(f"{section}.pooling: '{TOKENS}' predicts {known} tokens, not {num_outputs} outputs")
        self.embedding = nnx.Embed(self.vocabulary, sizes.width, embedding_init=NORMAL, dtype=dtype, rngs=rngs)
        self.positions = nnx.Param(NORMAL(rngs.params(), (self.max_length, sizes.width), jnp.float32))
        self.sizes, self.num_outputs = sizes, num_outputs
        self.frozen_blocks, self.remat, self.dtype = 0, remat, dtype


def _check_tables(section: str, vocabulary: int, max_length: int, *, tokens: int, text_length: int) -> None:
    """Checks that the tables of tokens and positions have enough rows; 0 rows mean as many as needed."""
    require_positive(f"{section}.vocabulary", vocabulary or 1)
    require_positive(f"{section}.max_length", max_length or 1)
    if vocabulary and vocabulary < tokens:
        raise UserError(
            f"{section}.vocabulary: {vocabulary} rows are fewer than the {tokens} tokens of the tokenizer; set it "
            "to 0, or set data.tokenizer to that of the weights"
        )
    if max_length and max_length < text_length:
        raise UserError(
            f"data.text_length: {text_length} tokens are more than the {max_length} positions of {section}.max_length; "
            "lower the first or raise the second"
        )


def mean_pool(
    tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
) -> Float32[Array, "batch units"]:
    """Computes the mean over tokens that are present; zeros if there are none."""
    weight = present.astype(jnp.float32)[:, :, None]
    total = (tokens.astype(jnp.float32) * weight).sum(axis=1)
    return total / jnp.maximum(weight.sum(axis=1), 1.0)


def last_token(
    tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
) -> Float[Array, "batch units"]:
    """Selects the last token that is present; the first if there are none."""
    where = jnp.maximum(present.sum(axis=1) - 1, 0)
    return jnp.take_along_axis(tokens, where[:, None, None], axis=1)[:, 0]
