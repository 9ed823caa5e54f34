"""What models of text have in common: token ids in, an answer for each text or for each token out.

Inputs are (batch, tokens) int32, with `PADDING_TOKEN` after the end of a shorter text. The table of tokens is read by
the embedding, and once more by the head of a model that answers for each token (Press and Wolf 2017, "Using the Output
Embedding to Improve Language Models"): it is one parameter, of the embedding.
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

# What stands where a text has no token.
PADDING_TOKEN = -1

# The pooling that answers for each token.
TOKENS = "tokens"

# Of all kernels and tables (Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training",
# section 4.1; Devlin et al. 2019's code).
NORMAL = nnx.initializers.normal(0.02)


class TextModel(Transformer):
    """Abstract. A transformer on tokens of text; a family sets the attributes and says how its tokens become features.

    Attributes:
      vocabulary: tokens that are known: rows of the table.
      max_length: positions that are known.
      pooling: what the head reads.
      num_outputs: classes, numbers to predict or, of each token, tokens that it may be.
    """

    embedding: nnx.Embed
    positions: nnx.Param
    head: nnx.Module | None
    vocabulary: int
    max_length: int
    pooling: str
    num_outputs: int

    reads_text = True
    # The pooling that an empty `pooling` means where there is one answer a text, and all there are.
    poolings: tuple[str, ...] = ()

    @property
    def predicts_tokens(self) -> bool:
        """Whether there is an answer for each token."""
        return self.pooling == TOKENS

    def apply_head(self, features: Float[Array, "batch ... features"]) -> Float32[Array, "batch ... outputs"]:
        """The logits, of each token (batch, tokens, outputs) if the pooling is "tokens"."""
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
        """What the head reads: a vector a text, or a token (batch, tokens, features); as in `Model`."""
        regularization = Regularization.from_arguments(
            training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth
        )
        present = inputs != PADDING_TOKEN
        tokens = regularization.drop_units(self.embed(inputs), 2 * self.sizes.depth)
        tokens = self.finish(self.run_blocks(tokens, regularization, self.attention_mask(present)))
        return self.pool(tokens, present).astype(jnp.float32)

    def representations(self, inputs: Int[Array, "batch tokens"]) -> dict[str, Float32[Array, "batch _"]]:
        """The mean of the tokens that are there, after the embedding and after each block; then the features.

        Of a model that answers for each token the features are the mean as well.
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
        """What the first block reads."""

    def attention_mask(self, present: Bool[Array, "batch tokens"]) -> Bool[Array, "batch tokens"] | None:
        """Which tokens others may attend to; None: all that are not later."""
        return present

    def finish(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens units"]:
        """What comes after the last block."""
        return tokens

    @abc.abstractmethod
    def pool(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch ... features"]:
        """What the head reads of the tokens."""

    def token_logits(self, features: Float[Array, "batch tokens features"]) -> Float32[Array, "batch tokens outputs"]:
        """How well each token of the vocabulary fits each position: its product with the row of the table."""
        table = self.embedding.embedding[...][: self.num_outputs].astype(self.dtype)
        return jnp.einsum("btf,vf->btv", features.astype(self.dtype), table, preferred_element_type=jnp.float32)

    def embed_tokens(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Tokens and their positions; what stands for padding is not to be used."""
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
        """Sets what all families have, and the tables of tokens and positions.

        Args:
          section: of the config, "model.bert".
          vocabulary: rows of the table; 0: as many as the tokenizer has tokens.
          max_length: rows of the positions; 0: those of a text.
          activation: a key of `ACTIVATIONS`; only checked.
          pooling: one of `poolings`; "": "tokens" where an answer is a token, else the first.
          input_shape, categories, num_outputs, sizes, dtype, remat, rngs: as in a model's constructor.

        Raises:
          UserError: the inputs are no texts, or a size or choice cannot be.
        """
        if len(input_shape) != 1 or len(categories) != 1:
            raise UserError(
                f"model.name: '{section.partition('.')[2]}' reads texts, but an input has the shape {input_shape}; "
                "choose 'mlp' or 'linear' for a table, 'resnet' or 'vit' for images"
            )
        sizes.check(section)
        (length,), (known,) = input_shape, categories
        require_positive(f"{section}.vocabulary", vocabulary or 1)
        require_positive(f"{section}.max_length", max_length or 1)
        if vocabulary and vocabulary < known:
            raise UserError(
                f"{section}.vocabulary: {vocabulary} rows are fewer than the {known} tokens of the tokenizer; set it "
                "to 0, or data.tokenizer to that of the weights"
            )
        if max_length and max_length < length:
            raise UserError(
                f"data.text_length: {length} tokens are more than the {max_length} positions of {section}.max_length; "
                "lower the one or raise the other"
            )
        if activation not in ACTIVATIONS:
            raise unknown_name(f"{section}.activation", activation, ACTIVATIONS)
        if pooling and pooling not in self.poolings:
            raise unknown_name(f"{section}.pooling", pooling, self.poolings)
        self.vocabulary, self.max_length = vocabulary or known, max_length or length
        # Which task it is can be seen by the answers alone; a mistake is found where the task is known.
        self.pooling = pooling or (TOKENS if num_outputs == known else self.poolings[0])
        if self.predicts_tokens and num_outputs > self.vocabulary:
            raise UserError(f"{section}.pooling: '{TOKENS}' answers with one of {known} tokens, not of {num_outputs}")
        self.embedding = nnx.Embed(self.vocabulary, sizes.width, embedding_init=NORMAL, dtype=dtype, rngs=rngs)
        self.positions = nnx.Param(NORMAL(rngs.params(), (self.max_length, sizes.width), jnp.float32))
        self.sizes, self.num_outputs = sizes, num_outputs
        self.frozen_blocks, self.remat, self.dtype = 0, remat, dtype


def mean_pool(
    tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
) -> Float32[Array, "batch units"]:
    """The mean over the tokens that are there; zeros where none is."""
    weight = present.astype(jnp.float32)[:, :, None]
    total = (tokens.astype(jnp.float32) * weight).sum(axis=1)
    return total / jnp.maximum(weight.sum(axis=1), 1.0)


def last_token(
    tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
) -> Float[Array, "batch units"]:
    """The last token that is there; the first where none is."""
    where = jnp.maximum(present.sum(axis=1) - 1, 0)
    return jnp.take_along_axis(tokens, where[:, None, None], axis=1)[:, 0]
