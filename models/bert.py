"""BERT and similar encoders.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3.
MiniLM (Wang et al. 2020) is a small one; DistilBERT (Sanh et al. 2019, section 3) has no segments, and a ReLU in
place of the tanh of the pooler. Texts have one segment, the first.
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
    """Post-norm blocks with attention between all tokens. Predicts masked tokens, or one output per text."""

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
        """Takes further arguments to those of `models/interface.py`. `remat` applies to each block.

        Args:
          vocabulary: rows of the token table; 0 means the vocabulary of the tokenizer.
          max_length: rows of the position table; 0 means the length of a text.
          width: units of a token.
          depth: number of blocks.
          heads: number of attention heads.
          mlp_size: hidden units of each block's MLP.
          segments: rows of the segment table; its first row is added to all tokens. 0 means no table.
          activation: of the MLPs, "gelu" (exact), "gelu_tanh" or "relu".
          norm_epsilon: added to the variance in the norms.
          pooling: "mean" (of all tokens but padding), "token" (the first one, through the pooler) or "tokens" (each
            token, for masked language modelling). "" means "tokens" if outputs are tokens, else "mean".
          pooler: activation of the dense layer after the first token: "tanh" (BERT), "relu" (DistilBERT), or "none" for
            no such layer.

        Raises:
          UserError: the inputs are not texts, unknown choices, or inconsistent sizes.
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
            raise UserError(f"model.bert.segments: must be an integer of at least 0, not {segments!r}")
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
        """Returns the attention heads and the hidden units."""
        return {"model.bert.heads": self.sizes.heads, "model.bert.mlp_size": self.sizes.mlp_size}

    def embed(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Embeds tokens, positions and the first segment, and normalises the sum."""
        tokens = self.embed_tokens(inputs)
        if self.segments is not None:
            tokens = tokens + self.segments[...][0].astype(self.dtype)[None, None]
        return self.embedding_norm(tokens).astype(self.dtype)

    def pool(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch ... features"]:
        """Reduces the tokens according to `pooling`."""
        if self.predicts_tokens:
            return tokens
        if self.pooling == "mean":
            return mean_pool(tokens, present)
        first = tokens[:, 0]
        return first if self.pooler is None else POOLERS[self.pooler_activation](self.pooler(first))

    def token_logits(self, features: Float[Array, "batch tokens features"]) -> Float32[Array, "batch tokens outputs"]:
        """Transforms the features, computes logits as in `TextModel`, and adds a bias for each token."""
        transformed = self.head(features, ACTIVATIONS[self.activation])
        return super().token_logits(transformed) + self.head.bias[...][: self.num_outputs][None, None]


class TokenHead(nnx.Module):
    """The head of masked language modelling: a dense layer, an activation and a norm, and a bias for each token."""

    transform: nnx.Linear
    norm: nnx.LayerNorm
    bias: nnx.Param

    def __init__(self, width: int, vocabulary: int, norm_epsilon: float, *, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the units of a token and the size of the vocabulary."""
        self.transform = nnx.Linear(width, width, kernel_init=NORMAL, dtype=dtype, rngs=rngs)
        self.norm = make_layer_norm(width, norm_epsilon, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros((vocabulary,)))

    def __call__(
        self, features: Float[Array, "batch tokens units"], activation: Callable[[Array], Array]
    ) -> Float32[Array, "batch tokens units"]:
        """Computes the vectors that are multiplied with the token table."""
        return self.norm(activation(self.transform(features)))
