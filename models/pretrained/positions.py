"""Resizing of position embeddings to another grid of patches."""

import math
from collections.abc import Callable

import numpy as np

from plumbline import UserError


def fit(
    table: np.ndarray, grid: tuple[int, int], num_prefix: int, method: str, *, square: bool = True
) -> tuple[np.ndarray, tuple[int, int]]:
    """Fits position embeddings of a source to the tokens of a model.

    Args:
      table: (tokens, width) of the source. If its class token has no position, that of the model is zero.
      grid: rows and columns of the model's patches.
      num_prefix: tokens of the model before the patches.
      method: a key of `METHODS`.
      square: whether the grid of the source is square. Otherwise a source with as many patches as the model is assumed
        to have the same grid.

    Returns:
      The table (num_prefix + rows * columns, width), the same object if nothing changes; and the grid of the source.

    Raises:
      UserError: the tokens of the source do not form a grid.
    """
    for prefix in (num_prefix, 0):
        patches = len(table) - prefix
        side = math.isqrt(max(patches, 0))
        if patches == math.prod(grid) and (not square or side**2 != patches):
            source = grid
        elif patches > 0 and side**2 == patches:
            source = (side, side)
        else:
            continue
        positions = table[prefix:]
        if source != grid:
            positions = resize(positions.reshape(*source, -1), grid, method).reshape(math.prod(grid), -1)
        if prefix == num_prefix:
            return (table if source == grid else np.concatenate([table[:prefix], positions])), source
        return np.concatenate([np.zeros((num_prefix, table.shape[1]), np.float32), positions]), source
    raise UserError(
        f"transfer.source: {len(table)} position embeddings do not form a square grid of patches, with or without "
        f"{num_prefix} tokens before them; set the model's fields to those of the weights"
    )


def resize(table: np.ndarray, grid: tuple[int, int], method: str) -> np.ndarray:
    """Resizes a table (rows, columns, width) to another grid.

    Args:
      table: float32 table.
      grid: new rows and columns.
      method: a key of `METHODS`.
    """
    kernel, support, antialias = METHODS[method]
    rows, columns = (
        _weights(old, new, kernel, support, antialias) for old, new in zip(table.shape[:2], grid, strict=True)
    )
    return np.einsum("ai,bj,ijw->abw", rows, columns, table.astype(np.float64), optimize=True).astype(np.float32)


def _weights(
    old: int, new: int, kernel: Callable[[np.ndarray], np.ndarray], support: int, antialias: bool
) -> np.ndarray:
    """Returns the weight of each old point in each new one (new, old). Coordinates are pixel centres.

    Without antialiasing, points outside the grid are replaced by the nearest one. With antialiasing they are dropped,
    and the kernel is as wide as a new pixel.
    """
    scale = old / new
    centers = (np.arange(new) + 0.5) * scale - 0.5
    if antialias:
        width = max(scale, 1.0)
        weights = kernel((centers[:, None] - np.arange(old)[None, :]) / width)
        return weights / weights.sum(axis=1, keepdims=True)
    taps = np.floor(centers).astype(np.int64)[:, None] + np.arange(1 - support, 1 + support)[None, :]
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new)[:, None], taps.clip(0, old - 1)), kernel(centers[:, None] - taps))
    return weights


def _cubic(a: float) -> Callable[[np.ndarray], np.ndarray]:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", equation 4."""

    def kernel(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


def _linear(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0.0)


# Kernel, its half width, and whether it widens when the grid shrinks; as `interpolate` of PyTorch.
METHODS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, bool]] = {
    "bicubic": (_cubic(-0.75), 2, False),
    "bicubic, antialiased": (_cubic(-0.5), 2, True),
    "bilinear": (_linear, 1, False),
}
