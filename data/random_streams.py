"""The random streams: one number for each purpose of random draws, so that no two purposes share draws by accident.

On the host, NumPy's counter-based Philox generator is keyed by a seed and a `Stream`. On the device, a `KeyPurpose` is
folded into a JAX key. Results depend on these numbers: do not change one.
"""

import enum

import numpy as np

# The order of examples is keyed by (seed, epoch) and takes all numbers below.
_FIRST = 2**63


class Stream(enum.IntEnum):
    """What a generator on the host draws, besides the order of examples, whose streams are the epochs 0, 1, 2, ..."""

    TEST_SPLIT = _FIRST + 1
    VALIDATION_SPLIT = _FIRST + 2
    NESTED_SUBSETS = _FIRST + 3
    # Rows of each class (`data.examples_per_class`).
    ROWS_OF_CLASSES = _FIRST + 4
    # Labels of an audit's control, independent of the inputs. They share the number of the stream above, which is kept
    # so that old audits can be repeated. No result compares the two.
    RANDOM_LABELS = _FIRST + 4
    # Rows on which an audit tries each column by itself.
    COLUMN_TRIALS = _FIRST + 21
    # Rows that an audit looks at for anomalies, where there are too many to look at all.
    ANOMALY_SAMPLE = _FIRST + 22


class KeyPurpose(enum.IntEnum):
    """What a JAX key is folded with. Switching one purpose on does not change the draws of another."""

    # Into the key of a step.
    AUGMENT = 0
    MIX = 1
    MODEL = 2
    CORRUPT = 3
    # Into the key of the initial parameters, so that these are the same with and without adapters.
    ADAPTERS = 0x4C6F5241


EVALUATION_SEED = 0
"""Seed of the corruption of inputs in evaluation (masked tokens), with the example's index: the same at every step."""


def generator(seed: int, stream: int) -> np.random.Generator:
    """The generator keyed by two integers of at most 64 bits; equal keys give equal numbers on every machine.

    From the counter-based Philox generator (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).

    Args:
      seed: of the run.
      stream: a `Stream`, or an epoch.
    """
    bits = 2**64 - 1
    return np.random.Generator(np.random.Philox(key=np.array([seed & bits, stream & bits], dtype=np.uint64)))
