"""The order of examples: a pure function of the seed and the step, so no iterator state is stored."""

import functools

import numpy as np

from data.random_streams import generator


def positions(num_examples: int, batch_size: int, seed: int, step: int, count: int = 1) -> np.ndarray:
    """Returns the positions of the examples of `count` global batches from `step` on.

    The stream of examples is the concatenation of one permutation per epoch, and step t reads examples t*B to (t+1)*B
    of it. So batches may span two epochs, and no example is dropped or repeated within an epoch.

    Args:
      num_examples: number of examples of the split, at least 1.
      batch_size: examples of one global batch.
      seed: seed of the run.
      step: first step, counted from 0.
      count: number of steps.

    Returns:
      (count * batch_size,) int64.
    """
    start, stop = step * batch_size, (step + count) * batch_size
    pieces = []
    while start < stop:
        epoch, offset = divmod(start, num_examples)
        piece = epoch_permutation(num_examples, seed, epoch)[offset : offset + stop - start]
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


# Holds the current epoch and its neighbours, for training and for a reader that runs ahead.
@functools.lru_cache(maxsize=4)
def epoch_permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of all examples in one epoch.

    It is drawn from the generator keyed by (seed, epoch), so no epoch depends on earlier ones.

    Returns:
      (num_examples,) int64, read-only.
    """
    permutation = generator(seed, epoch).permutation(num_examples)
    permutation.setflags(write=False)
    return permutation
