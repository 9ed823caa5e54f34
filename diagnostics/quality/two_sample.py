"""Two-sample tests: whether two samples come from one distribution, and how large the difference is.

The null distributions come from permutations: if both samples have one distribution, the side of each row may be
reassigned. P-values are (1 + as extreme among the permuted) / (1 + permuted), so that false alarms are no more frequent
than the p-value says (Phipson & Smyth 2010).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.spatial import distance
from sklearn.ensemble import RandomForestClassifier

from diagnostics.statistics import Interval, auc_interval

PERMUTATIONS = 999

# Rows whose distances to all others are on the device at once.
_BLOCK = 512
# Rows that the median distance is estimated from.
_ROWS_FOR_MEDIAN = 500
# Permutations of groups that are in memory at once.
_PERMUTED_AT_ONCE = 100
# Expected counts below which the chi-squared distribution is a poor approximation (Cochran 1954).
_LEAST_EXPECTED = 5
_TREES, _LEAST_LEAF = 100, 3


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClassifierTest:
    """The result of a classifier two-sample test.

    Attributes:
      auc: area under the ROC curve on held-out rows, with DeLong's 95 % interval; 0.5 is chance.
      p_value: share of permutations with an AUC as large.
      rows: (h,) the held-out rows, sorted.
      scores: (h,) predicted probability of each of them to be of the second sample.
    """

    auc: Interval
    p_value: float
    rows: np.ndarray
    scores: np.ndarray


def classifier_test(
    vectors: np.ndarray, second: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> ClassifierTest:
    """Runs the classifier two-sample test (Lopez-Paz & Oquab 2017, section 3) with a random forest.

    The forest is trained on half of each sample and judged on the other half. Given the forest, the sides of that half
    are exchangeable, so the null is exact with one forest. It would not be for a cross-validation.

    Args:
      vectors: (n, d).
      second: (n,) bool, whether a row is of the second sample; at least two of each.
      seed: of halves, forest and permutations.
      permutations: number of them.
    """
    random = np.random.default_rng(seed)
    train = np.zeros(len(second), bool)
    for side in (False, True):
        rows = random.permutation(np.flatnonzero(second == side))
        train[rows[: len(rows) // 2]] = True
    forest = RandomForestClassifier(_TREES, min_samples_leaf=_LEAST_LEAF, random_state=seed, n_jobs=1)
    forest.fit(vectors[train], second[train])
    scores, held_out = forest.predict_proba(vectors[~train])[:, 1], second[~train]
    ranks = stats.rankdata(scores)
    permuted = random.permuted(np.tile(held_out, (permutations, 1)), axis=1)
    as_extreme = np.count_nonzero(permuted @ ranks >= held_out @ ranks)
    return ClassifierTest(
        auc=auc_interval(scores, held_out),
        p_value=(1 + as_extreme) / (1 + permutations),
        rows=np.flatnonzero(~train),
        scores=scores,
    )


def mmd_test(
    vectors: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> tuple[float, float]:
    """Tests the maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012, eq. 3).

    The kernel's width is the median distance of rows (section 8 there). Blocks of the kernel are computed on the device
    for all permutations at once, so the (n, n) matrix is never held whole.

    Args:
      vectors: (n, d) float32.
      second: (n,) bool, whether a row is of the second sample; at least two of each.
      groups: (n,) integers of groups that are permuted as a whole, each of which is on one side; None to permute rows.
      seed: of the permutations.
      permutations: of the null.

    Returns:
      The unbiased estimate of the squared discrepancy, and the share of permutations with one as large.
    """
    random = np.random.default_rng(seed)
    sides = _permute_sides(second, groups, random, permutations)
    some = random.permutation(len(vectors))[:_ROWS_FOR_MEDIAN]
    distances = distance.pdist(vectors[some].astype(np.float64), "sqeuclidean")
    positive = distances[distances > 0]
    if not len(positive):
        return (0.0, 1.0)
    # After centring, single precision is enough for the distances.
    sums = _kernel_sums((vectors - vectors.mean(axis=0)).astype(np.float32), sides, float(np.median(positive)))
    values = _unbiased(*sums, sides.sum(axis=0), len(second))
    return (float(values[0]), float((1 + np.count_nonzero(values[1:] >= values[0])) / (1 + permutations)))


def chi_squared_test(counts: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS) -> tuple[float, float]:
    """Tests whether two samples have the same shares of categories (Pearson's chi-squared test).

    With small counts the null comes from random tables with the same margins.

    Args:
      counts: (2, k) rows of each category, in each sample.
      seed: of the permutations.
      permutations: of the null.

    Returns:
      The share of a sample that would have to change for the other's shares (total variation, 0 to 1), and the p-value.
    """
    counts = counts[:, counts.sum(axis=0) > 0]
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    if counts.shape[1] < 2 or not rows.all():
        return (0.0, 1.0)
    size = float(np.abs(counts[0] / rows[0] - counts[1] / rows[1]).sum() / 2)
    expected = np.outer(rows, columns) / counts.sum()
    if expected.min() >= _LEAST_EXPECTED:
        return (size, float(stats.chi2_contingency(counts, correction=False).pvalue))
    tables = stats.random_table(rows, columns, seed=seed).rvs(permutations)
    values = (np.square(tables - expected) / expected).sum(axis=(1, 2))
    # Tables that are equally extreme may differ by rounding.
    found = (np.square(counts - expected) / expected).sum() * (1 - 1e-9)
    return (size, float((1 + np.count_nonzero(values >= found)) / (1 + permutations)))


def grouped_test(
    counts: np.ndarray,
    second: np.ndarray,
    *,
    ordered: bool = False,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> float:
    """Tests whether two samples of whole groups have the same shares of categories; groups are permuted.

    The statistic is Pearson's chi-squared, or for ordered categories the largest distance of the two distribution
    functions.

    Args:
      counts: (g, k) rows of each category, in each group.
      second: (g,) bool, whether a group is of the second sample; at least one of each.
      ordered: whether the categories are intervals of a number, in increasing order.
      seed: of the permutations.
      permutations: of the null.

    Returns:
      The share of permutations with a statistic as large.
    """
    counts = counts[:, counts.any(axis=0)].astype(np.float64)
    random, total = np.random.default_rng(seed), counts.sum(axis=0)

    def statistic(sides: np.ndarray) -> np.ndarray:
        own = sides @ counts
        others = total - own
        sizes = own.sum(axis=1, keepdims=True), others.sum(axis=1, keepdims=True)
        if ordered:
            shares = own / np.maximum(sizes[0], 1) - others / np.maximum(sizes[1], 1)
            return np.abs(np.cumsum(shares, axis=1)).max(axis=1)
        expected = [size * total / total.sum() for size in sizes]
        parts = [
            np.square(side - mean) / np.maximum(mean, 1e-12) for side, mean in zip((own, others), expected, strict=True)
        ]
        return np.add(*parts).sum(axis=1)

    # Permutations that are equally extreme may differ by rounding.
    found, as_extreme = statistic(second[None])[0] * (1 - 1e-9), 0
    for start in range(0, permutations, _PERMUTED_AT_ONCE):
        some = min(_PERMUTED_AT_ONCE, permutations - start)
        as_extreme += np.count_nonzero(statistic(random.permuted(np.tile(second, (some, 1)), axis=1)) >= found)
    return (1 + as_extreme) / (1 + permutations)


def ks_test(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Tests whether two samples of numbers have one distribution (Kolmogorov-Smirnov test).

    Missing values (NaN) count as smaller than all others, so a different share of them shows too.

    Args:
      first: (n,).
      second: (m,).

    Returns:
      The largest distance of the two distribution functions (0 to 1), and the p-value.
    """
    numbers = [np.where(np.isnan(each), -np.inf, each) for each in (first, second)]
    found = stats.ks_2samp(*numbers, method="asymp")
    return (float(found.statistic), float(found.pvalue))


def _permute_sides(
    second: np.ndarray, groups: np.ndarray | None, random: np.random.Generator, permutations: int
) -> np.ndarray:
    """Returns sides (n, 1 + permutations) float32: 1 for the second sample; the first column is not permuted."""
    if groups is None:
        unit, sides = np.arange(len(second)), second
    else:
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
        sides = second[first]
    permuted = random.permuted(np.tile(sides, (permutations, 1)), axis=1)
    return np.concatenate([sides[None], permuted])[:, unit].T.astype(np.float32)


def _kernel_sums(vectors: np.ndarray, sides: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums the kernel over pairs: both of the second sample, one of it, any; for each column of sides (n, b)."""
    # The last block is padded with rows of neither side, so that one program serves all.
    missing = -len(vectors) % _BLOCK
    there = np.pad(np.ones(len(vectors), np.float32), (0, missing))
    padded, sides = np.pad(vectors, ((0, missing), (0, 0))), np.pad(sides, ((0, missing), (0, 0)))
    all_vectors, all_sides = jnp.asarray(padded), jnp.asarray(np.column_stack([there, sides]))
    within_second, crossing, total = np.zeros(sides.shape[1]), np.zeros(sides.shape[1]), 0.0
    for start in range(0, len(padded), _BLOCK):
        own = slice(start, start + _BLOCK)
        sums = np.asarray(_kernel_rows(all_vectors[own], all_vectors, all_sides, scale), np.float64)
        to_all, to_second = sums[:, :1] * there[own, None], sums[:, 1:]
        within_second += (sides[own] * to_second).sum(axis=0)
        crossing += (sides[own] * to_all).sum(axis=0)
        total += float(to_all.sum())
    return within_second, crossing, total


@jax.jit
def _kernel_rows(own: jax.Array, vectors: jax.Array, sides: jax.Array, scale: jax.Array) -> jax.Array:
    """Sums the kernel of some rows over the rows of each side."""
    highest = jax.lax.Precision.HIGHEST
    squares = jnp.square(own).sum(axis=1)[:, None] + jnp.square(vectors).sum(axis=1)[None, :]
    distances = jnp.maximum(squares - 2 * jnp.dot(own, vectors.T, precision=highest), 0)
    return jnp.dot(jnp.exp(-distances / (2 * scale)), sides, precision=highest)


def _unbiased(second: np.ndarray, to_second: np.ndarray, total: float, sizes: np.ndarray, count: int) -> np.ndarray:
    """Computes the squared discrepancies; the kernel of a row with itself, which is 1, is left out."""
    sizes = sizes.astype(np.float64)
    others = count - sizes
    cross = to_second - second
    first = total - second - 2 * cross
    # A side of a single row, such as a permuted group, has no pairs.
    within_second = (second - sizes) / (sizes * np.maximum(sizes - 1, 1))
    within_first = (first - others) / (others * np.maximum(others - 1, 1))
    return within_first + within_second - 2 * cross / (sizes * others)
