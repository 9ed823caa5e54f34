"""input_cached: examples per second of the cached input path, relative to Grain reading the same data by element.

The data are 50,000 random uint8 images of 32x32x3 in a memory-mapped `.npy`, with labels, in shuffled batches of 128.
The measured side is `TrainBatches.read` as the training loop calls it: each batch is one gather, with labels, weights
and indices. The reference is `grain.MapDataset.source(...).shuffle().batch(128)` over a source that returns one image
and one label at a time, iterated in the same process with Grain's default read threads. Neither decodes, augments or
copies to a device. The file has been read once before, and the first batches of each measurement are not counted.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Iterable

import grain
import numpy as np
from absl import flags

from benchmarks.measure import Result, compare
from data.batches import TrainBatches
from data.split import ArrayReader, Split

BATCH_SIZE = 128
TARGET = 10.0
_NUM_IMAGES, _SHAPE = 50_000, (32, 32, 3)
_ROUNDS = 5
_WARM_BATCHES, _SECONDS = 20, 3.0


class _Source:
    """A source that returns one example at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {"inputs": self._images[row], "labels": self._labels[row]}


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    if not flags.FLAGS.is_parsed():  # Grain reads them.
        flags.FLAGS(["benchmarks"])
    random = np.random.default_rng(0)
    labels = random.integers(10, size=_NUM_IMAGES, dtype=np.int32)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "images.npy"
        np.save(path, random.integers(256, size=(_NUM_IMAGES, *_SHAPE), dtype=np.uint8))
        images = np.load(path, mmap_mode="r")
        images.sum()
        rows = np.arange(_NUM_IMAGES)
        split = Split(
            labels=labels,
            groups=None,
            weights=np.ones(_NUM_IMAGES, np.float32),
            rows=rows,
            reader=ArrayReader(images, rows),
        )
        batches = TrainBatches(split, batch_size=BATCH_SIZE, seed=0)
        by_element = grain.MapDataset.source(_Source(images, labels)).shuffle(seed=0).repeat().batch(BATCH_SIZE)
        return [
            compare(
                "input_cached",
                lambda: examples_per_second(map(batches.read, range(10**9))),
                lambda: examples_per_second(by_element.to_iter_dataset()),
                rounds=_ROUNDS,
                target=TARGET,
                at_least=True,
                comparison="examples/s, 50,000 images of 32x32x3 in a mapped file, batches of 128: TrainBatches.read / "
                "Grain element by element",
                unit="examples/s",
            )
        ]


def examples_per_second(batches: Iterable[dict[str, np.ndarray]]) -> float:
    """Reads batches for some seconds, and leaves the first ones out."""
    iterator = iter(batches)
    for _ in range(_WARM_BATCHES):
        next(iterator)
    began, examples = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        examples += len(next(iterator)["labels"])
    return examples / (time.perf_counter() - began)
