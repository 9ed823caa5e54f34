"""What a search for nearly equal examples gives."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Alike:
    """Pairs of examples that are nearly the same.

    Attributes:
      pairs: (p, 2) positions, the lesser first.
      distances: (p,) of each pair.
      threshold: the greatest distance that counts.
      left_out: examples that could not be judged.
    """

    pairs: np.ndarray
    distances: np.ndarray
    threshold: float
    left_out: int = 0
