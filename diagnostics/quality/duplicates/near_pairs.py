"""The result of a search for nearly equal examples."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of examples that are nearly equal.

    Attributes:
      pairs: (p, 2) positions, the smaller first.
      distances: (p,) of each pair.
      threshold: greatest distance of a pair.
      left_out: number of examples that could not be compared.
    """

    pairs: np.ndarray
    distances: np.ndarray
    threshold: float
    left_out: int = 0
