"""What the diagnostics of columns share: the range of each column, which of them vary, and data without any."""

import numpy as np

from diagnostics.examples import Examples
from diagnostics.quality.missing_values import is_missing

BLOCK = 8192
"""Rows of a table that are read at once."""

NO_COLUMNS = {
    "image": "An image has no columns, so there is nothing to check.",
    "text": "A text has no columns, so there is nothing to check.",
}
"""The result for data of a kind that has no columns."""


def ranges(examples: Examples, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the smallest and largest value (F,) of each column or pixel; a missing value counts as -infinity.

    Args:
      examples: of images or a table.
      positions: (n,) of those that are read.
    """
    is_table = examples.features.kind == "table"
    shape = (int(np.prod(examples.features.shape)),)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for _, inputs in examples.blocks(positions, BLOCK if is_table else 1024):
        flat = inputs.reshape(len(inputs), -1)
        if is_table:
            flat = np.where(is_missing(flat, examples.features), -np.inf, flat)
        low, high = np.minimum(low, flat.min(axis=0)), np.maximum(high, flat.max(axis=0))
    return low, high


def varying(examples: Examples) -> np.ndarray:
    """Returns the columns (v,) of a table that vary in training. A column of one value and gaps does."""
    low, high = ranges(examples, examples.positions("train"))
    return np.flatnonzero(low < high)
