"""Intervals of measured figures: means over seeds or folds, paired differences, shares, and means over clusters.

Every function returns (estimate, low, high). Bounds that cannot be had, as of a single value, are nan.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float, float]
"""The estimate, and the bounds that contain the true value in `confidence` of cases."""
Values = Sequence[float] | np.ndarray


def mean_interval(values: Values, confidence: float = 0.95, *, overlap: float = 0.0) -> Interval:
    """The mean of independent values with Student's t-interval; or of folds, whose training rows overlap.

    Models of different folds are trained on rows they share, so their figures are alike and the plain interval is too
    narrow. `overlap` widens it as Nadeau & Bengio 2003, section 3 (for repeated folds: Bouckaert & Frank 2004), do:
    the variance of the mean is `s**2 * (1/n + overlap)`.

    Args:
      values: (n,).
      confidence: of the interval.
      overlap: held-out rows over training rows of a fold, 1 / (K - 1) for K folds; 0 for independent values.

    Returns:
      Mean, low, high; nan bounds for a single value, all nan for none.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return (np.nan, np.nan, np.nan)
    mean = float(values.mean())
    if len(values) < 2:
        return (mean, np.nan, np.nan)
    error = values.std(ddof=1) * np.sqrt(1 / len(values) + overlap)
    return _around(mean, error, len(values) - 1, confidence)


def paired_difference(values: Values, baseline: Values, confidence: float = 0.95, *, overlap: float = 0.0) -> Interval:
    """The mean of `values - baseline` with its t-interval; what the pairs have in common cancels out.

    Args:
      values: (n,), one for each seed or fold.
      baseline: (n,), of the same seeds or folds in the same order.
      confidence: of the interval.
      overlap: as in `mean_interval`.

    Raises:
      ValueError: there are more of one than of the other.
    """
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values cannot be paired with {len(baseline)}")
    return mean_interval(np.asarray(values, float) - np.asarray(baseline, float), confidence, overlap=overlap)


def wilson_interval(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """A share of independent rows with its score interval (Wilson 1927), which holds near 0 and 1 as well.

    Args:
      successes: rows that are right; a fraction where it is a mean over seeds.
      count: rows.
      confidence: of the interval.

    Returns:
      Share, low, high; all nan without rows.
    """
    if not count:
        return (np.nan, np.nan, np.nan)
    share, z = successes / count, stats.norm.ppf((1 + confidence) / 2)
    spread = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / spread
    half = z / spread * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (share, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def clustered_interval(values: Values, clusters: np.ndarray, weights: Values, confidence: float = 0.95) -> Interval:
    """The weighted mean over rows that come in clusters, with an interval by the spread between clusters.

    Rows of one writer, patient or site are alike: what counts is how many of those there are, not how many rows
    (Liang & Zeger 1986; with as many degrees of freedom as there are clusters, less one).

    Args:
      values: (n,).
      clusters: (n,) the cluster of each row.
      weights: (n,), at least 0.
      confidence: of the interval.

    Returns:
      Mean, low, high; nan bounds for a single cluster, all nan without rows.
    """
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if not weights.any():
        return (np.nan, np.nan, np.nan)
    mean = float(np.average(values, weights=weights))
    _, index = np.unique(clusters, return_inverse=True)
    count = int(index.max()) + 1
    if count < 2:
        return (mean, np.nan, np.nan)
    sums = np.bincount(index, weights=weights * (values - mean))
    error = np.sqrt(count / (count - 1) * np.square(sums).sum()) / weights.sum()
    return _around(mean, error, count - 1, confidence)


def difference_interval(value: Interval, other: Interval) -> Interval:
    """`value - other` of two independent estimates, from their intervals.

    The bounds are those of Newcombe 1998, method 10 ("Interval estimation for the difference between independent
    proportions"): each side is as far off as the two bounds that it hangs on, squared and added.
    """
    difference = value[0] - other[0]
    below = np.hypot(value[0] - value[1], other[2] - other[0])
    above = np.hypot(value[2] - value[0], other[0] - other[1])
    return (float(difference), float(difference - below), float(difference + above))


def within(interval: Interval, low: float, high: float) -> Interval:
    """An interval that goes no further than the values there can be, as of a share, 0 and 1.

    Student's t knows of no such ends; cut off there, the interval holds the true value as often as before.
    """
    return tuple(float(np.clip(value, low, high)) for value in interval)


def _around(mean: float, error: float, degrees: int, confidence: float) -> Interval:
    half = float(stats.t.ppf((1 + confidence) / 2, degrees) * error)
    return (mean, mean - half, mean + half)
