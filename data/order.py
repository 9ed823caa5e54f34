"""The order of examples: a pure function of the seed and the step, so that nothing of an iterator is ever stored."""

import functools

import numpy as np


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

    From the counter-based Philox generator keyed by (seed, epoch), so that any epoch is had without those before it
    (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).

    Returns:
      (num_examples,) int64, not writable.
    """
    permutation = generator(seed, epoch).permutation(num_examples)
    permutation.setflags(write=False)
    return permutation


def generator(seed: int, counter: int) -> np.random.Generator:
    """The generator keyed by two integers of at most 64 bits; equal keys give equal numbers on every machine."""
    bits = 2**64 - 1
    return np.random.Generator(np.random.Philox(key=np.array([seed & bits, counter & bits], dtype=np.uint64)))
