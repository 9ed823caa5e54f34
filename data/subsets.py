"""Nested subsets of the training rows: each smaller one lies inside the larger ones."""

import numpy as np

from data.random_streams import Stream, generator
from plumbline import UserError

# A subset with fewer rows, or fewer of a class, says little.
_LEAST_ROWS, _LEAST_OF_A_CLASS = 32, 2


def sizes(num_rows: int, count: int, num_classes: int = 0) -> list[int]:
    """Sizes of subsets, each smaller than the next by the same factor, the half and all rows among them.

    The factor is 2, or where that would lead to subsets too small, its second, third, ... root.

    Args:
      num_rows: rows there are.
      count: of sizes.
      num_classes: 0 for regression.

    Returns:
      Sizes from small to large; the last is `num_rows`.

    Raises:
      UserError: there are too few rows for as many sizes.
    """
    least = max(_LEAST_ROWS, _LEAST_OF_A_CLASS * num_classes)
    # With `parts` sizes from the half to the whole, the half is among them if there are more than that.
    for parts in range(1, count):
        found = [round(num_rows * 2 ** (-step / parts)) for step in reversed(range(count))]
        if found[0] >= least and len(set(found)) == count:
            return found
    raise UserError(
        f"--sizes: {count} given, but of {num_rows} training rows no so many subsets can be made that have at least "
        f"{least} rows each; give fewer sizes, or more data"
    )


def nested_order(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """An order of the rows whose first n are a subset for every n; of classes, each beginning has nearly their shares.

    Args:
      labels: (N,) int32 classes, or float32, whose values do not count.
      seed: of the draw.

    Returns:
      (N,) int64 positions.
    """
    order = generator(seed, Stream.NESTED_SUBSETS).permutation(len(labels))
    if labels.dtype != np.int32:
        return order
    # The rank of each row within its class, as a share of the class: all classes advance at the same pace.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    pace = np.empty(len(labels))
    pace[by_class] = (rank + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(pace[order], kind="stable")]
