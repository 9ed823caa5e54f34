"""Histogram bins shared by several sets of values."""

from collections.abc import Mapping

import numpy as np

_MOST, _LEAST = 40, 5
# Above this, there is no float between two integers.
_LARGEST_WHOLE = 2.0**52


def bin_values(values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Counts values in bins.

    Integers over a narrow range have a bin each. Otherwise, the number of bins is the square root of the size of the
    largest set, from 5 to 40.

    Args:
      values: (n,) each, by name; values that are not finite are left out.

    Returns:
      The edges (bins + 1,) and the counts (bins,) by name; no edges if no value is finite.
    """
    finite = {name: np.asarray(each, np.float64).ravel() for name, each in values.items()}
    finite = {name: each[np.isfinite(each)] for name, each in finite.items()}
    together = np.concatenate([np.zeros(0), *finite.values()])
    if not len(together):
        return np.zeros(0), {name: np.zeros(0, np.int64) for name in finite}
    low, high = together.min(), together.max()
    # Halves, because the difference of two floats may overflow.
    narrow = high / 2 - low / 2 < _MOST / 2 and max(abs(low), abs(high)) < _LARGEST_WHOLE
    if narrow and (together == np.round(together)).all():
        edges = np.arange(low - 0.5, high + 1)
    else:
        count = int(np.clip(np.sqrt(max(map(len, finite.values()))), _LEAST, _MOST))
        margin = 0.0 if high > low else abs(low) / 2
        edges = 2 * np.linspace(low / 2 - margin / 2, high / 2 + margin / 2, count + 1)
        edges[0], edges[-1] = low - margin, high + margin
    return edges, {name: np.histogram(each, edges)[0] for name, each in finite.items()}
