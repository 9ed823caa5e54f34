"""Augmentation of training batches: pure functions of a key, on the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, UInt8

from plumbline import axes

# Luma weights of ITU-R BT.601, for the conversion of colour to grey.
_LUMA = (0.299, 0.587, 0.114)


def augment_images(
    key: jax.Array,
    images: UInt8[Array, "B H W C"],
    *,
    crop_padding: int,
    flip: bool,
    shift: int,
    color: float | jax.Array | None,
) -> Float[Array, "B H W C"]:
    """Applies a random crop, flip, translation and colour change, drawn for each image.

    Args:
      key: random key of this batch.
      images: raw images.
      crop_padding: pixels of black padding before a random crop to the original size (He et al. 2016, section 4.2).
      flip: mirror half of the images, left to right.
      shift: largest translation in pixels, in each direction; edges are repeated.
      color: largest relative change of brightness, contrast and, for RGB, saturation, in this order; may be traced.
        None disables it.

    Returns:
      Images in 0 to 255, float32.
    """
    batch, height, width, _ = images.shape
    crop_key, shift_key, flip_key, color_key = jax.random.split(key, 4)
    if crop_padding or shift or flip:
        # Crop, translation and flip only select pixels. They are computed on row and column indices, and the images are
        # gathered once.
        rows = jnp.broadcast_to(jnp.arange(height)[None, :], (batch, height))
        columns = jnp.broadcast_to(jnp.arange(width)[None, :], (batch, width))
        if flip:
            mirrored = axes.draw(lambda size: jax.random.bernoulli(flip_key, 0.5, (size, 1)), batch)
            columns = jnp.where(mirrored, width - 1 - columns, columns)
        if shift:
            moves = _draw_moves(shift_key, batch, shift)
            rows = jnp.clip(rows + moves[:, :1], 0, height - 1)
            columns = jnp.clip(columns + moves[:, 1:], 0, width - 1)
        if crop_padding:
            moves = _draw_moves(crop_key, batch, crop_padding)
            rows, columns = rows + moves[:, :1], columns + moves[:, 1:]
        images = _gather_pixels(images, rows, columns)
    images = images.astype(jnp.float32)
    return images if color is None else _jitter_color(color_key, images, jnp.asarray(color, jnp.float32))


def mix(
    key: jax.Array,
    inputs: Num[Array, "B ..."],
    targets: Float[Array, "B C"],
    weight: Float[Array, " B"],
    *,
    mixup: float | jax.Array | None,
    cutmix: float | jax.Array | None,
) -> tuple[Float[Array, "B ..."], Float[Array, "B C"], Float[Array, " B"]]:
    """Mixes each example with another of its batch. The mixing share is the same for the whole batch.

    Example i is mixed with example B - 1 - i; the order of a batch is random anyway. So devices that share a batch
    exchange each example once.

    mixup takes share * x + (1 - share) * x', with the share from Beta(alpha, alpha), for inputs and targets (Zhang et
    al. 2018, mixup, section 2). CutMix pastes a box of x' that covers 1 - share of the image, and counts the pixels
    that the box actually covers for the targets (Yun et al. 2019, CutMix, section 3.1). With both, one of them
    is drawn for each batch. The weight of a mixed example is the mixture of the two weights, and each target counts in
    proportion to its part of that weight. An example of weight 0 contributes no target.

    Args:
      key: random key of this batch.
      inputs: images (B, H, W, C), or vectors (B, F) for mixup only.
      targets: one-hot or soft classes, or (B, 1) values.
      weight: weights of the examples.
      mixup: alpha; may be traced. None removes mixup from the program; a value of at most 0 mixes nothing.
      cutmix: alpha of CutMix, likewise.
    """
    inputs = inputs.astype(jnp.float32)
    if mixup is None and cutmix is None:
        return inputs, targets, weight
    choice_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    other_inputs, other_targets, other_weight = map(axes.reverse_batch, (inputs, targets, weight))
    share = jnp.ones((), jnp.float32)
    # Share of each pixel that is kept: a number for mixup, a mask over height and width for CutMix.
    kept = share.reshape((1,) * inputs.ndim)
    if mixup is not None:
        share = _draw_share(mixup_key, mixup)
        kept = share.reshape((1,) * inputs.ndim)
    if cutmix is not None:
        if inputs.ndim != 4:
            raise ValueError(f"CutMix needs images (B, H, W, C), not inputs of shape {inputs.shape}.")
        mask = _outside_box(cutmix_key, cutmix, inputs.shape[1], inputs.shape[2])
        if mixup is None:
            share, kept = mask.mean(), mask[None, :, :, None]
        else:
            # A run may use only one of the two although the program has both.
            drawn = jax.random.bernoulli(choice_key)
            cut = jnp.where(jnp.asarray(mixup) > 0, (jnp.asarray(cutmix) > 0) & drawn, True)
            share, kept = jnp.where(cut, mask.mean(), share), jnp.where(cut, mask[None, :, :, None], kept)
    # Where nothing is mixed, an infinite partner times 0 must not give NaN.
    mixed = jnp.where(kept == 1.0, inputs, kept * inputs + (1.0 - kept) * other_inputs)
    own_weight, other_weight = share * weight, (1.0 - share) * other_weight
    total = own_weight + other_weight
    part = jnp.where(total > 0, own_weight / jnp.where(total > 0, total, 1.0), 1.0)[:, None]
    return mixed, part * targets + (1.0 - part) * other_targets, total


def _draw_moves(key: jax.Array, batch: int, most: int) -> jax.Array:
    """Draws shifts down and to the right (B, 2) in pixels, each from -most to most."""
    return axes.draw(lambda size: jax.random.randint(key, (size, 2), -most, most + 1), batch)


def _gather_pixels(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Gathers pixel (rows[b, i], columns[b, j]) of image b at (b, i, j). Pixels outside the image are black."""
    _, height, width, _ = images.shape
    inside = (rows >= 0)[:, :, None] & (rows < height)[:, :, None]
    inside = inside & (columns >= 0)[:, None, :] & (columns < width)[:, None, :]
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    examples = jnp.arange(images.shape[0])[:, None, None]
    pixels = images.at[examples, rows[:, :, None], columns[:, None, :]].get(mode="promise_in_bounds")
    return jnp.where(inside[:, :, :, None], pixels, jnp.zeros((), images.dtype))


def _jitter_color(key: jax.Array, images: jax.Array, color: jax.Array) -> jax.Array:
    """Scales brightness, contrast and saturation by factors uniform in [1 - color, 1 + color], never below 0."""
    uniform = axes.draw(
        lambda size: jax.random.uniform(key, (3, size, 1, 1, 1), minval=-1.0, maxval=1.0), images.shape[0], dim=1
    )
    brightness, contrast, saturation = jnp.maximum(1.0 + color * uniform, 0.0)
    images = jnp.clip(images * brightness, 0.0, 255.0)
    mean = _grey(images).mean(axis=(1, 2, 3), keepdims=True)
    images = jnp.clip(mean + contrast * (images - mean), 0.0, 255.0)
    if images.shape[-1] == 3:
        grey = _grey(images)
        images = jnp.clip(grey + saturation * (images - grey), 0.0, 255.0)
    return images


def _grey(images: jax.Array) -> jax.Array:
    if images.shape[-1] != 3:
        return images
    return (images * jnp.asarray(_LUMA, jnp.float32).reshape(1, 1, 1, 3)).sum(axis=-1, keepdims=True)


def _draw_share(key: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """A draw from Beta(alpha, alpha), or 1 for an alpha of at most 0."""
    alpha = jnp.asarray(alpha, jnp.float32)
    safe = jnp.where(alpha > 0, alpha, jnp.ones_like(alpha))
    return jnp.where(alpha > 0, jax.random.beta(key, safe, safe), jnp.ones_like(alpha))


def _outside_box(key: jax.Array, alpha: float | jax.Array, height: int, width: int) -> jax.Array:
    """A mask (H, W) float32: 0 in a box around a uniformly drawn centre, clipped at the edges, and 1 outside."""
    share_key, row_key, column_key = jax.random.split(key, 3)
    side = jnp.sqrt(1.0 - _draw_share(share_key, alpha))
    # Half the height and width of the box, rounded down as in the authors' code. An empty box mixes nothing.
    half_height, half_width = jnp.floor(height * side / 2.0), jnp.floor(width * side / 2.0)
    row = jax.random.randint(row_key, (), 0, height).astype(jnp.float32)
    column = jax.random.randint(column_key, (), 0, width).astype(jnp.float32)
    rows, columns = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
    in_rows = (rows >= row - half_height) & (rows < row + half_height)
    in_columns = (columns >= column - half_width) & (columns < column + half_width)
    return 1.0 - (in_rows[:, None] & in_columns[None, :]).astype(jnp.float32)
