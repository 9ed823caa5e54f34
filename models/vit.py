"""Vision transformers.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1 and table 1; Ti and S after Touvron et al. 2021,
"Training data-efficient image transformers", table 1. Details that pretrained weights depend on (exact gelu, biases
everywhere, epsilon of the norms, a position for the class token) are those of timm.

Shapes: `tokens` counts the class token, the distillation token and the patches, in this order.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, PRNGKeyArray

from models.interface import Scalar, require_images, require_positive
from models.regularization import Regularization
from models.transformer import Sizes, Transformer, make_blocks, make_layer_norm
from plumbline import UserError, unknown_name

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


class VisionTransformer(Transformer):
    """Patches as tokens, pre-norm transformer blocks, and a dense head on the class token or the mean.

    Also supports the heads of some pretrained models: on the class token and the mean of the patches (Oquab et al.
    2023, "DINOv2", section 7.1), or on the class and distillation tokens (Touvron et al. 2021, section 3).
    """

    embedding: nnx.Linear
    class_token: nnx.Param | None
    distillation_token: nnx.Param | None
    positions: nnx.Param | None
    norm: nnx.LayerNorm
    head: nnx.Linear
    patch_size: int
    pooling: str
    grid: tuple[int, int]

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
        """Takes further arguments to those of `models/interface.py`. `remat` applies to each block.

        Args:
          variant: "Ti", "S", "B", "L", "H", or "custom", which takes `width`, `depth`, `heads` and `mlp_size`.
          patch_size: side length of a patch in pixels.
          width: units of a token.
          depth: number of blocks.
          heads: number of attention heads.
          mlp_size: hidden units of each block's MLP.
          pooling: input of the head: "token" (the class token), "mean" (of all patches, without a class token),
            "token_and_mean" or "token_and_distillation" (both, concatenated).
          positions: "learned", or "sincos2d" (fixed; none for the class and distillation tokens).
          distillation_token: whether to add a token after the class token.
          layer_scale: initial value of learned factors on each channel of the residual branches (Touvron et al. 2021,
            "Going deeper with Image Transformers", section 2.1); 0 means no such factors.
          norm_epsilon: added to the variance in the norms.

        Raises:
          UserError: the inputs are not images or do not divide into patches, unknown variant, pooling or positions, or
            inconsistent sizes.
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
        shared = {"layer_scale": layer_scale, "norm_epsilon": norm_epsilon, "dtype": dtype}
        self.blocks = make_blocks(sizes, **shared, rngs=rngs)
        self.norm = make_layer_norm(sizes.width, norm_epsilon, rngs=rngs)
        # Zero, as in the code of Dosovitskiy et al. and Beyer et al.: initial predictions are uniform.
        num_features = sizes.width * (2 if pooling.startswith("token_and_") else 1)
        self.head = nnx.Linear(num_features, num_outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.patch_size = patch_size
        self.sizes = sizes
        self.pooling = pooling
        self.grid = grid
        self.frozen_blocks = 0
        self.remat = remat
        self.dtype = dtype

    def tensor_units(self) -> dict[str, int]:
        """Returns the attention heads and the hidden units."""
        return {"model.vit.heads": self.sizes.heads, "model.vit.mlp_size": self.sizes.mlp_size}

    def features(
        self,
        inputs: Float[Array, "batch height width channels"],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch features"]:
        """Computes the normalised class token or mean of the patches, by `pooling`. Arguments as in `Model`."""
        regularization = Regularization.from_arguments(
            training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth
        )
        tokens = self.run_blocks(self._embed(inputs), regularization)
        return self._pool(self.norm(tokens))

    def representations(
        self, inputs: Float[Array, "batch height width channels"]
    ) -> dict[str, Float32[Array, "batch _"]]:
        """Computes the mean of the patches after the embedding and after each block, then the features.

        The mean is used for every pooling, because the class token holds little information in early blocks.
        """
        found, tokens = self.run_and_summarize(self._embed(inputs), self._mean)
        return found | {"features": self._pool(self.norm(tokens))}

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patches."""
        return (self.class_token is not None) + (self.distillation_token is not None)

    def _pool(self, normalized: Float[Array, "batch tokens units"]) -> Float[Array, "batch features"]:
        """Reduces normalised tokens to the input of the head."""
        if self.pooling == "token":
            return normalized[:, 0]
        if self.pooling == "token_and_distillation":
            return jnp.concatenate([normalized[:, 0], normalized[:, 1]], axis=1)
        mean = self._mean(normalized)
        return mean if self.pooling == "mean" else jnp.concatenate([normalized[:, 0], mean], axis=1)

    def _mean(self, tokens: Float[Array, "batch tokens units"]) -> Float32[Array, "batch units"]:
        """Computes the mean of the patches."""
        return tokens[:, self.num_prefix_tokens :].astype(jnp.float32).mean(axis=1)

    def _embed(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch tokens units"]:
        """Embeds patches, prepends the class and distillation tokens, and adds positions."""
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


def extract_patches(
    images: Float[Array, "batch height width channels"], patch_size: int
) -> Float[Array, "batch patches values"]:
    """Splits images into patches, row by row. Values of a patch are ordered by row, column and channel."""
    batch_size, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch_size, rows, patch_size, columns, patch_size, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch_size, rows * columns, patch_size**2 * channels)


def sincos2d(rows: int, columns: int, width: int) -> Float32[np.ndarray, "patches width"]:
    """Computes fixed position embeddings: sine and cosine of the column, then of the row, at width / 4 frequencies.

    The frequencies decrease geometrically from 1 to 1/10000. Beyer et al. 2022, "Better plain ViT baselines for
    ImageNet-1k", after Chen et al. 2021 (MoCo v3).

    Args:
      rows: rows of the patch grid.
      columns: columns of the patch grid.
      width: units of a token, a multiple of 4.
    """
    row, column = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    num_frequencies = width // 4
    frequencies = 10_000.0 ** -(np.arange(num_frequencies) / max(num_frequencies - 1, 1))
    angles = (column * frequencies, row * frequencies)
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1).astype(np.float32)


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
            f"model.vit.pooling: '{pooling}' needs a distillation token; set model.vit.distillation_token=True"
        )
    if positions not in POSITIONS:
        raise unknown_name("model.vit.positions", positions, POSITIONS)
    sizes.check("model.vit")
    if positions == "sincos2d" and sizes.width % 4:
        raise UserError(f"model.vit.width: positions 'sincos2d' need a multiple of 4, not {sizes.width}")


def _grid_shape(height: int, width: int, patch_size: int) -> tuple[int, int]:
    require_positive("model.vit.patch_size", patch_size)
    if height % patch_size or width % patch_size:
        raise UserError(
            f"model.vit.patch_size: patches of {patch_size} pixels do not fill images of {height} x {width}; "
            "choose a divisor of both sides, or change data.image_size"
        )
    return height // patch_size, width // patch_size
