"""Vectors in blocks of a few fixed sizes, and work on them spread over the devices."""

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np

METRICS = ("euclidean", "cosine")
STEP = 256
"""Blocks have a multiple of this many rows, so that few programs are compiled."""

Task, Result = TypeVar("Task"), TypeVar("Result")


def check_vectors(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Returns vectors (n, d) as float32, of unit length for the cosine.

    Raises:
      ValueError: the metric is unknown, the shape is wrong, or a number is not finite.
    """
    if metric not in METRICS:
        raise ValueError(f"metric '{metric}'; known: {', '.join(METRICS)}")
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors of shape {vectors.shape}; expected (n, d) finite numbers")
    if metric == "cosine":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms > 0, norms, 1)
    return vectors


def run_on_devices(
    start: Callable[[jax.Device, Task], Callable[[], Result]],
    tasks: Iterator[Task],
    devices: Sequence[jax.Device] | None,
) -> Iterator[Result]:
    """Starts tasks on the devices in turn, and yields results in order while later tasks run.

    Args:
      start: starts a task on a device, and returns a function that waits for its result.
      tasks: to run.
      devices: to use; None for all of this process.
    """
    devices = list(devices or jax.local_devices())
    running = collections.deque()
    for device, task in zip(itertools.cycle(devices), tasks):
        running.append(start(device, task))
        if len(running) > len(devices):
            yield running.popleft()()
    while running:
        yield running.popleft()()


def round_up(count: int, step: int) -> int:
    """Rounds up to a multiple of a step, and at least to one step."""
    return max(1, -(-count // step)) * step


def pad(array: np.ndarray, size: int, value: float) -> np.ndarray:
    """Adds rows of `value` up to `size` rows."""
    filled = np.full((size, *array.shape[1:]), value, array.dtype)
    filled[: len(array)] = array
    return filled
