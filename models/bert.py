"""BERT, and encoders of its kind.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3.
MiniLM (Wang et al. 2020) is a small one; DistilBERT (Sanh et al. 2019, section 3) has no segments, and a layer with a
ReLU in place of the pooler's tanh. Texts here are of one segment, the first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Float32, Int

from models.texts import NORMAL, TOKENS, TextModel, mean_pool
from models.transformer import ACTIVATIONS, Initializers, Sizes, make_blocks, make_layer_norm
from plumbline import UserError, unknown_name

POOLERS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "none": None}

INITIALIZERS = Initializers(NORMAL, NORMAL, nnx.initializers.zeros)


class Bert(TextModel):
    """Tokens that attend to all others, in post-norm blocks; the head reads a text, or guesses each token of it."""

    segments: nnx.Param | None
    embedding_norm: nnx.LayerNorm
    pooler: nnx.Linear | None
    pooler_activation: str
    activation: str

    poolings = ("mean", "token", TOKENS)

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        vocabulary: int = 0,
        max_length: int = 0,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        mlp_size: int = 512,
        segments: int = 0,
        activation: str = "gelu",
        norm_epsilon: float = 1e-12,
        pooling: str = "",
        pooler: str = "tanh",
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        """Arguments besides those of `models/interface.py`; `remat` works block by block.

        Args:
          vocabulary: rows of the table of tokens; 0: as many as the tokenizer has.
          max_length: rows of the table of positions; 0: the length of a text.
          width: units of a token.
          depth: number of blocks.
          heads: heads of attention.
          mlp_size: hidden units of each block's MLP.
          segments: rows of the table of segments, of which the first is added to all tokens; 0: there is no such table.
          activation: of the MLPs, "gelu" (exact), "gelu_tanh" or "relu".
          norm_epsilon: added to the variance in the norms.
          pooling: what the head reads: "mean" (of the tokens that are there), "token" (the first, through the pooler),
            "tokens" (each: masked language modelling); "": "tokens" if an answer is a token, else "mean".
          pooler: activation of the dense layer after the first token: "tanh" (BERT), "relu" (DistilBERT), or "none":
            there is no such layer.

        Raises:
          UserError: for inputs that are no texts, unknown choices, or sizes that do not fit together.
        """
        sizes = Sizes(width, depth, heads, mlp_size)
        self.set_up(
            "model.bert",
            input_shape=input_shape,
            categories=categories,
            num_outputs=num_outputs,
            vocabulary=vocabulary,
            max_length=max_length,
            sizes=sizes,
            activation=activation,
            pooling=pooling,
            dtype=dtype,
            remat=remat,
            rngs=rngs,
        )
        if pooler not in POOLERS:
            raise unknown_name("model.bert.pooler", pooler, POOLERS)
        if not isinstance(segments, int) or segments < 0:
            raise UserError(f"model.bert.segments: must be a whole number, at least 0, not {segments!r}")
        self.segments = nnx.Param(NORMAL(rngs.params(), (segments, width), jnp.float32)) if segments else None
        self.embedding_norm = make_layer_norm(width, norm_epsilon, rngs=rngs)
        self.blocks = make_blocks(
            sizes,
            norm_epsilon=norm_epsilon,
            norm_first=False,
            activation=activation,
            initializers=INITIALIZERS,
            dtype=dtype,
            rngs=rngs,
        )
        reads_pooler = self.pooling == "token" and pooler != "none"
        self.pooler = nnx.Linear(width, width, kernel_init=NORMAL, dtype=dtype, rngs=rngs) if reads_pooler else None
        self.pooler_activation = pooler
        self.activation = activation
        if self.predicts_tokens:
            self.head = TokenHead(width, self.vocabulary, norm_epsilon, dtype=dtype, rngs=rngs)
        else:
            self.head = nnx.Linear(width, num_outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def tensor_units(self) -> dict[str, int]:
        """Heads of attention and hidden units."""
        return {"model.bert.heads": self.sizes.heads, "model.bert.mlp_size": self.sizes.mlp_size}

    def embed(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Tokens, positions and the first segment, normalised."""
        tokens = self.embed_tokens(inputs)
        if self.segments is not None:
            tokens = tokens + self.segments[...][0].astype(self.dtype)[None, None]
        return self.embedding_norm(tokens).astype(self.dtype)

    def pool(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch ... features"]:
        """As `pooling` says."""
        if self.predicts_tokens:
            return tokens
        if self.pooling == "mean":
            return mean_pool(tokens, present)
        first = tokens[:, 0]
        return first if self.pooler is None else POOLERS[self.pooler_activation](self.pooler(first))

    def token_logits(self, features: Float[Array, "batch tokens features"]) -> Float32[Array, "batch tokens outputs"]:
        """As in `TextModel`, of the features once more transformed, and with a bias for each token."""
        transformed = self.head(features, ACTIVATIONS[self.activation])
        return super().token_logits(transformed) + self.head.bias[...][: self.num_outputs][None, None]


class TokenHead(nnx.Module):
    """What BERT has before the table of tokens: a dense layer, an activation and a norm; and the bias after it."""

    transform: nnx.Linear
    norm: nnx.LayerNorm
    bias: nnx.Param

    def __init__(self, width: int, vocabulary: int, norm_epsilon: float, *, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the units of a token and how many tokens there are."""
        self.transform = nnx.Linear(width, width, kernel_init=NORMAL, dtype=dtype, rngs=rngs)
        self.norm = make_layer_norm(width, norm_epsilon, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros((vocabulary,)))

    def __call__(
        self, features: Float[Array, "batch tokens units"], activation: Callable[[Array], Array]
    ) -> Float32[Array, "batch tokens units"]:
        """What is multiplied with the rows of the table."""
        return self.norm(activation(self.transform(features)))
