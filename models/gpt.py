"""GPT-2: a transformer that reads texts from left to right.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3: norms before the sublayers and
one after the last block, the tanh approximation of gelu, and kernels of the layers that add to the tokens that start
smaller by the square root of their number.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from models.texts import NORMAL, TOKENS, TextModel, last_token, mean_pool
from models.transformer import Initializers, Sizes, make_blocks, make_layer_norm


class Gpt(TextModel):
    """Tokens that attend to themselves and earlier ones, in pre-norm blocks; each is to say the next, or the last all.

    With the pooling "tokens" there is no head: logits are products with the table of tokens.
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
        """Arguments besides those of `models/interface.py`; `remat` works block by block.

        Args:
          vocabulary: rows of the table of tokens; 0: as many as the tokenizer has.
          max_length: rows of the table of positions; 0: the length of a text.
          width: units of a token.
          depth: number of blocks.
          heads: heads of attention.
          mlp_size: hidden units of each block's MLP.
          activation: of the MLPs, "gelu" (exact), "gelu_tanh" or "relu".
          norm_epsilon: added to the variance in the norms.
          pooling: what is read: "last" (the last token that is there), "mean" (of those that are there), "tokens"
            (each: language modelling); "": "tokens" if an answer is a token, else "last".

        Raises:
          UserError: for inputs that are no texts, unknown choices, or sizes that do not fit together.
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
        """Heads of attention and hidden units."""
        return {"model.gpt.heads": self.sizes.heads, "model.gpt.mlp_size": self.sizes.mlp_size}

    def embed(self, inputs: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens units"]:
        """Tokens and positions."""
        return self.embed_tokens(inputs)

    def attention_mask(self, present: Bool[Array, "batch tokens"]) -> None:
        """All that are not later: no padding is, as seen from a token that is there."""
        return

    def finish(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens units"]:
        """The last norm."""
        return self.norm(tokens)

    def pool(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch ... features"]:
        """As `pooling` says."""
        if self.predicts_tokens:
            return tokens
        return mean_pool(tokens, present) if self.pooling == "mean" else last_token(tokens, present)
