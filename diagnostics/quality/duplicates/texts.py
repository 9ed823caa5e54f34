"""Texts that share at least half of their shingles, which are runs of three words."""

import itertools
from collections.abc import Callable

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from diagnostics.examples import Examples
from diagnostics.quality.duplicates.near_pairs import NearPairs
from diagnostics.quality.neighbours import find_nearest

FARTHEST = 0.5
"""Greatest share of the shingles of two texts that only one of them has (Broder 1997, "roughly the same")."""

_SHINGLE = 3
# Texts that are read at once.
_BLOCK = 256
# Bands of a signature, and minima in each: texts that share half of their shingles have a band in common with
# probability 0.9998, and texts that share a tenth of them with probability 0.06.
_BANDS, _ROWS = 64, 3
# In a bucket of more texts than this, each text is compared with the first and the next one only.
_CROWD = 30
_NEIGHBOURS = 5
_PRIME = (1 << 31) - 1


def find_pairs(
    examples: Examples, positions: np.ndarray, embed: Callable[[np.ndarray], np.ndarray] | None = None
) -> NearPairs:
    """Finds pairs of texts that are nearly equal.

    The distance of two texts is 1 minus the Jaccard index of their shingles, runs of three words in lower case (Broder
    1997, "On the resemblance and containment of documents"). Candidates are found by MinHash and confirmed exactly.
    Texts of fewer than three words are not compared.

    Args:
      examples: texts.
      positions: (n,) to compare, no two of which are equal.
      embed: gives embeddings (n, d) of the examples at some positions; nearest pairs by embedding are candidates too.
    """
    vectorizer = HashingVectorizer(
        ngram_range=(_SHINGLE, _SHINGLE),
        token_pattern=r"(?u)\b\w+\b",
        n_features=_PRIME,
        binary=True,
        norm=None,
        alternate_sign=False,
    )
    signatures, long = _signatures(examples, positions, vectorizer)
    candidates = _candidates(signatures[long])
    if embed is not None and long.sum() > 1:
        vectors = np.asarray(embed(positions[long]))
        k = min(_NEIGHBOURS, len(vectors) - 1)
        _, indices = find_nearest(vectors, vectors, k, metric="cosine", own=np.arange(len(vectors)))
        found = np.stack([np.repeat(np.arange(len(vectors)), k), indices.ravel()], axis=1)
        candidates = np.unique(np.sort(np.concatenate([candidates, found]), axis=1), axis=0)
    pairs = positions[long][candidates]
    distances = _distances(examples, pairs, vectorizer)
    same = distances <= FARTHEST
    return NearPairs(np.sort(pairs[same], axis=1), distances[same], FARTHEST, int((~long).sum()))


def _signatures(
    examples: Examples, positions: np.ndarray, vectorizer: HashingVectorizer
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the MinHash signatures (n, bands, rows) of texts, and whether they have any shingles (n,)."""
    generator = np.random.default_rng(0)
    factors, terms = (generator.integers(1, _PRIME, _BANDS * _ROWS, dtype=np.uint64) for _ in range(2))
    signatures = np.zeros((len(positions), len(factors)), np.uint32)
    long = np.zeros(len(positions), bool)
    for start in range(0, len(positions), _BLOCK):
        shingles = vectorizer.transform(_texts(examples, positions[start : start + _BLOCK]))
        counts = np.diff(shingles.indptr)
        rows = start + np.flatnonzero(counts)
        long[rows] = True
        if not len(rows):
            continue
        numbers, starts = shingles.indices.astype(np.uint64), shingles.indptr[:-1][counts > 0]
        for column, (factor, term) in enumerate(zip(factors, terms, strict=True)):
            signatures[rows, column] = np.minimum.reduceat((numbers * factor + term) % _PRIME, starts)
    return signatures.reshape(-1, _BANDS, _ROWS), long


def _candidates(signatures: np.ndarray) -> np.ndarray:
    """Finds pairs (p, 2) of rows, the smaller first, whose signatures have a band in common."""
    found = {-1}
    count = len(signatures)
    for band in range(_BANDS):
        _, index = np.unique(signatures[:, band], axis=0, return_inverse=True)
        order = np.argsort(index.ravel(), kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(index.ravel()[order])) + 1):
            if len(bucket) < 2:
                continue
            bucket = bucket.tolist()
            pairs = itertools.combinations(bucket, 2)
            if len(bucket) > _CROWD:
                pairs = itertools.chain(itertools.pairwise(bucket), ((bucket[0], other) for other in bucket[1:]))
            found.update(one * count + other for one, other in pairs)
    numbers = np.array(sorted(found - {-1}), np.int64)
    return np.stack(np.divmod(numbers, max(count, 1)), axis=1)


def _distances(examples: Examples, pairs: np.ndarray, vectorizer: HashingVectorizer) -> np.ndarray:
    """Computes Jaccard distances (p,) of pairs (p, 2) of positions."""
    distances = np.ones(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        needed, index = np.unique(pairs[start : start + _BLOCK], return_inverse=True)
        shingles = vectorizer.transform(_texts(examples, needed))
        one, other = (shingles[rows] for rows in index.reshape(-1, 2).T)
        both = np.asarray(one.multiply(other).sum(axis=1)).ravel()
        either = np.diff(one.indptr) + np.diff(other.indptr) - both
        distances[start : start + _BLOCK] = 1 - both / either
    return distances


def _texts(examples: Examples, positions: np.ndarray) -> list[str]:
    return [examples.text(position) for position in positions.tolist()]
