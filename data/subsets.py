"""Nested subsets of the training rows: every subset contains all smaller ones."""

import numpy as np

from data.random_streams import Stream, generator
from plumbline import UserError

# Smallest useful size of a subset, in rows and in rows of a class.
_LEAST_ROWS, _LEAST_OF_A_CLASS = 32, 2
_GOLDEN = (np.sqrt(5) - 1) / 2


def choose_sizes(num_rows: int, count: int, num_classes: int = 0) -> list[int]:
    """Chooses sizes of subsets with a constant factor between them. They include half of the rows and all rows.

    The factor is 2 or, if subsets would be too small, its second, third, ... root.

    Args:
      num_rows: number of rows.
      count: number of sizes.
      num_classes: number of classes; 0 for regression.

    Returns:
      Sizes in ascending order; the last is `num_rows`.

    Raises:
      UserError: there are too few rows.
    """
    least = max(_LEAST_ROWS, _LEAST_OF_A_CLASS * num_classes)
    # There are `parts` steps from half of the rows to all of them.
    for parts in range(1, count):
        found = [round(num_rows * 2 ** (-step / parts)) for step in reversed(range(count))]
        if found[0] >= least and len(set(found)) == count:
            return found
    raise UserError(
        f"--sizes: {count} given, but {num_rows} training rows are too few for subsets of at least {least} rows each; "
        "give fewer sizes, or more data"
    )


def nested_order(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Draws an order of the rows whose first n rows are the subset of size n, with nearly constant class shares.

    Args:
      labels: (N,) int32 classes, or float32, whose values are not used.
      seed: seed of the draw.

    Returns:
      (N,) int64 positions.
    """
    order = generator(seed, Stream.NESTED_SUBSETS).permutation(len(labels))
    if labels.dtype != np.int32:
        return order
    # Sort by the relative rank of a row within its class, so that all classes grow at the same rate.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    pace = np.empty(len(labels))
    pace[by_class] = (rank + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(pace[order], kind="stable")]


def spread(number: int, num_rows: int) -> int:
    """Returns where the subsets of a seed begin in an order of the rows that all seeds share.

    The places of the first seeds, however many, are far apart on the circle of the rows: they are multiples of the
    golden ratio (Knuth 1998, The Art of Computer Programming 3, section 6.4, theorem S).

    Args:
      number: of the seed, from 0.
      num_rows: number of rows.
    """
    return int(number * _GOLDEN % 1 * num_rows)
