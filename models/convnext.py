"""ConvNeXt: convolutional networks with the layout of transformers.

Liu et al. 2022, "A ConvNet for the 2020s", section 2 and figure 4. Details that pretrained weights depend on (exact
gelu, biases everywhere, epsilon of the norms, the mean over positions before the last norm) are those of the authors'
code and of timm.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, PRNGKeyArray

from models.interface import Model, Scalar, require_images, require_positive
from models.layer_scale import LayerScale
from models.regularization import Regularization, depth_share
from models.remat import call_block
from plumbline import UserError, axes, unknown_name


@dataclasses.dataclass(frozen=True)
class Stages:
    """Blocks and channels of each of the four stages."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


VARIANTS = {
    "T": Stages((3, 3, 9, 3), (96, 192, 384, 768)),
    "S": Stages((3, 3, 27, 3), (96, 192, 384, 768)),
    "B": Stages((3, 3, 27, 3), (128, 256, 512, 1024)),
    "L": Stages((3, 3, 27, 3), (192, 384, 768, 1536)),
}
NUM_STAGES = 4
# Size of the depthwise kernels, hidden units of a block as a multiple of its channels, epsilon of its norms.
KERNEL_SIZE = 7
EXPANSION = 4
NORM_EPSILON = 1e-6

_INITIAL = nnx.initializers.truncated_normal(0.02)


class ConvNeXt(Model):
    """Patches from a strided convolution, four stages that halve the resolution, a mean, a norm and a dense head."""

    stem: nnx.Conv
    stem_norm: nnx.LayerNorm
    stages: nnx.List
    norm: nnx.LayerNorm
    head: nnx.Linear
    widths: tuple[int, ...]
    remat: str
    dtype: DTypeLike

    # Dense layers are sharded like the MLP of a transformer (Shoeybi et al. 2019, "Megatron-LM", section 3).
    partition_rules = (
        (r"/hidden/kernel$", (None, "tensor")),
        (r"/hidden/bias$", ("tensor",)),
        (r"/out/kernel$", ("tensor", None)),
    )

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        variant: str = "custom",
        depths: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (16, 32, 64, 128),
        patch_size: int = 4,
        layer_scale: float = 1e-6,
        norm_epsilon: float = NORM_EPSILON,
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        """Takes further arguments to those of `models/interface.py`. `remat` applies to each block.

        Args:
          variant: "T", "S", "B", "L", or "custom", which takes `depths` and `widths`.
          depths: number of blocks of each of the four stages.
          widths: channels of each stage.
          patch_size: size and stride of the first convolution in pixels; 4 in the paper.
          layer_scale: initial value of learned factors on each channel of the residual branches; 0 means no factors.
          norm_epsilon: added to the variance in the norm before the head; 1e-6 in all other norms.

        Raises:
          UserError: the inputs are not images or too small, unknown variant, or inconsistent sizes.
        """
        height, image_width, channels = require_images("convnext", input_shape)
        stages = _resolve_stages(variant, Stages(tuple(depths), tuple(widths)))
        _check_size(min(height, image_width), patch_size)

        self.stem = _make_convolution(channels, stages.widths[0], patch_size, dtype=dtype, rngs=rngs)
        self.stem_norm = _make_norm(stages.widths[0], rngs=rngs)
        self.stages = nnx.List()
        channels = stages.widths[0]
        for stage, (depth, width) in enumerate(zip(stages.depths, stages.widths, strict=True)):
            self.stages.append(
                Stage(channels, width, depth, downsample=stage > 0, layer_scale=layer_scale, dtype=dtype, rngs=rngs)
            )
            channels = width
        self.norm = _make_norm(channels, norm_epsilon, rngs=rngs)
        self.head = nnx.Linear(channels, num_outputs, kernel_init=_INITIAL, rngs=rngs)
        self.widths = stages.widths
        self.remat = remat
        self.dtype = dtype

    def tensor_units(self) -> dict[str, int]:
        """Returns the hidden units of the blocks, four times the channels of a stage."""
        return {"model.convnext.widths": math.gcd(*(EXPANSION * width for width in self.widths))}

    def features(
        self,
        inputs: Float[Array, "batch height width channels"],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch features"]:
        """Computes the normalised mean over positions of the last stage, after dropout. Arguments as in `Model`."""
        regularization = Regularization.from_arguments(
            training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth
        )
        *_, values = self._stages(inputs, regularization)
        return regularization.drop_units(self.norm(_mean(values)), 0)

    def representations(
        self, inputs: Float[Array, "batch height width channels"]
    ) -> dict[str, Float32[Array, "batch _"]]:
        """Computes the mean over positions after the stem and after each stage, then the normalised last one."""
        regularization = Regularization.from_arguments(training=False, key=None)
        means = [_mean(values) for values in self._stages(inputs, regularization)]
        names = ["stem", *(f"stages/{stage}" for stage in range(len(self.stages)))]
        return dict(zip(names, means, strict=True)) | {"features": self.norm(means[-1])}

    def _stages(
        self, inputs: Float[Array, "batch height width channels"], regularization: Regularization
    ) -> Iterator[Float[Array, "batch new_height new_width new_channels"]]:
        """Yields the output of the stem, then that of each stage."""
        values = self.stem_norm(self.stem(inputs)).astype(self.dtype)
        yield values
        num_blocks, index = sum(len(stage.blocks) for stage in self.stages), 0
        for stage in self.stages:
            values = stage.enter(values)
            for block in stage.blocks:
                branch = call_block(block, values, remat=self.remat)
                branch = regularization.drop_branch(branch, index, depth_share(index, num_blocks))
                values = axes.constrain(values + branch, axes.BATCH, None, None, None)
                index += 1
            yield values


def _mean(values: Float[Array, "batch height width channels"]) -> Float32[Array, "batch channels"]:
    return values.astype(jnp.float32).mean(axis=(1, 2))


class Stage(nnx.Module):
    """A norm and a 2x2 convolution with stride 2 (not in the first stage), then blocks."""

    downsample_norm: nnx.LayerNorm | None
    downsample: nnx.Conv | None
    blocks: nnx.List

    def __init__(
        self,
        channels_in: int,
        channels: int,
        depth: int,
        *,
        downsample: bool,
        layer_scale: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Takes the input channels, the channels of the stage, and the number of blocks."""
        self.downsample_norm = _make_norm(channels_in, rngs=rngs) if downsample else None
        self.downsample = _make_convolution(channels_in, channels, 2, dtype=dtype, rngs=rngs) if downsample else None
        self.blocks = nnx.List(Block(channels, layer_scale=layer_scale, dtype=dtype, rngs=rngs) for _ in range(depth))

    def enter(
        self, values: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Computes the input of the blocks."""
        return values if self.downsample is None else self.downsample(self.downsample_norm(values))


class Block(nnx.Module):
    """A depthwise convolution, a norm, two dense layers with an exact gelu between them, and layer scale."""

    conv: nnx.Conv
    norm: nnx.LayerNorm
    hidden: nnx.Linear
    out: nnx.Linear
    layer_scale: LayerScale | None

    def __init__(self, channels: int, *, layer_scale: float, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the number of channels; for other arguments see `ConvNeXt`."""
        padding = (KERNEL_SIZE // 2, KERNEL_SIZE // 2)
        self.conv = nnx.Conv(
            channels,
            channels,
            (KERNEL_SIZE, KERNEL_SIZE),
            padding=(padding, padding),
            feature_group_count=channels,
            kernel_init=_INITIAL,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = _make_norm(channels, rngs=rngs)
        self.hidden = nnx.Linear(channels, EXPANSION * channels, kernel_init=_INITIAL, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(EXPANSION * channels, channels, kernel_init=_INITIAL, dtype=dtype, rngs=rngs)
        self.layer_scale = LayerScale(channels, layer_scale) if layer_scale else None

    def __call__(
        self, values: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """Computes the residual branch, which the caller adds."""
        hidden = self.hidden(self.norm(self.conv(values)))
        hidden = axes.constrain(hidden, axes.BATCH, None, None, axes.TENSOR)
        branch = self.out(jax.nn.gelu(hidden, approximate=False))
        return branch if self.layer_scale is None else self.layer_scale(branch)


def _resolve_stages(variant: str, custom: Stages) -> Stages:
    if variant != "custom":
        if variant not in VARIANTS:
            raise unknown_name("model.convnext.variant", variant, [*VARIANTS, "custom"])
        return VARIANTS[variant]
    for field in dataclasses.fields(custom):
        values = getattr(custom, field.name)
        if len(values) != NUM_STAGES:
            raise UserError(
                f"model.convnext.{field.name}: {len(values)} numbers given for {NUM_STAGES} stages; "
                "give one for each stage"
            )
        require_positive(f"model.convnext.{field.name}", *values)
    return custom


def _check_size(side: int, patch_size: int) -> None:
    require_positive("model.convnext.patch_size", patch_size)
    smallest = patch_size * 2 ** (NUM_STAGES - 1)
    if side < smallest:
        raise UserError(
            f"model.convnext.patch_size: patches of {patch_size} pixels need images of at least {smallest} pixels per "
            f"side, not {side}; choose smaller patches, or a larger data.image_size"
        )


def _make_convolution(channels_in: int, channels: int, size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Conv:
    """Makes a convolution with adjacent windows. Pixels that do not fill a window are dropped."""
    return nnx.Conv(
        channels_in,
        channels,
        (size, size),
        strides=(size, size),
        padding="VALID",
        kernel_init=_INITIAL,
        dtype=dtype,
        rngs=rngs,
    )


def _make_norm(channels: int, epsilon: float = NORM_EPSILON, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Makes a norm in float32 for any type of the arithmetic. The following layer converts."""
    return nnx.LayerNorm(channels, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)
