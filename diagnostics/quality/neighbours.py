"""Exact nearest neighbours by matrix products of blocks, on all devices; the (n, m) distances are never held whole."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diagnostics.quality.blocks import STEP, check_vectors, pad, round_up, run_on_devices

# Rows of a block of queries and of the corpus: large enough for matrix products at full speed, and small enough that
# their scores (8 MiB) stay in a CPU's cache while the smallest are searched; 64 MiB took three times as long.
_QUERIES, _CORPUS = 1024, 2048
# Scores of each row are first reduced in groups of this size.
_GROUP = 32


def find_nearest(
    queries: np.ndarray,
    corpus: np.ndarray,
    k: int,
    *,
    metric: str = "euclidean",
    own: np.ndarray | None = None,
    block: int = _CORPUS,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the `k` nearest rows of a corpus for each query.

    Blocks of queries are distributed over the devices; each goes over the corpus block by block and keeps the best.

    Args:
      queries: (n, d) finite numbers, taken as float32.
      corpus: (m, d), likewise.
      k: neighbours, at most `m`, or `m - 1` with `own`.
      metric: "euclidean", or "cosine": 1 less the cosine, and 1 for a row of zeros.
      own: (n,) the row of the corpus that is the query itself, which is no neighbour; None if queries are not in it.
      block: rows of the corpus in a matrix product.
      devices: to use; None for all of this process.

    Returns:
      Distances (n, k) float32, ascending, and rows of the corpus (n, k) int64. Neighbours are selected by products in
      float32; their distances are then computed from differences.

    Raises:
      ValueError: the arguments do not match, or a number is not finite.
    """
    queries, corpus = check_vectors(queries, metric), check_vectors(corpus, metric)
    if queries.shape[1] != corpus.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} columns, the corpus {corpus.shape[1]}")
    if not 1 <= k <= len(corpus) - (own is not None):
        raise ValueError(f"{k} neighbours of {len(corpus)} rows")
    if metric == "euclidean":
        # Centring reduces the rounding of products.
        centre = corpus.mean(axis=0, keepdims=True)
        queries, corpus = queries - centre, corpus - centre
    block, size = round_up(min(block, len(corpus)), STEP), round_up(min(_QUERIES, len(queries)), STEP)
    wanted = k + (own is not None)
    half = 0.5 if metric == "euclidean" else 0.0

    def scan(device: jax.Device, start: int) -> Callable[[], np.ndarray]:
        return _scan(queries[start : start + size], corpus, wanted, half, size, block, device)

    found = run_on_devices(scan, iter(range(0, len(queries), size)), devices)
    indices = np.concatenate([np.zeros((0, wanted), np.int64), *found])
    if own is not None:
        # One neighbour too many was searched: drop the query itself, or the last one if equal rows hide it.
        itself = indices == np.asarray(own)[:, None]
        itself[~itself.any(axis=1), -1] = True
        indices = indices[~itself].reshape(-1, k)
    distances = _measure(queries, corpus, indices, metric)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)


def _scan(
    queries: np.ndarray, corpus: np.ndarray, k: int, half: float, size: int, block: int, device: jax.Device
) -> Callable[[], np.ndarray]:
    """Starts the search for a block of queries; the function returned waits for the rows (n, k) of the corpus."""
    count = len(queries)
    queries = jax.device_put(pad(queries, size, 0), device)
    best = jax.device_put((np.full((size, k), np.inf, np.float32), np.full((size, k), -1, np.int32)), device)
    for start in range(0, len(corpus), block):
        part = corpus[start : start + block]
        offsets = pad(half * np.square(part).sum(axis=1), block, np.inf)
        best = _merge(best, queries, pad(part, block, 0), offsets, np.int32(start), k=k)
    return lambda: np.asarray(best[1])[:count].astype(np.int64)


@functools.partial(jax.jit, static_argnames="k", donate_argnums=0)
def _merge(best, queries, part, offsets, start, *, k):
    """Merges the best so far with those of one more block: scores (n, k), the smallest nearest, and rows."""
    # Full precision: accelerators would round to bfloat16 or TF32.
    products = jnp.matmul(queries, part.T, precision=jax.lax.Precision.HIGHEST)
    scores, columns = _smallest(offsets[None, :] - products, k)
    scores = jnp.concatenate([best[0], scores], axis=1)
    rows = jnp.concatenate([best[1], start + columns], axis=1)
    scores, chosen = jax.lax.top_k(-scores, k)
    return -scores, jnp.take_along_axis(rows, chosen, axis=1)


def _smallest(scores, k):
    """Finds the smallest `k` of each row of scores (n, m), and their columns."""
    count, groups = len(scores), scores.shape[1] // _GROUP
    if groups <= k:
        found, columns = jax.lax.top_k(-scores, min(k, scores.shape[1]))
        return -found, columns
    # The smallest k are in the k groups with the smallest minima, which one pass finds without sorting.
    grouped = scores.reshape(count, _GROUP, groups)
    _, chosen = jax.lax.top_k(-grouped.min(axis=1), k)
    candidates = jnp.take_along_axis(grouped, chosen[:, None, :], axis=2).reshape(count, _GROUP * k)
    found, place = jax.lax.top_k(-candidates, k)
    return -found, place // k * groups + jnp.take_along_axis(chosen, place % k, axis=1)


def _measure(queries: np.ndarray, corpus: np.ndarray, indices: np.ndarray, metric: str) -> np.ndarray:
    """Computes distances (n, k) of queries (n, d) to rows (n, k) of the corpus from differences."""
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
