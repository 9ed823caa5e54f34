"""Intervals and corrections: means over seeds or folds, differences, shares, clusters, AUC, and many p-values.

Every interval is (estimate, low, high). Bounds that cannot be computed, as for a single value, are nan.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float, float]
"""The estimate, and the bounds that contain the true value in a share `confidence` of cases."""
Values = Sequence[float] | np.ndarray
LEAST_CLUSTERS = 3
"""Fewest clusters for an interval; with two, one degree of freedom is left at most."""


def mean_interval(values: Values, confidence: float = 0.95, *, overlap: float = 0.0) -> Interval:
    """Computes a mean with Student's t-interval, of independent values or of folds whose training rows overlap.

    Models of different folds share training rows, so their figures are correlated and the plain interval is too narrow.
    `overlap` widens it: the variance of the mean is `s**2 * (1/n + overlap)` (Nadeau & Bengio 2003, section 3; for
    repeated folds Bouckaert & Frank 2004).

    Args:
      values: (n,).
      confidence: of the interval.
      overlap: held-out rows over training rows of a fold, 1 / (K - 1) for K folds; 0 for independent values.

    Returns:
      Mean, low, high. The bounds are nan for a single value; all three are nan for none.
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
    """Computes the mean of `values - baseline` with its t-interval; effects that pairs share cancel out.

    Args:
      values: (n,), one for each seed or fold.
      baseline: (n,), for the same seeds or folds in the same order.
      confidence: of the interval.
      overlap: as in `mean_interval`.

    Raises:
      ValueError: the lengths differ.
    """
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values cannot be paired with {len(baseline)}")
    return mean_interval(np.asarray(values, float) - np.asarray(baseline, float), confidence, overlap=overlap)


def wilson_interval(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """Computes a share of independent rows with its score interval (Wilson 1927), which also holds near 0 and 1.

    Args:
      successes: number of successes; a fraction if it is a mean over seeds.
      count: number of rows.
      confidence: of the interval.

    Returns:
      Share, low, high; all nan without rows.
    """
    if not count:
        return (np.nan, np.nan, np.nan)
    share, z = successes / count, stats.norm.ppf((1 + confidence) / 2)
    scale = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # At 0 and 1 rounding must not leave the estimate outside of its own interval.
    return (share, float(min(share, max(0.0, centre - half))), float(max(share, min(1.0, centre + half))))


def clustered_interval(values: Values, clusters: np.ndarray, weights: Values, confidence: float = 0.95) -> Interval:
    """Computes a weighted mean of rows in clusters, with an interval from the variance between clusters.

    Rows of one writer, patient or site are correlated, so the number of clusters counts, not the number of rows. The
    variance is the bias-reduced CR2 (Bell & McCaffrey 2002). Its degrees of freedom are those of Imbens & Kolesar
    2016, section 4, with the correlation within clusters estimated from the rows; they are few where some clusters
    are much larger than others.

    Args:
      values: (n,).
      clusters: (n,) the cluster of each row.
      weights: (n,), at least 0.
      confidence: of the interval.

    Returns:
      Mean, low, high. The bounds are nan for fewer than `LEAST_CLUSTERS` clusters with weight; all three are nan
      without rows.
    """
    mean, error, degrees = clustered_error(values, clusters, weights)
    return _around(mean, error, degrees, confidence)


def clustered_error(values: Values, clusters: np.ndarray, weights: Values) -> tuple[float, float, float]:
    """Computes a weighted mean of rows in clusters with its standard error and the degrees of freedom of that.

    The method and the arguments are those of `clustered_interval`; error and degrees are nan where it has no bounds.
    """
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    there = weights > 0
    if not there.any():
        return (np.nan, np.nan, np.nan)
    values, weights, clusters = values[there], weights[there], np.asarray(clusters)[there]
    mean = float(np.average(values, weights=weights))
    _, index = np.unique(clusters, return_inverse=True)
    if index.max() + 1 < LEAST_CLUSTERS:
        return (mean, np.nan, np.nan)
    totals, squares = np.bincount(index, weights), np.bincount(index, weights**2)
    sums = np.bincount(index, weights * (values - mean))
    shares = totals / totals.sum()
    # Variances of the clusters' means where a row's is 1.
    correlation = _correlation_within(index, weights, values - mean)
    variances = correlation + (1 - correlation) * squares / totals**2
    own = shares * variances
    of_mean = (shares * own).sum()
    of_residuals = variances - 2 * own + of_mean
    scales = shares * own / of_residuals
    error = float(np.sqrt((scales * np.square(sums / totals)).sum()))
    return (mean, error, _satterthwaite(scales, of_residuals, of_mean / 2 - own))


def difference_interval(value: Interval, other: Interval) -> Interval:
    """Computes `value - other` of two independent estimates from their intervals.

    Uses method 10 of Newcombe 1998, "Interval estimation for the difference between independent proportions": the
    distances of the two bounds that matter for each side are added in squares.
    """
    difference = value[0] - other[0]
    below = np.hypot(value[0] - value[1], other[2] - other[0])
    above = np.hypot(value[2] - value[0], other[0] - other[1])
    return (float(difference), float(difference - below), float(difference + above))


def negate(interval: Interval) -> Interval:
    """Negates an interval: the estimate, and both bounds, which change places."""
    return (-interval[0], -interval[2], -interval[1])


def nearest_to_zero(interval: Interval) -> float:
    """Returns the bound that is nearer to zero, or 0 if the interval contains it: the effect that is certain."""
    _, low, high = interval
    return 0.0 if low <= 0 <= high else low if low > 0 else high


def within(interval: Interval, low: float, high: float) -> Interval:
    """Clips an interval to the values that are possible, such as 0 to 1 for a share.

    Student's t knows no such limits; the clipped interval contains the true value as often as before.
    """
    return tuple(float(np.clip(value, low, high)) for value in interval)


def auc_interval(scores: np.ndarray, positive: np.ndarray, confidence: float = 0.95) -> Interval:
    """Computes the area under the ROC curve with the interval of DeLong, DeLong & Clarke-Pearson 1988.

    Args:
      scores: (n,) of independent rows.
      positive: (n,) bool; there is at least one row of each kind.
      confidence: of the interval.
    """
    ranks = stats.rankdata(scores)
    sizes = np.count_nonzero(positive), np.count_nonzero(~positive)
    # For each row the share of the other kind that it is ranked correctly against; ties count half.
    placements = (
        (ranks[positive] - stats.rankdata(scores[positive])) / sizes[1],
        1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / sizes[0],
    )
    auc = float(placements[0].mean())
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in placements)) if min(sizes) > 1 else np.nan
    half = float(stats.norm.ppf((1 + confidence) / 2) * error)
    return within((auc, auc - half, auc + half), 0, 1)


def holm(p_values: Values) -> np.ndarray:
    """Corrects p-values (k,) for their number (Holm 1979): the chance of any false alarm below a is at most a."""
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(corrected, 1.0)


def bonferroni(count: int, level: float = 0.05) -> float:
    """Returns the confidence of each of several intervals, so that any of them fails in at most a share `level`."""
    return 1 - level / max(1, count)


def _correlation_within(index: np.ndarray, weights: np.ndarray, residuals: np.ndarray) -> float:
    """Estimates the correlation of two rows of a cluster from all such pairs; 0 if there are none."""
    weighted = weights * residuals
    products = np.square(np.bincount(index, weighted)).sum() - np.square(weighted).sum()
    pairs = np.square(np.bincount(index, weights)).sum() - np.square(weights).sum()
    variance = np.average(residuals**2, weights=weights)
    # Rounding may leave a trace of pairs where each cluster is a row.
    if pairs <= 1e-9 * np.square(weights).sum() or not variance > 0:
        return 0.0
    return float(np.clip(products / pairs / variance, 0.0, 1.0))


def _satterthwaite(scales: np.ndarray, variances: np.ndarray, halves: np.ndarray) -> float:
    """Computes the degrees of freedom of a sum of squared residuals.

    Args:
      scales: (k,) of the squares.
      variances: (k,) of the residuals.
      halves: (k,) the covariance of two residuals is the sum of theirs.
    """
    trace = (scales * variances).sum()
    others = 2 * scales.sum() * (scales * halves**2).sum() + 2 * (scales * halves).sum() ** 2
    diagonal = (scales**2 * (variances**2 - 4 * halves**2)).sum()
    return float(trace**2 / (others + diagonal))


def _around(mean: float, error: float, degrees: float, confidence: float) -> Interval:
    half = float(stats.t.ppf((1 + confidence) / 2, degrees) * error)
    return (mean, mean - half, mean + half)
