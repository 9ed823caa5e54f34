"""GPT-2: a causal transformer for text.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3: norms before the sublayers and
after the last block, the tanh approximation of gelu, and initial kernels of residual layers divided by the square root
of their number.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from models.texts import NORMAL, TOKENS, TextModel, last_token, mean_pool
from models.transformer import Initializers, Sizes, make_blocks, make_layer_norm


class Gpt(TextModel):
    """Pre-norm blocks with causal attention. Predicts the next token at each position, or one output per text.

    With the pooling "tokens" there is no head: logits are products with the token table.
    """

    norm: nnx.LayerNorm
    activation: str

    poolings = ("last", "mean", TOKENS)
    causal = True

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
        activation: str = "gelu_tanh",
        norm_epsilon: float = 1e-5,
        pooling: str = "",
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
          activation: of the MLPs, "gelu" (exact), "gelu_tanh" or "relu".
          norm_epsilon: added to the variance in the norms.
          pooling: "last" (the last token), "mean" (of all tokens) or "tokens" (each token, for language modelling);
            padding is excluded. "" means "tokens" if outputs are tokens, else "last".

        Raises:
          UserError: the inputs are not texts, unknown choices, or inconsistent sizes.
        """
        sizes = Sizes(width, depth, heads, mlp_size)
        self.set_up(
            "model.gpt",
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
        out = nnx.initializers.normal(0.02 / (2 * depth) ** 0.5)
        self.blocks = make_blocks(
            sizes,
            norm_epsilon=norm_epsilon,
            causal=True,
            activation=activation,
            initializers=Initializers(NORMAL, out, nnx.initializers.zeros),
            dtype=dtype,
            rngs=rngs,
        )
        self.activation = activation
        self.norm = make_layer_norm(width, norm_epsilon, rngs=rngs)
        zeros = nnx.initializers.zeros
        self.head = None if self.predicts_tokens else nnx.Linear(width, num_outputs, kernel_init=zeros, rngs=rngs)

    def tensor_units(self) -> dict[str, int]:
        """Returns the attention heads and the hidden units."""
        return {"model.gpt.heads": self.sizes.heads, "model.gpt.mlp_size": self.sizes.mlp_size}

    def embed(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Embeds tokens and positions."""
        return self.embed_tokens(inputs)

    def attention_mask(self, present: Bool[Array, "batch tokens"]) -> None:
        """Returns None: padding is at the end, so causal attention excludes it."""
        return

    def finish(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens units"]:
        """Applies the last norm."""
        return self.norm(tokens)

    def pool(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch ... features"]:
        """Reduces the tokens according to `pooling`."""
        if self.predicts_tokens:
            return tokens
        return mean_pool(tokens, present) if self.pooling == "mean" else last_token(tokens, present)
