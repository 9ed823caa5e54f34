"""Whether two samples come from one distribution: tests that hold for any, and the size of the difference.

Their null is by permutation: where both samples are of one distribution, the side that a row is on says nothing, and
may be dealt anew. P-values are (1 + as extreme among the permuted) / (1 + permuted), which is never below the share of
false alarms that it promises (Phipson & Smyth 2010).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.spatial import distance
from sklearn.ensemble import RandomForestClassifier

from diagnostics.statistics import Interval, within

PERMUTATIONS = 999

# Rows whose distances to all others are on the device at once.
_BLOCK = 512
# Rows of which the median distance is taken: of more, it is the same.
_ROWS_FOR_MEDIAN = 500
# Expected counts below which chi-square's distribution is no longer that of the theory (Cochran 1954).
_LEAST_EXPECTED = 5
_TREES, _LEAST_LEAF = 100, 3


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """How well a classifier tells two samples apart.

    Attributes:
      auc: area under its ROC curve on the rows it was not trained on, with DeLong's 95 % interval; 0.5 is chance.
      p_value: how often rows dealt anew are told apart as well.
      rows: (h,) those it was not trained on, sorted.
      scores: (h,) how likely it holds each of them for one of the second sample, 0 to 1.
    """

    auc: Interval
    p_value: float
    rows: np.ndarray
    scores: np.ndarray


def told_apart(vectors: np.ndarray, second: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS) -> Told:
    """The classifier two-sample test (Lopez-Paz & Oquab 2017, section 3): can a forest tell the samples apart?

    It is trained on half of each sample and judged on the other. Given the forest, the sides of the other half may be
    dealt anew, so the null is exact without a forest for each permutation; that of a cross-validation would not be.

    Args:
      vectors: (n, d).
      second: (n,) bool, whether a row is of the second sample; at least two of each.
      seed: of halves, forest and permutations.
      permutations: of the null.
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
    return Told(
        auc=auc_interval(scores, held_out),
        p_value=(1 + as_extreme) / (1 + permutations),
        rows=np.flatnonzero(~train),
        scores=scores,
    )


def auc_interval(scores: np.ndarray, positive: np.ndarray, confidence: float = 0.95) -> Interval:
    """Area under the ROC curve with the interval of DeLong, DeLong & Clarke-Pearson 1988; independent rows.

    Args:
      scores: (n,).
      positive: (n,) bool; both kinds are there.
      confidence: of the interval.
    """
    ranks = stats.rankdata(scores)
    sizes = np.count_nonzero(positive), np.count_nonzero(~positive)
    # For each row the share of the other kind that it stands on the right side of; ties count half.
    placements = (
        (ranks[positive] - stats.rankdata(scores[positive])) / sizes[1],
        1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / sizes[0],
    )
    auc = float(placements[0].mean())
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in placements)) if min(sizes) > 1 else np.nan
    half = float(stats.norm.ppf((1 + confidence) / 2) * error)
    return within((auc, auc - half, auc + half), 0, 1)


def discrepancy(
    vectors: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> tuple[float, float]:
    """Maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012, eq. 3), and its p-value.

    Its width is the median distance of rows (section 8 there). The kernel is computed on the device, some rows at a
    time, for all permutations at once: none of the (n, n) is ever held whole.

    Args:
      vectors: (n, d) float32.
      second: (n,) bool, whether a row is of the second sample; at least two of each.
      groups: (n,) integers of groups that are dealt anew as a whole, each of which is on one side; None for rows.
      seed: of the permutations.
      permutations: of the null.

    Returns:
      The unbiased estimate of the squared discrepancy, and the share of permutations with one as large.
    """
    random = np.random.default_rng(seed)
    sides = _dealt(second, groups, random, permutations)
    some = random.permutation(len(vectors))[:_ROWS_FOR_MEDIAN]
    distances = distance.pdist(vectors[some].astype(np.float64), "sqeuclidean")
    positive = distances[distances > 0]
    if not len(positive):
        return (0.0, 1.0)
    # About their mean, single precision is enough for the distances.
    sums = _kernel_sums((vectors - vectors.mean(axis=0)).astype(np.float32), sides, float(np.median(positive)))
    values = _unbiased(*sums, sides.sum(axis=0), len(second))
    return (float(values[0]), float((1 + np.count_nonzero(values[1:] >= values[0])) / (1 + permutations)))


def shares_differ(counts: np.ndarray, *, seed: int = 0, permutations: int = PERMUTATIONS) -> tuple[float, float]:
    """Whether two samples have the same shares of categories: Pearson's chi-square test.

    Where counts are small, its null is by permutation (random tables with the same margins).

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
    # Of tables that are equally far off by hand, some are nearer by rounding.
    found = (np.square(counts - expected) / expected).sum() * (1 - 1e-9)
    return (size, float((1 + np.count_nonzero(values >= found)) / (1 + permutations)))


def values_differ(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Whether two samples of numbers have one distribution: the test of Kolmogorov and Smirnov.

    Missing ones (NaN) count as smaller than all others, so that more of them on one side show as well.

    Args:
      first: (n,).
      second: (m,).

    Returns:
      The largest distance of the two distribution functions (0 to 1), and the p-value.
    """
    numbers = [np.where(np.isnan(each), -np.inf, each) for each in (first, second)]
    found = stats.ks_2samp(*numbers, method="asymp")
    return (float(found.statistic), float(found.pvalue))


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values (k,) corrected for there being k of them (Holm 1979): any false alarm below a is as rare as a."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(np.sort(p_values) * np.arange(len(p_values), 0, -1))
    return np.minimum(corrected, 1.0)


def _dealt(second: np.ndarray, groups: np.ndarray | None, random: np.random.Generator, permutations: int) -> np.ndarray:
    """Sides (n, 1 + permutations) float32: 1 for the second sample; the first column is as it is."""
    if groups is None:
        unit, sides = np.arange(len(second)), second
    else:
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
        sides = second[first]
    permuted = random.permuted(np.tile(sides, (permutations, 1)), axis=1)
    return np.concatenate([sides[None], permuted])[:, unit].T.astype(np.float32)


def _kernel_sums(vectors: np.ndarray, sides: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums of the kernel over pairs: both of the second sample, one of it, any; for each of the sides (n, b)."""
    # Rows of no side fill up the last block, so that one program serves all.
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
    """For some rows the sum of the kernel over the rows of each side."""
    highest = jax.lax.Precision.HIGHEST
    squares = jnp.square(own).sum(axis=1)[:, None] + jnp.square(vectors).sum(axis=1)[None, :]
    distances = jnp.maximum(squares - 2 * jnp.dot(own, vectors.T, precision=highest), 0)
    return jnp.dot(jnp.exp(-distances / (2 * scale)), sides, precision=highest)


def _unbiased(second: np.ndarray, to_second: np.ndarray, total: float, sizes: np.ndarray, count: int) -> np.ndarray:
    """The squared discrepancies; a row's kernel with itself, which is 1, is left out."""
    sizes = sizes.astype(np.float64)
    others = count - sizes
    cross = to_second - second
    first = total - second - 2 * cross
    # Of a single row, as a group dealt anew may be, no pair is left.
    within_second = (second - sizes) / (sizes * np.maximum(sizes - 1, 1))
    within_first = (first - others) / (others * np.maximum(others - 1, 1))
    return within_first + within_second - 2 * cross / (sizes * others)
