"""The order of examples: a pure function of the seed and the step, so that nothing of an iterator is ever stored."""

import functools

import numpy as np

from data.random_streams import generator


def positions(num_examples: int, batch_size: int, seed: int, step: int, count: int = 1) -> np.ndarray:
    """Positions of the examples of `count` global batches from `step` on.

    The stream of examples is the epochs' permutations one after the other, and step t takes t*B to (t+1)*B of it. So
    batches straddle epochs, and no example is dropped or seen twice in an epoch.

    Args:
      num_examples: examples of the split, at least 1.
      batch_size: examples of one global batch.
      seed: of the run.
      step: first step, from 0.
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


# The epoch at hand and its neighbours, for training and for a reader that runs ahead of it.
@functools.lru_cache(maxsize=4)
def epoch_permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of all examples in one epoch.

    From the generator keyed by (seed, epoch), so that no epoch needs those before it.

    Returns:
      (num_examples,) int64, not writable.
    """
    permutation = generator(seed, epoch).permutation(num_examples)
    permutation.setflags(write=False)
    return permutation
