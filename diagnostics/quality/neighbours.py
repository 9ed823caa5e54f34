"""Nearest neighbours, found on the devices by matrix products of blocks: exact, and never n x n numbers at a time."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

METRICS = ("euclidean", "cosine")

# Rows of a block of queries and of the corpus: large enough for matrix products at full speed, and their scores (8 MiB)
# still lie in a CPU's cache when the least are sought; with 64 MiB that took three times as long.
_QUERIES, _CORPUS = 1024, 2048
# Blocks have a multiple of so many rows.
_STEP = 256
# Products are over a multiple of so many directions.
_DIRECTIONS = 16
# Of each row of scores, the best of so many are sought first.
_GROUP = 32
# Most rows of a leaf of the tree that `pairs_within` goes over.
_LEAF = 1024
# Directions that leaves are cut across.
_CUT = 2
# Directions that hold this share of the variance tell most rows apart.
_ENOUGH = 0.8
# Of `chance_distance`: most rounds, and fewest rows to tell anything from.
_ROUNDS, _FEWEST = 20, 20
# Relative error of a squared distance by way of a product in float32.
_ROUNDING = 1e-5


def nearest(
    queries: np.ndarray,
    corpus: np.ndarray,
    k: int,
    *,
    metric: str = "euclidean",
    own: np.ndarray | None = None,
    block: int = _CORPUS,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest rows of a corpus to each query.

    Blocks of queries are dealt out to the devices; each goes over the corpus block by block and keeps the best so far.

    Args:
      queries: (n, d) finite numbers, taken as float32.
      corpus: (m, d), likewise.
      k: neighbours, at most `m`, or `m - 1` with `own`.
      metric: "euclidean", or "cosine": 1 less the cosine, and 1 for a row of zeros.
      own: (n,) where each query itself is in the corpus, so as not to be its own neighbour; None where it is not.
      block: rows of the corpus in a matrix product.
      devices: to use; None for all of this process.

    Returns:
      Distances (n, k) float32, ascending, and rows of the corpus (n, k) int64. Which of two is nearer is decided in
      float32; the distances of those found are then computed from the differences.

    Raises:
      ValueError: arguments do not fit together, or a number is not finite.
    """
    queries, corpus = _checked(queries, metric), _checked(corpus, metric)
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} columns, the corpus {corpus.shape[1]}")
    if not 1 <= k <= len(corpus) - (own is not None):
        raise ValueError(f"{k} neighbours of {len(corpus)} rows")
    if metric == "euclidean":
        # Products of numbers near zero lose less to rounding.
        centre = corpus.mean(axis=0, keepdims=True)
        queries, corpus = queries - centre, corpus - centre
    block, size = _rounded(min(block, len(corpus)), _STEP), _rounded(min(_QUERIES, len(queries)), _STEP)
    wanted = k + (own is not None)
    half = 0.5 if metric == "euclidean" else 0.0

    def scan(device: jax.Device, start: int) -> Callable[[], np.ndarray]:
        return _scan(queries[start : start + size], corpus, wanted, half, size, block, device)

    found = _spread(scan, iter(range(0, len(queries), size)), devices)
    indices = np.concatenate([np.zeros((0, wanted), np.int64), *found])
    if own is not None:
        # One too many were sought: the query itself, or, among rows equal to it, the last.
        itself = indices == np.asarray(own)[:, None]
        itself[~itself.any(axis=1), -1] = True
        indices = indices[~itself].reshape(-1, k)
    distances = _exact(queries, corpus, indices, metric)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)


def pairs_within(
    vectors: np.ndarray,
    threshold: float,
    *,
    others: np.ndarray | None = None,
    metric: str = "euclidean",
    most: int = 10_000_000,
    leaf: int = _LEAF,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows that are no farther apart than a threshold.

    Rows are turned so that the directions in which they differ most come first, and dealt to the leaves of a k-d tree
    (Bentley 1975). Only leaves whose boxes are near enough are compared, by a matrix product over those first
    directions, in which no two rows are farther apart than in all; what passes is measured. With a threshold well below
    the usual distance that leaves out nearly all of the work.

    Args:
      vectors: (n, d) finite numbers, taken as float32.
      threshold: at least 0; below 1 for the cosine.
      others: (m, d) to pair the vectors with; None for each other.
      metric: "euclidean", or "cosine": 1 less the cosine; a row of zeros has no direction and is in no pair.
      most: pairs that are kept; of more, the nearest.
      leaf: most rows of a leaf.
      devices: to use; None for all of this process.

    Returns:
      Pairs (p, 2) int64 by distance, and their distances (p,) float32. Of a pair of vectors the lesser row is first;
      with `others` it is a row of the vectors and one of those.

    Raises:
      ValueError: arguments do not fit together, or a number is not finite.
    """
    vectors = _checked(vectors, metric)
    alone = others is None
    others = vectors if alone else _checked(others, metric)
    if not 0 <= threshold < (1 if metric == "cosine" else np.inf) or vectors.shape[1] != others.shape[1]:
        raise ValueError(f"threshold {threshold} of vectors {vectors.shape} and {others.shape}")
    if metric == "cosine":
        # Of unit vectors the squared distance is twice that.
        rows, columns = np.flatnonzero(vectors.any(axis=1)), np.flatnonzero(others.any(axis=1))
        pairs, distances = pairs_within(
            vectors[rows],
            float(np.sqrt(2 * threshold)),
            others=None if alone else others[columns],
            most=most,
            leaf=leaf,
            devices=devices,
        )
        return np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], axis=1), np.square(distances) / 2
    pairs, distances = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
    if not len(vectors) or not len(others):
        return pairs[0], distances[0]

    @functools.cache
    def placed(device: jax.Device, tree: _Tree, number: int) -> jax.Array:
        return jax.device_put(tree.blocks[number], device)

    def look(device: jax.Device, task: tuple[int, int]) -> Callable[[], tuple[int, int, np.ndarray]]:
        first, second = task
        shift = 0 if alone and first == second else left.blocks.shape[1]
        blocks = placed(device, left, first), placed(device, right, second)
        near = _rows_with_pairs(*blocks, np.float32(threshold), np.int32(shift))
        return lambda: (first, second, np.flatnonzero(near))

    # What is left for the host is small: to share it among threads costs more than it saves.
    with threadpoolctl.threadpool_limits(1, "blas"):
        left, right = _Tree.of(vectors, others, leaf, alone)
        for first, second, near in _spread(look, left.near(right, threshold, alone), devices):
            if not len(near):
                continue
            one, other = left.leaves[first][near], right.leaves[second]
            i, j = _near_by_product(vectors[one], others[other], threshold)
            apart = np.linalg.norm(vectors[one[i]] - others[other[j]], axis=1)
            close = apart <= threshold
            if alone and first == second:
                close &= one[i] < other[j]
            i, j, apart = i[close], j[close], apart[close]
            found = np.stack([one[i], other[j]], axis=1)
            pairs.append(np.sort(found, axis=1) if alone else found)
            distances.append(apart)
            if sum(map(len, pairs)) > 2 * most:
                pairs, distances = ([part] for part in _closest(pairs, distances, most))
                threshold = min(threshold, float(distances[0][-1]))
    return _closest(pairs, distances, most)


def chance_distance(distances: np.ndarray, rows: int, *, expected: float = 0.2) -> float:
    """How near two of many rows may be expected to come by chance.

    Where rows lie about evenly in a space of D dimensions, nearest-neighbour distances r are spread as
    `P(r < t) = 1 - exp(-c t^D)`, and the ratio of the second to the first as a power law with exponent D (Facco et al.
    2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood information"). D and c are taken
    from medians, again without the rows that have a neighbour nearer than chance.

    Args:
      distances: (n, 2) of each row to its nearest and second nearest.
      rows: that there are in all; the n may be a sample.
      expected: rows with a neighbour as near as what is returned.

    Returns:
      The distance; infinite where there are too few rows to tell it from.
    """
    distances = np.asarray(distances, np.float64)
    distances = distances[np.isfinite(distances).all(axis=1) & (distances[:, 1] > 0)]
    chance, left = np.inf, distances
    for _ in range(_ROUNDS):
        if len(left) < _FEWEST:
            return np.inf
        ratio = np.log(np.median(left[:, 1] / np.maximum(left[:, 0], 1e-9 * left[:, 1])))
        dimensions = np.log(2) / max(ratio, 1e-9)
        chance = float(np.median(left[:, 0]) * min(1.0, expected / (rows * np.log(2))) ** (1 / dimensions))
        # Rows that have a copy pull the dimensions down, and so the distance: without them it comes out greater.
        without = distances[distances[:, 0] > chance]
        if len(without) == len(left):
            break
        left = without
    return chance


def clusters(pairs: np.ndarray) -> list[np.ndarray]:
    """Rows that belong together by a chain of pairs.

    Args:
      pairs: (p, 2) rows.

    Returns:
      Rows of each cluster, ascending; in the order of their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return []
    rows, index = np.unique(pairs, return_inverse=True)
    one, other = index.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(rows), len(rows)))
    _, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    parts = np.split(rows[order], np.flatnonzero(np.diff(component[order])) + 1)
    return sorted(parts, key=lambda part: part[0])


def _checked(vectors: np.ndarray, metric: str) -> np.ndarray:
    if metric not in METRICS:
        raise ValueError(f"metric '{metric}'; known: {', '.join(METRICS)}")
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors of shape {vectors.shape}; expected (n, d) finite numbers")
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms > 0, norms, 1)
    return vectors


def _spread(start: Callable, tasks: Iterator, devices: Sequence[jax.Device] | None) -> Iterator:
    """Starts a task on each device in turn, and gives the results in order while later ones run."""
    devices = list(devices or jax.local_devices())
    running = collections.deque()
    for device, task in zip(itertools.cycle(devices), tasks):
        running.append(start(device, task))
        if len(running) > len(devices):
            yield running.popleft()()
    while running:
        yield running.popleft()()


def _scan(
    queries: np.ndarray, corpus: np.ndarray, k: int, half: float, size: int, block: int, device: jax.Device
) -> Callable[[], np.ndarray]:
    """Starts the search for a block of queries; what it returns waits for the rows (n, k) of the corpus."""
    count = len(queries)
    queries = jax.device_put(_padded(queries, size, 0), device)
    best = jax.device_put((np.full((size, k), np.inf, np.float32), np.full((size, k), -1, np.int32)), device)
    for start in range(0, len(corpus), block):
        part = corpus[start : start + block]
        offsets = _padded(half * np.square(part).sum(axis=1), block, np.inf)
        best = _merge(best, queries, _padded(part, block, 0), offsets, np.int32(start), k=k)
    return lambda: np.asarray(best[1])[:count].astype(np.int64)


@functools.partial(jax.jit, static_argnames="k", donate_argnums=0)
def _merge(best, queries, part, offsets, start, *, k):
    """The best so far, and those of one more block: scores (n, k), of which the least is nearest, and rows."""
    # Full precision: by default accelerators round to bfloat16 or TF32 first.
    products = jnp.matmul(queries, part.T, precision=jax.lax.Precision.HIGHEST)
    scores, columns = _least(offsets[None, :] - products, k)
    scores = jnp.concatenate([best[0], scores], axis=1)
    rows = jnp.concatenate([best[1], start + columns], axis=1)
    scores, chosen = jax.lax.top_k(-scores, k)
    return -scores, jnp.take_along_axis(rows, chosen, axis=1)


def _least(scores, k):
    """The least `k` of each row of scores (n, m), and their columns."""
    count, groups = len(scores), scores.shape[1] // _GROUP
    if groups <= k:
        found, columns = jax.lax.top_k(-scores, min(k, scores.shape[1]))
        return -found, columns
    # The least k are in the k groups with the least minima; to find those is a pass without any sorting.
    grouped = scores.reshape(count, _GROUP, groups)
    _, chosen = jax.lax.top_k(-grouped.min(axis=1), k)
    held = jnp.take_along_axis(grouped, chosen[:, None, :], axis=2).reshape(count, _GROUP * k)
    found, place = jax.lax.top_k(-held, k)
    return -found, place // k * groups + jnp.take_along_axis(chosen, place % k, axis=1)


@jax.jit
def _rows_with_pairs(one, other, threshold, shift):
    """Which rows of `one` (n, d) have a row of `other` (m, d) near enough: (n,) bool. Padding is nan.

    A leaf is compared with itself with a `shift` of 0: then only later rows count.
    """
    norms = jnp.square(one).sum(axis=1)[:, None] + jnp.square(other).sum(axis=1)[None, :]
    products = jnp.matmul(one, other.T, precision=jax.lax.Precision.HIGHEST)
    near = norms * (1 - _ROUNDING) - 2 * products <= jnp.square(threshold)
    rows, columns = jnp.arange(len(one), dtype=jnp.int32), jnp.arange(len(other), dtype=jnp.int32)
    return (near & (rows[:, None] < columns[None, :] + shift)).any(axis=1)


def _near_by_product(one: np.ndarray, other: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each, of vectors (n, d) and (m, d), that may be near enough, as far as a product can tell."""
    norms = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1)[None, :]
    return np.nonzero(norms * (1 - _ROUNDING) - 2 * (one @ other.T) <= threshold**2)


def _exact(queries: np.ndarray, corpus: np.ndarray, indices: np.ndarray, metric: str) -> np.ndarray:
    """Distances (n, k) of queries (n, d) to the rows (n, k) of the corpus, by their differences."""
    distances = np.empty(indices.shape, np.float32)
    for start in range(0, len(queries), _QUERIES):
        for column in range(indices.shape[1]):
            one = queries[start : start + _QUERIES]
            other = corpus[indices[start : start + _QUERIES, column]]
            if metric == "cosine":
                found = np.maximum(1 - np.einsum("nd,nd->n", one, other), 0)
            else:
                found = np.linalg.norm(one - other, axis=1)
            distances[start : start + _QUERIES, column] = found
    return distances


@dataclasses.dataclass(frozen=True, eq=False)
class _Tree:
    """Rows dealt to leaves of nearly the same size.

    Attributes:
      leaves: rows of each, ascending.
      boxes: (leaves, 2, d) of the least and greatest values.
      blocks: (leaves, size, e) of the first directions of the rows; nan where a leaf is not full.
    """

    leaves: list[np.ndarray]
    boxes: np.ndarray
    blocks: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, others: np.ndarray, most: int, alone: bool) -> tuple["_Tree", "_Tree"]:
        """Trees of two sets of rows in the same directions: their principal ones, the first first."""
        centre = others.mean(axis=0, keepdims=True)
        others = others - centre
        variances, directions = np.linalg.eigh(others.T @ others)
        share = np.cumsum(variances[::-1]) / max(variances.sum(), np.finfo(np.float32).tiny)
        enough = _rounded(int(np.searchsorted(share, _ENOUGH)) + 1, _DIRECTIONS)
        right = cls._of(others @ directions[:, ::-1], enough, most)
        return (right if alone else cls._of((vectors - centre) @ directions[:, ::-1], enough, most)), right

    @classmethod
    def _of(cls, turned: np.ndarray, enough: int, most: int) -> "_Tree":
        leaves = _leaves(turned, np.arange(len(turned)), most)
        # Of few sizes, so that sets of about the same size share a compiled program.
        size = _rounded(max(map(len, leaves)), _STEP)
        return cls(
            leaves=leaves,
            boxes=np.array([(turned[own].min(axis=0), turned[own].max(axis=0)) for own in leaves]),
            blocks=np.array([_padded(turned[own, :enough], size, np.nan) for own in leaves]),
        )

    def near(self, other: "_Tree", threshold: float, alone: bool) -> Iterator[tuple[int, int]]:
        """Pairs of leaves whose boxes are near enough; if they are of one tree, each pair once."""
        threshold = threshold + _ROUNDING * float(np.abs(other.boxes).max())
        for first, (low, high) in enumerate(self.boxes):
            start = first if alone else 0
            gaps = np.maximum(
                np.maximum(other.boxes[start:, 0] - high[None, :], low[None, :] - other.boxes[start:, 1]), 0
            )
            near = np.flatnonzero(np.sqrt(np.square(gaps).sum(axis=1)) <= threshold)
            yield from ((first, start + int(second)) for second in near)


def _leaves(vectors: np.ndarray, rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Rows dealt to leaves, halving each part across the wider of its first directions.

    Cut across few directions often, boxes are thinner than the usual threshold; across many, none is.
    """
    if len(rows) <= most:
        return [rows]
    own = vectors[rows, :_CUT]
    widest = int(np.argmax(own.std(axis=0)))
    halves = np.split(rows[np.argpartition(own[:, widest], len(rows) // 2)], [len(rows) // 2])
    return [leaf for half in halves for leaf in _leaves(vectors, np.sort(half), most)]


def _closest(pairs: list[np.ndarray], distances: list[np.ndarray], most: int) -> tuple[np.ndarray, np.ndarray]:
    pairs, distances = np.concatenate(pairs), np.concatenate(distances)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distances))[:most]
    return pairs[order], distances[order]


def _rounded(count: int, step: int) -> int:
    """The least multiple of a step that is no less, and at least one."""
    return max(1, -(-count // step)) * step


def _padded(array: np.ndarray, size: int, value: float) -> np.ndarray:
    """The array with rows of `value` up to `size`."""
    filled = np.full((size, *array.shape[1:]), value, array.dtype)
    filled[: len(array)] = array
    return filled
