"""Transformer blocks, and the base class of models that stack them.

Vaswani et al. 2017, "Attention Is All You Need", section 3. Models choose options of the block: norms before the
sublayers (vision transformers, GPT-2) or after them (the paper, BERT), full or causal attention, and the activation.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from models.interface import Model, Scalar, require_positive
from models.layer_scale import LayerScale
from models.regularization import Regularization, depth_share
from models.remat import REMAT
from plumbline import UserError, axes


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Units of a token, number of blocks, attention heads, and hidden units of the MLPs."""

    width: int
    depth: int
    heads: int
    mlp_size: int

    def check(self, section: str) -> None:
        """Checks the sizes, which are fields of a section of the config, such as "model.vit".

        Raises:
          UserError: a size is below 1, or the heads do not divide the width.
        """
        for field in dataclasses.fields(self):
            require_positive(f"{section}.{field.name}", getattr(self, field.name))
        if self.width % self.heads:
            raise UserError(
                f"{section}.heads: {self.heads} heads do not divide the width {self.width}; choose a divisor of it"
            )


@dataclasses.dataclass(frozen=True)
class Initializers:
    """Initializers of a block: of kernels, of kernels of the residual layers (`out`), and of biases of the MLP."""

    kernel: nnx.Initializer
    out: nnx.Initializer
    mlp_bias: nnx.Initializer


# The initializers of vision transformers (code of Dosovitskiy et al.).
XAVIER = Initializers(
    nnx.initializers.xavier_uniform(), nnx.initializers.xavier_uniform(), nnx.initializers.normal(1e-6)
)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda values: jax.nn.gelu(values, approximate=False),
    # Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    "gelu_tanh": lambda values: jax.nn.gelu(values, approximate=True),
    "relu": jax.nn.relu,
}

# Up to this depth the loop is unrolled, which is up to a quarter faster on CPU and compiles in the same time. At 12
# blocks it is not faster and compiles twice as long. Partial unrolling is slower than both.
MAX_UNROLLED_DEPTH = 4


class Transformer(Model):
    """Abstract base class of models with an embedding, blocks, and further layers.

    The parameters of all blocks are stacked along a leading axis, and the blocks run in a scan. So the time to trace
    the program, and to compile deep ones, does not depend on the depth. A subclass sets the attributes.
    """

    blocks: "Block"
    sizes: Sizes
    # Number of leading blocks that are frozen.
    frozen_blocks: int
    remat: str
    dtype: DTypeLike

    stacked = ("blocks",)
    # Shoeybi et al. 2019, "Megatron-LM", section 3: heads and hidden units are sharded, and devices sum the result
    # of each sublayer.
    partition_rules = (
        (r"^blocks/attention/(query|key|value)/kernel$", ("layers", None, "tensor")),
        (r"^blocks/attention/(query|key|value)/bias$", ("layers", "tensor")),
        (r"^blocks/mlp/hidden/kernel$", ("layers", None, "tensor")),
        (r"^blocks/mlp/hidden/bias$", ("layers", "tensor")),
        (r"^blocks/(attention|mlp)/out/kernel$", ("layers", "tensor", None)),
        (r"^blocks/", ("layers",)),
    )

    def num_layers(self) -> int:
        """Counts the embedding and positions, each block, and the head."""
        return self.sizes.depth + 2

    def layer(self, path: str) -> int:
        """Assigns layers between blocks and head to the last block, as timm does."""
        if path.startswith(("norm/", "pooler/")):
            return self.sizes.depth
        return int(path.split("/")[1]) + 1 if path.startswith("blocks/") else super().layer(path)

    def freeze(self, frozen: Collection[str]) -> None:
        """Skips gradients of frozen leading blocks, and gradients through them if earlier layers are frozen too."""
        super().freeze(frozen)
        names = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(self.blocks, nnx.Param))]
        self.frozen_blocks = 0
        while self.frozen_blocks < self.sizes.depth and all(
            f"blocks/{self.frozen_blocks}/{name}" in frozen for name in names
        ):
            self.frozen_blocks += 1

    def run_blocks(
        self,
        tokens: Float[Array, "batch tokens units"],
        regularization: Regularization,
        present: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch tokens units"]:
        """Applies all blocks.

        Args:
          tokens: output of the embedding.
          regularization: regularisers of this forward pass.
          present: tokens that may be attended to; None for all.
        """
        graphdef, stacked = nnx.split(self.blocks)

        def run_block(tokens, indexed):
            index, variables = indexed
            block = nnx.merge(graphdef, variables)
            tokens = block(tokens, regularization, index, depth_share(index, self.sizes.depth), present)
            return axes.constrain(tokens, axes.BATCH, None, None), None

        depth, frozen = self.sizes.depth, self.frozen_blocks
        unroll, indexed = depth <= MAX_UNROLLED_DEPTH, (jnp.arange(depth), stacked)
        if frozen:
            # A separate loop without a backward pass, which stores no activations.
            first, indexed = _slice(indexed, 0, frozen), _slice(indexed, frozen, depth)
            tokens, _ = jax.lax.scan(run_block, tokens, jax.lax.stop_gradient(first), unroll=unroll)
        if policy := REMAT[self.remat]:
            # In a loop the compiler cannot merge the recomputation with the forward pass, so no barrier is needed.
            run_block, unroll = jax.checkpoint(run_block, prevent_cse=False, policy=policy), False
        if frozen < depth:
            tokens, _ = jax.lax.scan(run_block, tokens, indexed, unroll=unroll)
        return tokens

    def run_and_summarize(
        self,
        tokens: Float[Array, "batch tokens units"],
        summarize: Callable[[Array], Array],
        present: Bool[Array, "batch tokens"] | None = None,
    ) -> tuple[dict[str, Float[Array, "batch features"]], Float[Array, "batch tokens units"]]:
        """Applies all blocks in inference, and summarizes their outputs.

        Args:
          tokens: output of the embedding.
          summarize: reduces tokens to (batch, features).
          present: as in `run_blocks`.

        Returns:
          The summaries of "embedding", "blocks/0" and so on, and the output of the last block.
        """
        graphdef, stacked = nnx.split(self.blocks)
        regularization = Regularization.from_arguments(training=False, key=None)

        def run_block(tokens, variables):
            tokens = nnx.merge(graphdef, variables)(tokens, regularization, 0, 0.0, present)
            return tokens, summarize(tokens)

        depth, found = self.sizes.depth, {"embedding": summarize(tokens)}
        tokens, summaries = jax.lax.scan(run_block, tokens, stacked, unroll=depth <= MAX_UNROLLED_DEPTH)
        return found | {f"blocks/{block}": summaries[block] for block in range(depth)}, tokens


class Block(nnx.Module):
    """Attention and an MLP with residual connections; norms are applied before or after each."""

    norm1: nnx.LayerNorm
    attention: "Attention"
    layer_scale1: LayerScale | None
    norm2: nnx.LayerNorm
    mlp: "BlockMlp"
    layer_scale2: LayerScale | None
    norm_first: bool

    def __init__(
        self,
        sizes: Sizes,
        *,
        norm_epsilon: float,
        norm_first: bool = True,
        causal: bool = False,
        activation: str = "gelu",
        layer_scale: float = 0.0,
        initializers: Initializers = XAVIER,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Makes one block.

        Args:
          sizes: sizes of the model; the depth is ignored.
          norm_epsilon: added to the variance in the norms.
          norm_first: whether norms are applied before each sublayer, or after the residual connection.
          causal: whether a token attends to itself and earlier tokens only.
          activation: a key of `ACTIVATIONS`.
          layer_scale: initial factor of each channel of the residual branches; 0 means no such factors.
          initializers: initializers of kernels and biases.
          dtype: type of the arithmetic.
          rngs: random keys of the initial parameters.
        """
        shared = {"initializers": initializers, "dtype": dtype, "rngs": rngs}
        self.norm1 = make_layer_norm(sizes.width, norm_epsilon, rngs=rngs)
        self.attention = Attention(sizes.width, sizes.heads, causal=causal, **shared)
        self.layer_scale1 = LayerScale(sizes.width, layer_scale) if layer_scale else None
        self.norm2 = make_layer_norm(sizes.width, norm_epsilon, rngs=rngs)
        self.mlp = BlockMlp(sizes.width, sizes.mlp_size, activation=activation, **shared)
        self.layer_scale2 = LayerScale(sizes.width, layer_scale) if layer_scale else None
        self.norm_first = norm_first

    def __call__(
        self,
        tokens: Float[Array, "batch tokens units"],
        regularization: Regularization,
        index: int | Int[Array, ""],
        share: Scalar,
        present: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch tokens units"]:
        """Transforms the tokens.

        Args:
          tokens: output of the previous block.
          regularization: regularisers that are applied after each sublayer.
          index: number of the block, folded into its random keys; may be traced.
          share: share of the full rate of stochastic depth in this block.
          present: tokens that may be attended to; None for all.
        """
        sublayers = (
            (self.norm1, lambda tokens: self.attention(tokens, present), self.layer_scale1),
            (self.norm2, self.mlp, self.layer_scale2),
        )
        for sublayer, (norm, transform, layer_scale) in enumerate(sublayers):
            layer = 2 * index + sublayer
            branch = transform(norm(tokens) if self.norm_first else tokens)
            branch = regularization.drop_units(branch, layer)
            branch = branch if layer_scale is None else layer_scale(branch)
            tokens = tokens + regularization.drop_branch(branch, layer, share)
            tokens = tokens if self.norm_first else norm(tokens).astype(tokens.dtype)
        return tokens


class Attention(nnx.Module):
    """Multi-head self-attention.

    Vaswani et al. 2017, "Attention Is All You Need", section 3.2; `query`, `key`, `value` and `out` are the paper's
    W^Q, W^K, W^V (all heads side by side) and W^O, with biases.
    """

    query: nnx.Linear
    key: nnx.Linear
    value: nnx.Linear
    out: nnx.Linear
    heads: int
    causal: bool

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        initializers: Initializers = XAVIER,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Takes the units of a token, which are divided among the heads; for other arguments see `Block`."""
        shared = {"dtype": dtype, "rngs": rngs}
        self.query = nnx.Linear(width, width, kernel_init=initializers.kernel, **shared)
        self.key = nnx.Linear(width, width, kernel_init=initializers.kernel, **shared)
        self.value = nnx.Linear(width, width, kernel_init=initializers.kernel, **shared)
        self.out = nnx.Linear(width, width, kernel_init=initializers.out, **shared)
        self.heads = heads
        self.causal = causal

    def __call__(
        self, tokens: Float[Array, "batch tokens units"], present: Bool[Array, "batch tokens"] | None = None
    ) -> Float[Array, "batch tokens width"]:
        """Computes attention of each token to all present tokens or, if causal, to those that are not later."""
        batch_size, num_tokens, width = tokens.shape
        by_head = (batch_size, num_tokens, self.heads, width // self.heads)
        query, key, value = (
            axes.constrain(dense(tokens).reshape(by_head), axes.BATCH, None, axes.TENSOR, None)
            for dense in (self.query, self.key, self.value)
        )
        # The softmax is computed in float32: a sum in bfloat16 over many tokens would lose small weights.
        similarity = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        similarity = self._mask(similarity / (width // self.heads) ** 0.5, present)
        weights = jax.nn.softmax(similarity, axis=-1)
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
        return self.out(attended.reshape(tokens.shape))

    def _mask(
        self, similarity: Float[Array, "batch heads queries keys"], present: Bool[Array, "batch keys"] | None
    ) -> Float[Array, "batch heads queries keys"]:
        # Minus infinity would give NaN for texts without tokens.
        lowest = jnp.finfo(similarity.dtype).min
        if present is not None:
            similarity = jnp.where(present[:, None, None, :], similarity, lowest)
        if self.causal:
            queries, keys = similarity.shape[-2:]
            similarity = jnp.where(jnp.tri(queries, keys, dtype=bool)[None, None], similarity, lowest)
        return similarity


class BlockMlp(nnx.Module):
    """Two dense layers with an activation between them."""

    hidden: nnx.Linear
    out: nnx.Linear
    activation: str

    def __init__(
        self,
        width: int,
        mlp_size: int,
        *,
        activation: str = "gelu",
        initializers: Initializers = XAVIER,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Takes the units of a token and of the hidden layer; for other arguments see `Block`."""
        shared = {"bias_init": initializers.mlp_bias, "dtype": dtype, "rngs": rngs}
        self.hidden = nnx.Linear(width, mlp_size, kernel_init=initializers.kernel, **shared)
        self.out = nnx.Linear(mlp_size, width, kernel_init=initializers.out, **shared)
        self.activation = activation

    def __call__(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens width"]:
        """Transforms each token separately."""
        hidden = axes.constrain(self.hidden(tokens), axes.BATCH, None, axes.TENSOR)
        return self.out(ACTIVATIONS[self.activation](hidden))


def make_blocks(sizes: Sizes, *, rngs: nnx.Rngs, **options: Any) -> Block:
    """Makes `sizes.depth` stacked blocks. The options are those of `Block`."""
    keys = jax.random.split(rngs.params(), sizes.depth)
    return nnx.vmap(lambda key: Block(sizes, **options, rngs=nnx.Rngs(key)))(keys)


def make_layer_norm(width: int, epsilon: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Makes a norm in float32 for any type of the arithmetic. The following dense layer converts."""
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)


def _slice(tree: Any, start: int, stop: int) -> Any:
    """Slices each array along its leading axis."""
    return jax.tree.map(lambda leaf: leaf[start:stop], tree)
