"""Vision transformers.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1 and table 1; Ti and S after Touvron et al. 2021,
"Training data-efficient image transformers", table 1. Details that weights from elsewhere depend on (exact gelu, biases
everywhere, epsilon of the norms, a position for the class token) are those of timm.

Shapes: `tokens` counts the patches and what comes before them: the class token, then the distillation token.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, Int, PRNGKeyArray

from models.interface import REMAT, Model, Scalar, require_images, require_positive
from models.layer_scale import LayerScale
from models.regularization import Regularization, depth_share
from plumbline import UserError, axes, unknown_name


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Units of a token, number of blocks, heads of attention, hidden units of each block's MLP."""

    width: int
    depth: int
    heads: int
    mlp_size: int


VARIANTS = {
    "Ti": Sizes(192, 12, 3, 768),
    "S": Sizes(384, 12, 6, 1536),
    "B": Sizes(768, 12, 12, 3072),
    "L": Sizes(1024, 24, 16, 4096),
    "H": Sizes(1280, 32, 16, 5120),
}
POOLINGS = ("token", "mean", "token_and_mean", "token_and_distillation")
POSITIONS = ("learned", "sincos2d")

LAYER_NORM_EPSILON = 1e-6

# Up to this many blocks the loop is compiled as straight code, which is up to a quarter faster on CPU and compiles in
# the same time; at 12 blocks it is no faster and compiles twice as long. Unrolling only in part is slower than either.
MAX_UNROLLED_DEPTH = 4


class VisionTransformer(Model):
    """Patches as tokens, a stack of pre-norm transformer blocks, and a dense head on the class token or the mean.

    What the heads of some pretrained models read is there as well: class token and mean of the patches side by side
    (Oquab et al. 2023, "DINOv2", section 7.1), or class and distillation token (Touvron et al. 2021, section 3).

    The parameters of all blocks are stacked along a leading axis, and the blocks run in a scan: a program of any depth
    is traced in the time of one block, and a deep one compiled in it.
    """

    embedding: nnx.Linear
    class_token: nnx.Param | None
    distillation_token: nnx.Param | None
    positions: nnx.Param | None
    blocks: "Block"
    norm: nnx.LayerNorm
    head: nnx.Linear
    patch_size: int
    sizes: Sizes
    pooling: str
    grid: tuple[int, int]
    frozen_blocks: int
    remat: str
    dtype: DTypeLike

    stacked = ("blocks",)
    # Shoeybi et al. 2019, "Megatron-LM", section 3: heads and hidden units are dealt out, and each sublayer's result is
    # summed over the devices.
    partition_rules = (
        (r"^blocks/attention/(query|key|value)/kernel$", ("layers", None, "tensor")),
        (r"^blocks/attention/(query|key|value)/bias$", ("layers", "tensor")),
        (r"^blocks/mlp/hidden/kernel$", ("layers", None, "tensor")),
        (r"^blocks/mlp/hidden/bias$", ("layers", "tensor")),
        (r"^blocks/(attention|mlp)/out/kernel$", ("layers", "tensor", None)),
        (r"^blocks/", ("layers",)),
    )

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        variant: str = "custom",
        patch_size: int = 16,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        mlp_size: int = 256,
        pooling: str = "token",
        positions: str = "learned",
        distillation_token: bool = False,
        layer_scale: float = 0.0,
        norm_epsilon: float = LAYER_NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        """Arguments besides those of `models/interface.py`; `remat` works block by block.

        Args:
          variant: "Ti", "S", "B", "L", "H", or "custom", which takes `width`, `depth`, `heads` and `mlp_size`.
          patch_size: side of a patch in pixels.
          width: units of a token.
          depth: number of blocks.
          heads: heads of attention.
          mlp_size: hidden units of each block's MLP.
          pooling: what the head reads: "token" (a class token), "mean" (of all patches; there is no class token),
            "token_and_mean" or "token_and_distillation" (both side by side).
          positions: "learned", or "sincos2d" (fixed; the class and distillation tokens have none).
          distillation_token: adds one more token, after the class token.
          layer_scale: initial factor on each channel of each residual branch, which is learned (Touvron et al. 2021,
            "Going deeper with Image Transformers", section 2.1); 0: no such factors.
          norm_epsilon: added to the variance in the norms.

        Raises:
          UserError: for inputs that are no images or do not divide into patches, an unknown variant, pooling or kind of
            positions, or sizes that do not fit together.
        """
        height, image_width, channels = require_images("vit", input_shape)
        sizes = _resolve_sizes(variant, Sizes(width, depth, heads, mlp_size))
        _check_choices(pooling, positions, sizes, distillation_token)
        grid = _grid_shape(height, image_width, patch_size)

        self.embedding = nnx.Linear(patch_size**2 * channels, sizes.width, dtype=dtype, rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, sizes.width))) if pooling != "mean" else None
        self.distillation_token = nnx.Param(jnp.zeros((1, sizes.width))) if distillation_token else None
        num_tokens = grid[0] * grid[1] + (pooling != "mean") + distillation_token
        if positions == "learned":
            initial = jax.random.normal(rngs.params(), (num_tokens, sizes.width)) / sizes.width**0.5
            self.positions = nnx.Param(initial)
        else:
            self.positions = None
        block_keys = jax.random.split(rngs.params(), sizes.depth)
        shared = {"layer_scale": layer_scale, "norm_epsilon": norm_epsilon, "dtype": dtype}
        self.blocks = nnx.vmap(lambda key: Block(sizes, **shared, rngs=nnx.Rngs(key)))(block_keys)
        self.norm = _make_layer_norm(sizes.width, norm_epsilon, rngs=rngs)
        # From zero, as in Dosovitskiy et al.'s and Beyer et al.'s code: the first predictions are uniform.
        num_features = sizes.width * (2 if pooling.startswith("token_and_") else 1)
        self.head = nnx.Linear(num_features, num_outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.patch_size = patch_size
        self.sizes = sizes
        self.pooling = pooling
        self.grid = grid
        # The first so many blocks are not trained.
        self.frozen_blocks = 0
        self.remat = remat
        self.dtype = dtype

    def tensor_units(self) -> dict[str, int]:
        """Heads of attention and hidden units."""
        return {"model.vit.heads": self.sizes.heads, "model.vit.mlp_size": self.sizes.mlp_size}

    def num_layers(self) -> int:
        """Patches and positions, each block, and the head."""
        return self.sizes.depth + 2

    def layer(self, path: str) -> int:
        """The last norm belongs to the last block, as in timm's groups."""
        if path.startswith("norm/"):
            return self.sizes.depth
        return int(path.split("/")[1]) + 1 if path.startswith("blocks/") else super().layer(path)

    def freeze(self, frozen: Collection[str]) -> None:
        """No gradient is computed for first blocks that are frozen; nor through them, if what is before them is too."""
        super().freeze(frozen)
        names = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(self.blocks, nnx.Param))]
        self.frozen_blocks = 0
        while self.frozen_blocks < self.sizes.depth and all(
            f"blocks/{self.frozen_blocks}/{name}" in frozen for name in names
        ):
            self.frozen_blocks += 1

    def features(
        self,
        inputs: Float[Array, "batch height width channels"],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch features"]:
        """Of the normalised tokens the class token or the mean of the patches, as `pooling` says; as in `Model`."""
        regularization = Regularization.of_call(
            training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth
        )
        tokens = self._run_blocks(self._embed(inputs), regularization)
        return self._pool(self.norm(tokens))

    def representations(
        self, inputs: Float[Array, "batch height width channels"]
    ) -> dict[str, Float32[Array, "batch _"]]:
        """The mean of the patches after the embedding and after each block, before the last norm; then the features.

        Whatever the head reads: before the first block a class token is the same for all examples, and it takes blocks
        until it has gathered anything.
        """
        graphdef, stacked = nnx.split(self.blocks)
        regularization = Regularization.of_call(training=False, key=None)

        def run_block(tokens, variables):
            tokens = nnx.merge(graphdef, variables)(tokens, regularization, 0, 0.0)
            return tokens, self._mean(tokens)

        tokens = self._embed(inputs)
        found = {"embedding": self._mean(tokens)}
        tokens, means = jax.lax.scan(run_block, tokens, stacked, unroll=self.sizes.depth <= MAX_UNROLLED_DEPTH)
        found |= {f"blocks/{block}": means[block] for block in range(self.sizes.depth)}
        return found | {"features": self._pool(self.norm(tokens))}

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before those of the patches."""
        return (self.class_token is not None) + (self.distillation_token is not None)

    def _pool(self, normalized: Float[Array, "batch tokens units"]) -> Float[Array, "batch features"]:
        """What the head reads of the normalised tokens."""
        if self.pooling == "token":
            return normalized[:, 0]
        if self.pooling == "token_and_distillation":
            return jnp.concatenate([normalized[:, 0], normalized[:, 1]], axis=1)
        mean = self._mean(normalized)
        return mean if self.pooling == "mean" else jnp.concatenate([normalized[:, 0], mean], axis=1)

    def _mean(self, tokens: Float[Array, "batch tokens units"]) -> Float32[Array, "batch units"]:
        """The mean of the patches."""
        return tokens[:, self.num_prefix_tokens :].astype(jnp.float32).mean(axis=1)

    def _embed(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch tokens units"]:
        """Makes tokens of patches, adds positions, and puts the class token first."""
        tokens = self.embedding(extract_patches(images, self.patch_size))
        batch_size, _, width = tokens.shape
        if self.positions is None:
            grid = (images.shape[1] // self.patch_size, images.shape[2] // self.patch_size)
            tokens = tokens + jnp.asarray(sincos2d(*grid, width), self.dtype)[None]
        prefix = [token for token in (self.class_token, self.distillation_token) if token is not None]
        if prefix:
            shape = (batch_size, 1, width)
            same_for_all = [jnp.broadcast_to(token[...].astype(self.dtype), shape) for token in prefix]
            tokens = jnp.concatenate([*same_for_all, tokens], axis=1)
        if self.positions is not None:
            tokens = tokens + self.positions[...].astype(self.dtype)[None]
        return tokens

    def _run_blocks(
        self, tokens: Float[Array, "batch tokens units"], regularization: Regularization
    ) -> Float[Array, "batch tokens units"]:
        """Runs the stacked blocks one after the other."""
        graphdef, stacked = nnx.split(self.blocks)

        def run_block(tokens, indexed):
            index, variables = indexed
            block = nnx.merge(graphdef, variables)
            tokens = block(tokens, regularization, index, depth_share(index, self.sizes.depth))
            return axes.constrain(tokens, axes.BATCH, None, None), None

        depth, frozen = self.sizes.depth, self.frozen_blocks
        unroll, indexed = depth <= MAX_UNROLLED_DEPTH, (jnp.arange(depth), stacked)
        if frozen:
            # In a loop of their own, which has no backward pass, for which nothing is kept.
            first, indexed = _cut(indexed, 0, frozen), _cut(indexed, frozen, depth)
            tokens, _ = jax.lax.scan(run_block, tokens, jax.lax.stop_gradient(first), unroll=unroll)
        if policy := REMAT[self.remat]:
            # A loop keeps the compiler from merging the recomputation with the forward pass; straight code would need
            # the barrier that is left out here.
            run_block, unroll = jax.checkpoint(run_block, prevent_cse=False, policy=policy), False
        if frozen < depth:
            tokens, _ = jax.lax.scan(run_block, tokens, indexed, unroll=unroll)
        return tokens


class Block(nnx.Module):
    """Attention and an MLP, each on normalised tokens and added to them (pre-norm)."""

    norm1: nnx.LayerNorm
    attention: "Attention"
    layer_scale1: LayerScale | None
    norm2: nnx.LayerNorm
    mlp: "BlockMlp"
    layer_scale2: LayerScale | None

    def __init__(
        self,
        sizes: Sizes,
        *,
        layer_scale: float = 0.0,
        norm_epsilon: float = LAYER_NORM_EPSILON,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Takes the sizes of the model, of which the depth does not matter; for the rest see `VisionTransformer`."""
        self.norm1 = _make_layer_norm(sizes.width, norm_epsilon, rngs=rngs)
        self.attention = Attention(sizes.width, sizes.heads, dtype=dtype, rngs=rngs)
        self.layer_scale1 = LayerScale(sizes.width, layer_scale) if layer_scale else None
        self.norm2 = _make_layer_norm(sizes.width, norm_epsilon, rngs=rngs)
        self.mlp = BlockMlp(sizes.width, sizes.mlp_size, dtype=dtype, rngs=rngs)
        self.layer_scale2 = LayerScale(sizes.width, layer_scale) if layer_scale else None

    def __call__(
        self,
        tokens: Float[Array, "batch tokens units"],
        regularization: Regularization,
        index: int | Int[Array, ""],
        share: Scalar,
    ) -> Float[Array, "batch tokens units"]:
        """Transforms the tokens.

        Args:
          tokens: what the block before gave.
          regularization: what is dropped after each sublayer.
          index: number of the block, for its randomness; may be traced.
          share: share of the full rate of stochastic depth that this block has.
        """
        sublayers = (
            (self.norm1, self.attention, self.layer_scale1),
            (self.norm2, self.mlp, self.layer_scale2),
        )
        for sublayer, (norm, transform, layer_scale) in enumerate(sublayers):
            layer = 2 * index + sublayer
            branch = regularization.drop_units(transform(norm(tokens)), layer)
            branch = branch if layer_scale is None else layer_scale(branch)
            tokens = tokens + regularization.drop_branch(branch, layer, share)
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

    def __init__(self, width: int, heads: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the units of a token, which the heads share out among them."""
        self.query = _make_dense(width, width, dtype=dtype, rngs=rngs)
        self.key = _make_dense(width, width, dtype=dtype, rngs=rngs)
        self.value = _make_dense(width, width, dtype=dtype, rngs=rngs)
        self.out = _make_dense(width, width, dtype=dtype, rngs=rngs)
        self.heads = heads

    def __call__(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens width"]:
        """Lets every token attend to every token."""
        batch_size, num_tokens, width = tokens.shape
        by_head = (batch_size, num_tokens, self.heads, width // self.heads)
        query, key, value = (
            axes.constrain(dense(tokens).reshape(by_head), axes.BATCH, None, axes.TENSOR, None)
            for dense in (self.query, self.key, self.value)
        )
        # The softmax is taken in float32: in bfloat16 its sum over many tokens would lose the small weights.
        similarity = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(similarity / (width // self.heads) ** 0.5, axis=-1)
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
        return self.out(attended.reshape(tokens.shape))


class BlockMlp(nnx.Module):
    """Two dense layers with an exact gelu in between."""

    hidden: nnx.Linear
    out: nnx.Linear

    def __init__(self, width: int, mlp_size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the units of a token and those of the hidden layer."""
        bias_init = nnx.initializers.normal(1e-6)
        self.hidden = _make_dense(width, mlp_size, bias_init=bias_init, dtype=dtype, rngs=rngs)
        self.out = _make_dense(mlp_size, width, bias_init=bias_init, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "batch tokens units"]) -> Float[Array, "batch tokens width"]:
        """Transforms each token by itself."""
        hidden = axes.constrain(self.hidden(tokens), axes.BATCH, None, axes.TENSOR)
        return self.out(jax.nn.gelu(hidden, approximate=False))


def extract_patches(
    images: Float[Array, "batch height width channels"], patch_size: int
) -> Float[Array, "batch patches values"]:
    """Cuts images into patches, row by row; the values of a patch are ordered by row, column and channel."""
    batch_size, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch_size, rows, patch_size, columns, patch_size, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch_size, rows * columns, patch_size**2 * channels)


def sincos2d(rows: int, columns: int, width: int) -> Float32[np.ndarray, "patches width"]:
    """Fixed position embeddings: sine and cosine of the column, then of the row, at width / 4 frequencies each.

    The frequencies fall geometrically from 1 to 1/10000. Beyer et al. 2022, "Better plain ViT baselines for
    ImageNet-1k", after Chen et al. 2021 (MoCo v3).

    Args:
      rows: rows of the grid of patches.
      columns: columns of that grid.
      width: units of a token, a multiple of 4.
    """
    row, column = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    num_frequencies = width // 4
    frequencies = 10_000.0 ** -(np.arange(num_frequencies) / max(num_frequencies - 1, 1))
    angles = (column * frequencies, row * frequencies)
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def _cut(tree: Any, start: int, stop: int) -> Any:
    """So many entries along the leading axis of each array."""
    return jax.tree.map(lambda leaf: leaf[start:stop], tree)


def _resolve_sizes(variant: str, custom: Sizes) -> Sizes:
    if variant == "custom":
        return custom
    if variant not in VARIANTS:
        raise unknown_name("model.vit.variant", variant, [*VARIANTS, "custom"])
    return VARIANTS[variant]


def _check_choices(pooling: str, positions: str, sizes: Sizes, distillation_token: bool) -> None:
    if pooling not in POOLINGS:
        raise unknown_name("model.vit.pooling", pooling, POOLINGS)
    if pooling == "token_and_distillation" and not distillation_token:
        raise UserError(
            f"model.vit.pooling: '{pooling}' reads a token that is not there; set model.vit.distillation_token=True"
        )
    if positions not in POSITIONS:
        raise unknown_name("model.vit.positions", positions, POSITIONS)
    for field in dataclasses.fields(sizes):
        require_positive(f"model.vit.{field.name}", getattr(sizes, field.name))
    if sizes.width % sizes.heads:
        raise UserError(
            f"model.vit.heads: {sizes.heads} heads cannot share out a width of {sizes.width}; "
            "choose a number that divides it"
        )
    if positions == "sincos2d" and sizes.width % 4:
        raise UserError(f"model.vit.width: positions 'sincos2d' need a multiple of 4, not {sizes.width}")


def _grid_shape(height: int, width: int, patch_size: int) -> tuple[int, int]:
    require_positive("model.vit.patch_size", patch_size)
    if height % patch_size or width % patch_size:
        raise UserError(
            f"model.vit.patch_size: patches of {patch_size} pixels do not fill images of {height} x {width}; "
            "choose a number that divides both sides, or change data.image_size"
        )
    return height // patch_size, width // patch_size


def _make_dense(
    fan_in: int,
    fan_out: int,
    *,
    bias_init: nnx.Initializer = nnx.initializers.zeros,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    kernel_init = nnx.initializers.xavier_uniform()
    return nnx.Linear(fan_in, fan_out, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype, rngs=rngs)


def _make_layer_norm(width: int, epsilon: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A norm in float32, whatever the type of the arithmetic; the dense layer after it converts."""
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)
