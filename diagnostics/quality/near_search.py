"""All pairs of vectors within a distance, by a k-d tree whose leaves are compared on the devices."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from diagnostics.quality.blocks import STEP, check_vectors, pad, round_up, run_on_devices

# Products are over a multiple of this many directions.
_DIRECTIONS = 16
# Most rows of a leaf.
_LEAF = 1024
# Directions that leaves are cut across.
_CUT = 2
# Directions with this share of the variance separate most rows.
_ENOUGH = 0.8
# Relative error of a squared distance that is computed from a product in float32.
_ROUNDING = 1e-5


def find_pairs_within(
    vectors: np.ndarray,
    threshold: float,
    *,
    others: np.ndarray | None = None,
    metric: str = "euclidean",
    most: int = 10_000_000,
    leaf: int = _LEAF,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds all pairs of rows that are no farther apart than a threshold.

    Rows are rotated to their principal directions and distributed over the leaves of a k-d tree (Bentley 1975). Leaves
    whose boxes are near enough are compared by a matrix product over the first directions, which bounds the distance
    from below; the remaining pairs are measured. With a threshold well below the usual distance, that skips nearly all
    of the work.

    Args:
      vectors: (n, d) finite numbers, taken as float32.
      threshold: at least 0; below 1 for the cosine.
      others: (m, d) to pair the vectors with; None for each other.
      metric: "euclidean", or "cosine": 1 less the cosine; a row of zeros has no direction and is in no pair.
      most: pairs that are rerotated; of more, the nearest.
      leaf: most rows of a leaf.
      devices: to use; None for all of this process.

    Returns:
      Pairs (p, 2) int64 by distance, and their distances (p,) float32. The smaller row of a pair is first; with
      `others` a pair is a row of the vectors and one of the others.

    Raises:
      ValueError: the arguments do not match, or a number is not finite.
    """
    vectors = check_vectors(vectors, metric)
    alone = others is None
    others = vectors if alone else check_vectors(others, metric)
    if not 0 <= threshold < (1 if metric == "cosine" else np.inf) or vectors.shape[1] != others.shape[1]:
        raise ValueError(f"threshold {threshold} of vectors {vectors.shape} and {others.shape}")
    if metric == "cosine":
        # The squared distance of unit vectors is twice the cosine distance.
        rows, columns = np.flatnonzero(vectors.any(axis=1)), np.flatnonzero(others.any(axis=1))
        pairs, distances = find_pairs_within(
            vectors[rows],
            float(np.sqrt(2 * threshold)),
            others=None if alone else others[columns],
            most=most,
            leaf=leaf,
            devices=devices,
        )
        return np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], axis=1), np.square(distances) / 2
    if not len(vectors) or not len(others):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    return _search(vectors, None if alone else others, threshold, most, leaf, devices)


def _search(
    vectors: np.ndarray,
    others: np.ndarray | None,
    threshold: float,
    most: int,
    leaf: int,
    devices: Sequence[jax.Device] | None,
) -> tuple[np.ndarray, np.ndarray]:
    alone = others is None
    others = vectors if alone else others
    pairs, distances = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]

    @functools.cache
    def place(device: jax.Device, tree: _Tree, number: int) -> jax.Array:
        return jax.device_put(tree.blocks[number], device)

    def compare(device: jax.Device, task: tuple[int, int]) -> Callable[[], tuple[int, int, np.ndarray]]:
        first, second = task
        shift = 0 if alone and first == second else left.blocks.shape[1]
        blocks = place(device, left, first), place(device, right, second)
        near = _rows_with_pairs(*blocks, np.float32(threshold), np.int32(shift))
        return lambda: (first, second, np.flatnonzero(near))

    # The work left for the host is small: sharing it among threads costs more than it saves.
    with threadpoolctl.threadpool_limits(1, "blas"):
        left, right = _Tree.of(vectors, others, leaf, alone)
        for first, second, near in run_on_devices(compare, left.near(right, threshold, alone), devices):
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


@jax.jit
def _rows_with_pairs(one, other, threshold, shift):
    """Returns which rows of `one` (n, d) have a row of `other` (m, d) near enough: (n,) bool. Padding is nan.

    A leaf is compared with itself by a `shift` of 0: then only later rows count.
    """
    norms = jnp.square(one).sum(axis=1)[:, None] + jnp.square(other).sum(axis=1)[None, :]
    products = jnp.matmul(one, other.T, precision=jax.lax.Precision.HIGHEST)
    near = norms * (1 - _ROUNDING) - 2 * products <= jnp.square(threshold)
    rows, columns = jnp.arange(len(one), dtype=jnp.int32), jnp.arange(len(other), dtype=jnp.int32)
    return (near & (rows[:, None] < columns[None, :] + shift)).any(axis=1)


def _near_by_product(one: np.ndarray, other: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of vectors (n, d) and (m, d) that may be near enough, by a product."""
    norms = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1)[None, :]
    return np.nonzero(norms * (1 - _ROUNDING) - 2 * (one @ other.T) <= threshold**2)


@dataclasses.dataclass(frozen=True, eq=False)
class _Tree:
    """Rows distributed over leaves of nearly the same size.

    Attributes:
      leaves: rows of each, ascending.
      boxes: (leaves, 2, d) smallest and greatest values.
      blocks: (leaves, size, e) first directions of the rows; nan where a leaf is not full.
    """

    leaves: list[np.ndarray]
    boxes: np.ndarray
    blocks: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, others: np.ndarray, most: int, alone: bool) -> tuple["_Tree", "_Tree"]:
        """Makes trees of two sets of rows, rotated to the principal directions of the second."""
        centre = others.mean(axis=0, keepdims=True)
        others = others - centre
        variances, directions = np.linalg.eigh(others.T @ others)
        share = np.cumsum(variances[::-1]) / max(variances.sum(), np.finfo(np.float32).tiny)
        enough = round_up(int(np.searchsorted(share, _ENOUGH)) + 1, _DIRECTIONS)
        right = cls._of(others @ directions[:, ::-1], enough, most)
        return (right if alone else cls._of((vectors - centre) @ directions[:, ::-1], enough, most)), right

    @classmethod
    def _of(cls, rotated: np.ndarray, enough: int, most: int) -> "_Tree":
        leaves = _leaves(rotated, np.arange(len(rotated)), most)
        # Few sizes, so that sets of about the same size share a compiled program.
        size = round_up(max(map(len, leaves)), STEP)
        return cls(
            leaves=leaves,
            boxes=np.array([(rotated[own].min(axis=0), rotated[own].max(axis=0)) for own in leaves]),
            blocks=np.array([pad(rotated[own, :enough], size, np.nan) for own in leaves]),
        )

    def near(self, other: "_Tree", threshold: float, alone: bool) -> Iterator[tuple[int, int]]:
        """Yields pairs of leaves whose boxes are near enough; each pair once if both are of one tree."""
        threshold = threshold + _ROUNDING * float(np.abs(other.boxes).max())
        for first, (low, high) in enumerate(self.boxes):
            start = first if alone else 0
            gaps = np.maximum(
                np.maximum(other.boxes[start:, 0] - high[None, :], low[None, :] - other.boxes[start:, 1]), 0
            )
            near = np.flatnonzero(np.sqrt(np.square(gaps).sum(axis=1)) <= threshold)
            yield from ((first, start + int(second)) for second in near)


def _leaves(vectors: np.ndarray, rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Distributes rows over leaves, halving each part across the wider of its first directions.

    Boxes that are cut often across few directions are thinner than the usual threshold; across many, none is.
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
