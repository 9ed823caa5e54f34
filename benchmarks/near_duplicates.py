"""near_duplicates: near duplicates among 60,000 images of 32x32x3, relative to scikit-learn's brute-force neighbours.

The images are random fields with the spectrum of photographs. One in a hundred is a copy of another, shifted by a
pixel. Two things are timed. "pairs" is `near_search.find_pairs_within` on the 64 averages of each image, which select
candidates. "images" is all of `image_duplicates.find`, from pixels to aligned and confirmed pairs; it compares the
averages at five shifts and fails if it misses copies.

The reference is scikit-learn's `NearestNeighbors(algorithm="brute").radius_neighbors` alone, on the same vectors with
the same radius, for "images" at the same five shifts. It searches for a sixth of the rows, since each row of a
brute-force search costs the same. Each measurement has its own process and all cores. The memory is the peak of the
process that runs "images", including the images, Python and JAX.
"""

import argparse
import resource
import statistics
import time

import numpy as np

from benchmarks.measure import Result, alternate
from benchmarks.step_rate import run_in_new_process

IMAGES, RADIUS, SHIFTS = 60_000, 0.25, 5

_SIDE, _CHANNELS = 32, 3
_COPIES = 100
_ROUNDS = 3
_GIB = 2**30


def run(options: argparse.Namespace) -> list[Result]:
    """Returns three results: two ratios of rates, and the peak memory."""
    count = options.rows or IMAGES
    peaks = []

    def whole() -> float:
        rate, peak = run_in_new_process(search_images, count)
        peaks.append(peak / _GIB)
        return rate

    results = []
    for name, ours, searches, what in (
        ("pairs", lambda: run_in_new_process(search_pairs, count), 1, "pairs within a distance"),
        ("images", whole, SHIFTS, f"from pixels to confirmed pairs, {SHIFTS} shifts"),
    ):
        ratios, own, others = alternate(
            ours, lambda searches=searches: run_in_new_process(search_brute_force, count) / searches, _ROUNDS
        )
        results.append(
            Result(
                name=f"near_duplicates/{name}",
                ratios=ratios,
                target=5.0,
                at_least=True,
                comparison=f"images/s of {count}: {what} / scikit-learn's brute-force neighbours on the same vectors",
                figures=f"{statistics.median(own):.4g} / {statistics.median(others):.4g} images/s",
            )
        )
    results.append(
        Result(
            name="near_duplicates/memory",
            ratios=peaks,
            target=4.0,
            at_least=False,
            comparison=f"GiB at the peak of the process that finds the near duplicates of {count} images",
            figures=f"{max(peaks):.3g} GiB",
        )
    )
    return results


def search_pairs(count: int) -> float:
    """Images per second."""
    from diagnostics.quality.near_search import find_pairs_within

    vectors = _vectors(count)
    find_pairs_within(vectors[:2048], RADIUS)
    began = time.perf_counter()
    find_pairs_within(vectors, RADIUS)
    return count / (time.perf_counter() - began)


def search_brute_force(count: int) -> float:
    """Images per second."""
    from sklearn.neighbors import NearestNeighbors

    vectors = _vectors(count)
    asked = vectors[: max(1, count // 6)]
    fitted = NearestNeighbors(radius=RADIUS, algorithm="brute").fit(vectors)
    fitted.radius_neighbors(asked[:256])
    began = time.perf_counter()
    fitted.radius_neighbors(asked)
    return len(asked) / (time.perf_counter() - began)


def search_images(count: int) -> tuple[float, int]:
    """Images per second including compilation, and the peak memory in bytes."""
    from diagnostics.quality.duplicates import images as duplicates

    images = _images(count)
    began = time.perf_counter()
    found = duplicates.find_pairs(_InMemory(images), np.arange(count))
    seconds = time.perf_counter() - began
    copies = {(int(copy) - len(images) // _COPIES, int(copy)) for copy in _copies(count)}
    if len(copies & set(map(tuple, found.pairs.tolist()))) < 0.95 * len(copies):
        raise RuntimeError("copies were missed")
    return count / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _InMemory:
    """Images in memory with the interface of `diagnostics.examples.Examples`."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def read(self, positions: np.ndarray) -> np.ndarray:
        return self._images[positions]

    def blocks(self, positions: np.ndarray, size: int = 1024):
        for start in range(0, len(positions), size):
            own = positions[start : start + size]
            yield own, self.read(own)


def _vectors(count: int) -> np.ndarray:
    from diagnostics.quality.duplicates import images as duplicates

    return duplicates.average_cells(_InMemory(_images(count)), np.arange(count))[0][0]


def _copies(count: int) -> np.ndarray:
    """Returns the positions of the copies: the last ones, each of the image a hundredth of the set before it."""
    return np.arange(count - count // _COPIES, count)


def _images(count: int) -> np.ndarray:
    """Returns images whose amplitudes fall with frequency, as in photographs (Field 1987)."""
    generator = np.random.default_rng(0)
    across, down = np.meshgrid(np.fft.rfftfreq(_SIDE), np.fft.fftfreq(_SIDE))
    fall = (1 / np.maximum(np.hypot(across, down), 1 / _SIDE)).astype(np.float32)[None, :, :, None]
    images = np.empty((count, _SIDE, _SIDE, _CHANNELS), np.uint8)
    for start in range(0, count, 1024):
        own = images[start : start + 1024]
        noise = generator.standard_normal(own.shape, np.float32)
        # The channels share most of their signal.
        noise = noise + 2 * noise.mean(axis=3, keepdims=True) * _CHANNELS**0.5
        field = np.fft.irfft2(np.fft.rfft2(noise, axes=(1, 2)) * fall, s=(_SIDE, _SIDE), axes=(1, 2))
        field = field / field.std(axis=(1, 2, 3), keepdims=True)
        own[:] = np.clip(128 + 50 * field, 0, 255)
    copies = _copies(count)
    if len(copies):
        images[copies] = np.roll(images[copies - count // _COPIES], 1, axis=1)
    return images
