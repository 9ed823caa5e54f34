"""Residual networks with 10, 18, 34, 50 or 101 layers.

He et al. 2016, "Deep Residual Learning for Image Recognition", table 1; bottlenecks in version 1.5, whose stride is in
the 3x3 convolution. Padding is symmetric and explicit, as in torchvision, so that its weights can be loaded.
"""

from collections.abc import Iterator
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, PRNGKeyArray

from models.interface import Model, Scalar, require_images, require_positive
from models.regularization import Regularization, depth_share
from models.remat import call_block
from plumbline import axes, unknown_name

# Height or width in pixels below which the "auto" stem keeps the resolution.
SMALL_IMAGE = 64

NORMS = ("batch", "group")
STEMS = ("auto", "large", "small")


class ResNet(Model):
    """A stem, four stages of residual blocks, and a dense head. Each stage but the first halves the resolution."""

    stem: "ConvolutionAndNorm"
    stages: nnx.List
    head: nnx.Linear
    small_stem: bool
    remat: str

    # Convolutions are sharded by output channels.
    partition_rules = ((r"(^|/)conv\d?/kernel$", (None, None, None, "tensor")),)

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        categories: tuple[int, ...],
        num_outputs: int,
        depth: int = 18,
        width: int = 64,
        norm: str = "batch",
        stem: str = "auto",
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        """Takes further arguments to those of `models/interface.py`. `remat` applies to each block.

        Args:
          depth: number of layers: 10, 18 or 34 (basic blocks), 50 or 101 (bottlenecks).
          width: channels of the first stage; 64 in the paper.
          norm: "batch", or "group" (Wu and He 2018).
          stem: "large" (7x7, stride 2, max pooling), "small" (3x3, stride 1) or "auto" (small under 64 pixels).

        Raises:
          UserError: the inputs are not images, unknown depth, norm or stem, or a width below 1.
        """
        height, image_width, channels = require_images("resnet", input_shape)
        self.remat = remat
        if depth not in ARCHITECTURES:
            raise unknown_name("model.resnet.depth", depth, [str(known) for known in ARCHITECTURES])
        if norm not in NORMS:
            raise unknown_name("model.resnet.norm", norm, NORMS)
        if stem not in STEMS:
            raise unknown_name("model.resnet.stem", stem, STEMS)
        require_positive("model.resnet.width", width)

        shared = {"norm": norm, "dtype": dtype, "rngs": rngs}
        self.small_stem = stem == "small" or (stem == "auto" and min(height, image_width) < SMALL_IMAGE)
        size, stride = (3, 1) if self.small_stem else (7, 2)
        self.stem = ConvolutionAndNorm(channels, width, size=size, stride=stride, **shared)

        block_type, blocks_per_stage = ARCHITECTURES[depth]
        self.stages = nnx.List()
        channels = width
        for stage, num_blocks in enumerate(blocks_per_stage):
            blocks = nnx.List()
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(block_type(channels, width * 2**stage, stride=stride, **shared))
                channels = width * 2**stage * block_type.expansion
            self.stages.append(blocks)
        # Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1.
        self.head = nnx.Linear(channels, num_outputs, kernel_init=nnx.initializers.normal(0.01), rngs=rngs)

    def num_layers(self) -> int:
        """Counts the stem, each residual block, and the head."""
        return sum(map(len, self.stages)) + 2

    def layer(self, path: str) -> int:
        """Numbers blocks over all stages."""
        if not path.startswith("stages/"):
            return super().layer(path)
        stage, block = map(int, path.split("/")[1:3])
        return sum(len(blocks) for blocks in self.stages[:stage]) + block + 1

    def features(
        self,
        inputs: Float[Array, "batch height width channels"],
        *,
        training: bool = False,
        key: PRNGKeyArray | None = None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> Float32[Array, "batch features"]:
        """Computes the mean over positions of the last stage, after dropout. Arguments as in `Model`."""
        regularization = Regularization.from_arguments(
            training=training, key=key, dropout=dropout, stochastic_depth=stochastic_depth
        )
        *_, values = self._stages(inputs, training, regularization)
        return regularization.drop_units(_mean(values), 0)

    def representations(
        self, inputs: Float[Array, "batch height width channels"]
    ) -> dict[str, Float32[Array, "batch _"]]:
        """Computes the mean over positions after the stem and after each stage; the last one is "features"."""
        stages = self._stages(inputs, False, Regularization.from_arguments(training=False, key=None))
        names = ["stem", *(f"stages/{stage}" for stage in range(len(self.stages) - 1)), "features"]
        return {name: _mean(values) for name, values in zip(names, stages, strict=True)}

    def _stages(
        self, inputs: Float[Array, "batch height width channels"], training: bool, regularization: Regularization
    ) -> Iterator[Float[Array, "batch new_height new_width new_channels"]]:
        """Yields the output of the stem, then that of each stage."""
        values = jax.nn.relu(self.stem(inputs, training))
        if not self.small_stem:
            values = nnx.max_pool(values, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        yield values
        num_blocks, index = sum(map(len, self.stages)), 0
        for stage in self.stages:
            for block in stage:
                shortcut, branch = call_block(block, values, training, remat=self.remat, update_statistics=training)
                branch = regularization.drop_branch(branch, index, depth_share(index, num_blocks))
                values = axes.constrain(jax.nn.relu(shortcut + branch), axes.BATCH, None, None, None)
                index += 1
            yield values


def _mean(values: Float[Array, "batch height width channels"]) -> Float32[Array, "batch channels"]:
    return values.astype(jnp.float32).mean(axis=(1, 2))


class ConvolutionAndNorm(nnx.Module):
    """A convolution followed by a norm."""

    conv: nnx.Conv
    norm: nnx.BatchNorm | nnx.GroupNorm

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        size: int,
        stride: int,
        norm: str,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Takes the kernel size in pixels; for other arguments see `ResNet`."""
        self.conv = _make_convolution(channels_in, channels_out, size, stride=stride, dtype=dtype, rngs=rngs)
        self.norm = _make_norm(norm, channels_out, rngs=rngs)

    def __call__(
        self, values: Float[Array, "batch height width channels"], training: bool
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Convolves and normalises."""
        return _normalize(self.norm, self.conv(values), training)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions, the first with the stride (He et al. 2016, figure 5, left)."""

    # Output channels as a multiple of the inner channels.
    expansion: ClassVar[int] = 1

    conv1: nnx.Conv
    norm1: nnx.BatchNorm | nnx.GroupNorm
    conv2: nnx.Conv
    norm2: nnx.BatchNorm | nnx.GroupNorm
    shortcut: ConvolutionAndNorm | None

    def __init__(self, channels_in: int, channels: int, *, stride: int, norm: str, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the input channels and the inner channels; for other arguments see `ResNet`."""
        self.conv1 = _make_convolution(channels_in, channels, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.norm1 = _make_norm(norm, channels, rngs=rngs)
        self.conv2 = _make_convolution(channels, channels, 3, dtype=dtype, rngs=rngs)
        self.norm2 = _make_norm(norm, channels, rngs=rngs, zero_scale=True)
        self.shortcut = _make_shortcut(channels_in, channels, stride=stride, norm=norm, dtype=dtype, rngs=rngs)

    def __call__(
        self, values: Float[Array, "batch height width channels"], training: bool
    ) -> tuple[
        Float[Array, "batch new_height new_width new_channels"], Float[Array, "batch new_height new_width new_channels"]
    ]:
        """Computes the shortcut and the residual branch, which the caller adds."""
        branch = jax.nn.relu(_normalize(self.norm1, self.conv1(values), training))
        branch = _normalize(self.norm2, self.conv2(branch), training)
        return _apply_shortcut(self.shortcut, values, training), branch


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, the middle one with the stride (He et al. 2016, figure 5, right; v1.5)."""

    # Output channels as a multiple of the inner channels.
    expansion: ClassVar[int] = 4

    conv1: nnx.Conv
    norm1: nnx.BatchNorm | nnx.GroupNorm
    conv2: nnx.Conv
    norm2: nnx.BatchNorm | nnx.GroupNorm
    conv3: nnx.Conv
    norm3: nnx.BatchNorm | nnx.GroupNorm
    shortcut: ConvolutionAndNorm | None

    def __init__(self, channels_in: int, channels: int, *, stride: int, norm: str, dtype: DTypeLike, rngs: nnx.Rngs):
        """Takes the input channels and the inner channels; for other arguments see `ResNet`."""
        channels_out = channels * self.expansion
        self.conv1 = _make_convolution(channels_in, channels, 1, dtype=dtype, rngs=rngs)
        self.norm1 = _make_norm(norm, channels, rngs=rngs)
        self.conv2 = _make_convolution(channels, channels, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.norm2 = _make_norm(norm, channels, rngs=rngs)
        self.conv3 = _make_convolution(channels, channels_out, 1, dtype=dtype, rngs=rngs)
        self.norm3 = _make_norm(norm, channels_out, rngs=rngs, zero_scale=True)
        self.shortcut = _make_shortcut(channels_in, channels_out, stride=stride, norm=norm, dtype=dtype, rngs=rngs)

    def __call__(
        self, values: Float[Array, "batch height width channels"], training: bool
    ) -> tuple[
        Float[Array, "batch new_height new_width new_channels"], Float[Array, "batch new_height new_width new_channels"]
    ]:
        """Computes the shortcut and the residual branch, which the caller adds."""
        branch = jax.nn.relu(_normalize(self.norm1, self.conv1(values), training))
        branch = jax.nn.relu(_normalize(self.norm2, self.conv2(branch), training))
        branch = _normalize(self.norm3, self.conv3(branch), training)
        return _apply_shortcut(self.shortcut, values, training), branch


# By depth: block type and number of blocks of each stage (He et al. 2016, table 1; 10 as in timm).
ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def _make_convolution(
    channels_in: int, channels_out: int, size: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Conv:
    """Makes a convolution without bias; the following norm would cancel it."""
    return nnx.Conv(
        channels_in,
        channels_out,
        (size, size),
        strides=(stride, stride),
        padding=((size // 2, size // 2), (size // 2, size // 2)),
        use_bias=False,
        # He et al. 2015, "Delving Deep into Rectifiers", section 2.2, in its fan-out form, as in torchvision.
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        rngs=rngs,
    )


def _make_norm(norm: str, channels: int, *, rngs: nnx.Rngs, zero_scale: bool = False) -> nnx.BatchNorm | nnx.GroupNorm:
    """Makes a norm in float32. With zero scale a block starts as the identity (Goyal et al. 2017, section 5.1)."""
    scale_init = nnx.initializers.zeros if zero_scale else nnx.initializers.ones
    options = {"epsilon": 1e-5, "scale_init": scale_init, "dtype": jnp.float32, "rngs": rngs}
    if norm == "batch":
        return nnx.BatchNorm(channels, momentum=0.9, **options)
    return nnx.GroupNorm(channels, num_groups=num_groups(channels), **options)


def num_groups(channels: int) -> int:
    """Returns the largest number of groups, at most 32 (Wu and He 2018, section 4), that divides the channels."""
    return max(groups for groups in range(1, min(32, channels) + 1) if channels % groups == 0)


def _normalize(
    norm: nnx.BatchNorm | nnx.GroupNorm, values: Float[Array, "*shape"], training: bool
) -> Float[Array, "*shape"]:
    """Applies a norm. In training, batch norms that are not frozen use and record the statistics of this batch."""
    if isinstance(norm, nnx.BatchNorm):
        use_running_average = norm.use_running_average or not training
        if not use_running_average:
            # The statistics are those of the whole batch, also where each device sees a part of it.
            norm.axis_name = axes.mapped_axis()
        normalized = norm(values, use_running_average=use_running_average)
    else:
        normalized = norm(values)
    return normalized.astype(values.dtype)


def _make_shortcut(
    channels_in: int, channels_out: int, *, stride: int, norm: str, dtype: DTypeLike, rngs: nnx.Rngs
) -> ConvolutionAndNorm | None:
    """Makes a projection if the shape changes (He et al. 2016, section 3.3, option B), else returns None."""
    if stride == 1 and channels_in == channels_out:
        return None
    return ConvolutionAndNorm(channels_in, channels_out, size=1, stride=stride, norm=norm, dtype=dtype, rngs=rngs)


def _apply_shortcut(
    shortcut: ConvolutionAndNorm | None, values: Float[Array, "batch height width channels"], training: bool
) -> Float[Array, "batch new_height new_width new_channels"]:
    return values if shortcut is None else shortcut(values, training)
