"""How near two rows of a set come by chance."""

import numpy as np

# Most iterations, and fewest rows for an estimate.
_ITERATIONS, _FEWEST = 20, 20


def estimate_chance_distance(distances: np.ndarray, rows: int, *, expected: float = 0.2) -> float:
    """Estimates how near two of many rows are expected to come by chance.

    If rows lie about evenly in D dimensions, nearest-neighbour distances r follow `P(r < t) = 1 - exp(-c t^D)`, and the
    ratio of the second to the first a power law with exponent D (Facco et al. 2017, "Estimating the intrinsic dimension
    of datasets by a minimal neighborhood information"). D and c are estimated from medians, repeatedly, without the
    rows that have a neighbour nearer than chance.

    Args:
      distances: (n, 2) of each row to its nearest and second nearest.
      rows: number of rows, of which the n may be a sample.
      expected: number of rows with a neighbour as near as the result.

    Returns:
      The distance; infinite if there are too few rows.
    """
    distances = np.asarray(distances, np.float64)
    distances = distances[np.isfinite(distances).all(axis=1) & (distances[:, 1] > 0)]
    chance, left = np.inf, distances
    for _ in range(_ITERATIONS):
        if len(left) < _FEWEST:
            return np.inf
        ratio = np.log(np.median(left[:, 1] / np.maximum(left[:, 0], 1e-9 * left[:, 1])))
        dimensions = np.log(2) / max(ratio, 1e-9)
        chance = float(np.median(left[:, 0]) * min(1.0, expected / (rows * np.log(2))) ** (1 / dimensions))
        # Rows with a copy lower the dimension, and so the distance; without them it grows.
        without = distances[distances[:, 0] > chance]
        if len(without) == len(left):
            break
        left = without
    return chance
