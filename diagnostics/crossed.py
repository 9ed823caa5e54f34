"""Intervals of a mean over trainings and rows that are crossed: each training is judged on the same rows.

Both are random: another seed gives another model, and another sample gives other test rows. An interval over one of the
two alone is too narrow for the other (Bouthillier et al. 2021, "Accounting for Variance in Machine Learning
Benchmarks"). Readers crossed with cases in radiology are the same design (Obuchowski & Rockette 1995).
"""

from collections.abc import Iterable

import numpy as np
from scipy import stats

from diagnostics.statistics import Interval, clustered_error, clustered_interval

LEAST_SEEDS = 2
"""Trainings from which on their variance is known."""


def crossed_interval(
    values: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
    *,
    overlap: float = 0.0,
    against_one: bool = False,
) -> Interval:
    """Computes the mean of values that trainings (rows of the matrix) have on examples (columns), with its interval.

    The variance of the mean is the variance between trainings, plus that between examples or their groups (as in
    `diagnostics.statistics.clustered_interval`), minus that of their interaction, which both contain; it is never taken
    to be less than either. The degrees of freedom are those of Satterthwaite, as in Hillis 2014, "A marginal-mean ANOVA
    approach for analyzing multireader multicase radiological imaging data" (Statistics in Medicine 33, section 2).

    To compare two recipes, pass the differences of trainings that share a seed.

    Args:
      values: (S, n) of S trainings on n examples.
      weights: (n,) of the examples, at least 0.
      groups: (n,) of examples that depend on each other; None if they are independent.
      confidence: of the interval.
      overlap: of columns that are folds, whose trainings share rows; see `diagnostics.statistics.mean_interval`.
      against_one: whether the values are differences from a single training, which is taken to vary as these do.

    Returns:
      Mean, low, high; nan bounds for a single training or fewer than three groups, all nan without examples.
    """
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    counted = weights > 0
    if not counted.any() or not len(values):
        return (np.nan, np.nan, np.nan)
    values, weights = values[:, counted], weights[counted] / weights.sum()
    mean = float((values @ weights).mean())
    _, index = np.unique(np.arange(len(weights)) if groups is None else groups[counted], return_inverse=True)
    seeds, clusters = len(values), int(index.max()) + 1
    _, error, degrees_of_rows = clustered_error(values.mean(axis=0), index, weights)
    if seeds < LEAST_SEEDS or not np.isfinite(error):
        return (mean, np.nan, np.nan)
    of_seeds = values @ weights - mean
    by_seed = np.square(of_seeds).sum() / (seeds * (seeds - 1)) * (seeds + 1 if against_one else 1)
    deviations = weights * (values - mean)
    # (S, clusters), each with the weight of its rows.
    sums = np.stack([np.bincount(index, own, clusters) for own in deviations])
    shares = np.bincount(index, weights, clusters)
    by_row = error**2 * (1 + clusters * overlap)
    rest = sums - sums.mean(axis=0) - shares * of_seeds[:, None]
    both = clusters / (clusters - 1) * np.square(rest).sum() / (seeds * (seeds - 1))
    parts = (by_seed, seeds - 1), (by_row, degrees_of_rows), (both, (seeds - 1) * (clusters - 1))
    variance, degrees = _sum_of_variances(*parts)
    half = float(stats.t.ppf((1 + confidence) / 2, degrees) * np.sqrt(variance)) if variance else 0.0
    return (mean, mean - half, mean + half)


def interval_of_trainings(
    values: np.ndarray, weights: np.ndarray, groups: np.ndarray | None = None, confidence: float = 0.95
) -> Interval:
    """Computes `crossed_interval`, or for a single training the interval over examples or their groups alone.

    The arguments are those of `crossed_interval`. What is said of a single training must not be said of its recipe.
    """
    if len(values) >= LEAST_SEEDS:
        return crossed_interval(values, weights, groups, confidence)
    clusters = np.arange(len(weights)) if groups is None else groups
    return clustered_interval(values[0], clusters, weights, confidence)


Part = tuple[float, float]
"""A variance and its degrees of freedom."""


def _sum_of_variances(by_seed: Part, by_row: Part, both: Part) -> Part:
    """Returns the variance of the mean, and its degrees of freedom (Satterthwaite 1946)."""
    variance, used = by_seed[0] + by_row[0] - both[0], [by_seed, by_row, both]
    largest = max(by_seed, by_row)
    if variance < largest[0]:
        variance, used = largest[0], [largest]
    return variance, variance**2 / _floor(value**2 / degrees for value, degrees in used)


def _floor(terms: Iterable[float]) -> float:
    return max(sum(terms), np.finfo(np.float64).tiny)
