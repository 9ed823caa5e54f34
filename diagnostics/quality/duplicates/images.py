"""Images that differ only by a shift of a pixel or two, brightness and contrast, or compression."""

import itertools
from collections.abc import Callable

import numpy as np
import scipy.fft

from diagnostics.examples import Examples
from diagnostics.quality.chance import estimate_chance_distance
from diagnostics.quality.duplicates.near_pairs import NearPairs
from diagnostics.quality.near_search import find_pairs_within
from diagnostics.quality.neighbours import find_nearest

FARTHEST = 0.25
"""Greatest share of an image's contrast that may differ (a ratio of standard deviations), in any set."""
ALWAYS = 0.05
"""Pairs this near count in any set: where most images have a copy, the chance distance cannot be estimated."""
FLAT = 3.0
"""Standard deviation in grey levels below which an image shows too little to be compared."""

# Larger images are averaged down to at most this many pixels a side before they are compared.
_SIDE = 64
# Weights of red, green and blue in luma (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
# Cells a side by which candidates are found, and how far apart they may be.
_CELLS, _NEAR = 8, 0.25
# Candidates may be this many times farther apart by cells than copies by pixels.
_SLACK = 1.5
# One of the shifts s and -s is enough, as a pair has two sides.
_SHIFTS = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))
# Neighbours by embedding, and the shifts tried for them, as an embedding does not show the shift.
_NEAREST_BY_EMBEDDING, _FAR_SHIFTS = 2, (-2, -1, 0, 1, 2)
# Examples and neighbours of each that the chance distance is estimated from.
_SAMPLE, _NEIGHBOURS = 1000, 5
# Low frequencies a side of a hash, and how many of its 63 bits may differ.
_FREQUENCIES, _BITS = 8, 16
# Pairs that are compared at once, and most candidates.
_BLOCK, _MOST = 2048, 2_000_000


def find_pairs(
    examples: Examples, positions: np.ndarray, embed: Callable[[np.ndarray], np.ndarray] | None = None
) -> NearPairs:
    """Finds pairs of images that are nearly equal.

    The distance of two images is the root mean square of their difference, with one of them shifted by up to two pixels
    each way and brightness and contrast fitted, as a ratio to the image's standard deviation. Pairs below a threshold
    count if the signs of their low frequencies agree as well. The threshold is the distance expected of the nearest of
    as many different images (`estimate_chance_distance`), between `ALWAYS` and `FARTHEST`.

    Candidates are pairs that are near by 8 x 8 averages of the window inside the outermost pixels, normalised for mean
    and contrast, with one window shifted by up to one pixel.

    Args:
      examples: of images.
      positions: (n,) to compare, no two of which are equal.
      embed: gives embeddings (n, d) of the examples at some positions; nearest pairs by embedding are candidates too.
    """
    cells, contrast = average_cells(examples, positions)
    clear = contrast >= FLAT
    positions, cells, left_out = positions[clear], cells[:, clear], int((~clear).sum())
    threshold = max(ALWAYS, min(FARTHEST, _estimate_chance(examples, positions, cells[0])))
    near = min(_NEAR, _SLACK * threshold)
    candidates = [_append_shift(find_pairs_within(cells[0], near, most=_MOST)[0], (0, 0))]
    shifted, count = np.concatenate(cells[1:]), len(positions)
    found, _ = find_pairs_within(shifted, near, others=cells[0], most=_MOST)
    number, found[:, 0] = np.divmod(found[:, 0], max(count, 1))
    found = np.concatenate([found, np.array(_SHIFTS[1:])[number]], axis=1)
    candidates.append(found[found[:, 0] != found[:, 1]])
    if embed is not None and len(positions) > 1:
        vectors = np.asarray(embed(positions))
        k = min(_NEAREST_BY_EMBEDDING, count - 1)
        _, indices = find_nearest(vectors, vectors, k, metric="cosine", own=np.arange(count))
        found = np.sort(np.stack([np.repeat(np.arange(count), k), indices.ravel()], axis=1), axis=1)
        found = np.unique(found, axis=0)
        candidates += [_append_shift(found, shift) for shift in itertools.product(_FAR_SHIFTS, repeat=2)]
    candidates = np.concatenate(candidates)
    pairs, distances = positions[candidates[:, :2]], np.ones(len(candidates), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        own = slice(start, start + _BLOCK)
        distances[own] = _measure(examples, pairs[own], candidates[own, 2:], threshold)
    same = distances <= threshold
    return _keep_best(np.sort(pairs[same], axis=1), distances[same], threshold, left_out)


def average_cells(examples: Examples, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the vectors by which candidates are found.

    Args:
      examples: of images.
      positions: (n,) of them.

    Returns:
      Averages over cells of each image's window at each of five shifts (5, n, d) float32, centred and of unit length,
      the first unshifted; and the images' standard deviations (n,) in grey levels.
    """
    cells, contrast = [np.zeros((len(_SHIFTS), 0, 1), np.float32)], [np.zeros(0, np.float32)]
    for _, images in examples.blocks(positions):
        grey = _shrink(images)
        contrast.append(grey.reshape(len(grey), -1).std(axis=1))
        height, width = (size - 2 for size in grey.shape[1:])
        rows, columns = _averaging_matrix(height), _averaging_matrix(width)
        own = []
        for down, right in _SHIFTS:
            window = grey[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            means = (rows.T @ window @ columns).reshape(len(grey), -1)
            means -= means.mean(axis=1, keepdims=True)
            own.append(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6))
        cells.append(np.stack(own))
    return np.concatenate(cells[1:] or cells, axis=1), np.concatenate(contrast)


def _append_shift(pairs: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """Appends the shift of the first image to pairs (p, 2), giving (p, 4)."""
    return np.concatenate([pairs, np.broadcast_to(np.array(shift), (len(pairs), 2))], axis=1)


def _keep_best(pairs: np.ndarray, distances: np.ndarray, threshold: float, left_out: int) -> NearPairs:
    """Keeps each pair once, at its smallest distance."""
    order = np.argsort(distances, kind="stable")
    pairs, first = np.unique(pairs[order], axis=0, return_index=True)
    return NearPairs(pairs, distances[order][first], threshold, left_out)


def _shrink(images: np.ndarray) -> np.ndarray:
    """Averages the luma of images (n, H, W, C) down to at most 64 pixels a side: (n, h, w) float32."""
    if images.shape[3] == 3:
        # As in JPEG, which preserves luma best.
        images = images.astype(np.float32) @ np.array(_LUMA, np.float32)
    else:
        images = images.mean(axis=3, dtype=np.float32)
    factors = [min(size, -(-max(images.shape[1:]) // _SIDE)) for size in images.shape[1:]]
    if max(factors) > 1:
        height, width = (size // factor for size, factor in zip(images.shape[1:], factors, strict=True))
        images = images[:, : height * factors[0], : width * factors[1]]
        images = images.reshape(-1, height, factors[0], width, factors[1]).mean(axis=(2, 4))
    # A window inside the outermost pixels needs three of them.
    short = [(0, max(0, 3 - size)) for size in images.shape[1:]]
    return np.pad(images, ((0, 0), *short), mode="edge")


def _averaging_matrix(size: int) -> np.ndarray:
    """Returns the matrix (size, cells) that averages pixels into cells of equal width, which may cut pixels."""
    count = min(size, _CELLS)
    edges = np.linspace(0, size, count + 1)
    pixels = np.arange(size)
    overlap = np.minimum(pixels[:, None] + 1, edges[None, 1:]) - np.maximum(pixels[:, None], edges[None, :-1])
    return (np.maximum(overlap, 0) * count / size).astype(np.float32)


def _estimate_chance(examples: Examples, positions: np.ndarray, cells: np.ndarray) -> float:
    """Estimates the distance of the nearest two different images from a sample."""
    k = min(_NEIGHBOURS, len(positions) - 1)
    if k < 2:
        return 0.0
    chosen = np.unique(np.linspace(0, len(positions) - 1, _SAMPLE).astype(np.int64))
    _, indices = find_nearest(cells[chosen], cells, k, own=chosen)
    pairs = positions[np.stack([np.repeat(chosen, k), indices.ravel()], axis=1)]
    distances = np.concatenate(
        [_align(*_read(examples, pairs[start : start + _BLOCK]))[0] for start in range(0, len(pairs), _BLOCK)]
    )
    return estimate_chance_distance(np.sort(distances.reshape(-1, k), axis=1)[:, :2], len(positions))


def _measure(examples: Examples, pairs: np.ndarray, shifts: np.ndarray, threshold: float) -> np.ndarray:
    """Computes distances (p,) of pairs (p, 2) of positions; 1 for those that are not copies."""
    one, other = _read(examples, pairs)
    distances = np.ones(len(pairs), np.float32)
    # Pairs that are far apart at the shift they were found at are not aligned further.
    likely = np.zeros(len(pairs), bool)
    for shift in np.unique(shifts, axis=0):
        if not _overlaps_enough(one, shift):
            continue
        own = np.flatnonzero((shifts == shift).all(axis=1))
        likely[own] = _residual(*_cut_overlap(one[own], other[own], *shift)) <= max(2 * threshold, FARTHEST)
    for shift in np.unique(shifts[likely], axis=0):
        own = np.flatnonzero(likely & (shifts == shift).all(axis=1))
        found, at = _align(one[own], other[own], around=shift)
        for best in np.unique(at[found <= threshold], axis=0):
            same = np.flatnonzero((found <= threshold) & (at == best).all(axis=1))
            a, b = _cut_overlap(one[own[same]], other[own[same]], *best)
            alike = (_hash(a) != _hash(b)).sum(axis=1) <= _BITS
            distances[own[same[alike]]] = found[same[alike]]
    return distances


def _read(examples: Examples, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    needed, index = np.unique(pairs, return_inverse=True)
    images = _shrink(examples.read(needed))
    one, other = index.reshape(-1, 2).T
    return images[one], images[other]


def _cut_overlap(one: np.ndarray, other: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the parts of images (n, h, w) that overlap when the first is moved up and left by the shift."""
    height, width = one.shape[1:3]

    def cut(images: np.ndarray, down: int, right: int) -> np.ndarray:
        return images[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]

    return cut(one, down, right), cut(other, -down, -right)


def _overlaps_enough(images: np.ndarray, shift: np.ndarray) -> bool:
    """Whether shifted images (n, h, w) overlap on at least three quarters of each side."""
    return bool((4 * np.abs(shift) <= images.shape[1:3]).all())


def _align(one: np.ndarray, other: np.ndarray, around: np.ndarray = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Computes distances (n,) of images (n, h, w) at the best of nine shifts around one, and that shift (n, 2)."""
    best, at = np.full(len(one), np.inf, np.float32), np.zeros((len(one), 2), np.int64)
    for shift in itertools.product((-1, 0, 1), repeat=2):
        shift = np.add(around, shift)
        if not _overlaps_enough(one, shift):
            continue
        distances = _residual(*_cut_overlap(one, other, *shift))
        better = distances < best
        best[better], at[better] = distances[better], shift
    for shift in np.unique(at, axis=0):
        own = np.flatnonzero((at == shift).all(axis=1))
        a, b = (part.reshape(len(own), -1) for part in _cut_overlap(one[own], other[own], *shift))
        best[own] = np.minimum(best[own], np.minimum(_residual_clipped(a, b), _residual_clipped(b, a)))
    return best, at


def _residual(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes the residual (n,) after fitting brightness and contrast, as a ratio of standard deviations."""
    one, other = (part.reshape(len(part), -1) for part in (one, other))
    one, other = (part - part.mean(axis=1, keepdims=True) for part in (one, other))
    product, norm, other_norm = (np.einsum("np,np->n", *two) for two in ((one, other), (one, one), (other, other)))
    return np.sqrt(np.maximum(0, 1 - np.maximum(product, 0) ** 2 / np.maximum(norm * other_norm, 1e-6)))


def _residual_clipped(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes the same if the second was made from the first and clipped at black and white."""
    inside = (other > 0) & (other < 255)
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    mean, other_mean = ((part * inside).sum(axis=1, keepdims=True) / count for part in (one, other))
    covariance = ((one - mean) * (other - other_mean) * inside).sum(axis=1, keepdims=True)
    gain = covariance / np.maximum((np.square(one - mean) * inside).sum(axis=1, keepdims=True), 1e-6)
    made = np.clip(np.maximum(gain, 0) * (one - mean) + other_mean, 0, 255)
    left, whole = np.square(other - made).sum(axis=1), np.square(other - other.mean(axis=1, keepdims=True)).sum(axis=1)
    return np.sqrt(left / np.maximum(whole, 1e-6))


def _hash(images: np.ndarray) -> np.ndarray:
    """Computes bits (n, 63): which of the lowest frequencies are above their median (Zauner 2010, pHash)."""
    frequencies = scipy.fft.dctn(images, axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    low = frequencies.reshape(len(images), -1)[:, 1:]
    return low > np.median(low, axis=1, keepdims=True)
