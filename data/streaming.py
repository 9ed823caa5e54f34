"""Prefetching in worker processes, for data sets that are decoded when they are read."""

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from data import order
from data.split import Reader

Rows = np.ndarray | slice
"""Rows of a global batch: indices or a slice."""

# Number of batches that each worker prefetches.
BATCHES_AHEAD = 2
# Number of steps of a training stream: more than any run has, and still within 64-bit indices.
_ENDLESS = 2**40
_PLATFORMS = "JAX_PLATFORMS"


@dataclasses.dataclass(frozen=True)
class TrainSchedule:
    """The examples that this process reads at each training step.

    Attributes:
      num_examples: number of examples of the split.
      batch_size: examples of one global batch.
      seed: seed of the order.
      rows: rows of each global batch that this process reads.
      skipped: (step, count): `count` batches are skipped from `step` on.
    """

    num_examples: int
    batch_size: int
    seed: int
    rows: Rows
    skipped: tuple[int, int] = (0, 0)

    num_steps = _ENDLESS

    def positions(self, step: int) -> np.ndarray:
        """Returns (B_local,) positions in the split."""
        first, count = self.skipped
        step = step + count if step >= first else step
        return order.positions(self.num_examples, self.batch_size, self.seed, step)[self.rows]


@dataclasses.dataclass(frozen=True)
class EvaluationSchedule:
    """The examples that this process reads at each step of an evaluation, in the order of the split.

    Attributes:
      num_examples: number of examples of the split.
      batch_size: examples of one global batch.
      rows: rows of each global batch that this process reads.
    """

    num_examples: int
    batch_size: int
    rows: Rows

    @property
    def num_steps(self) -> int:
        """Number of batches of the evaluation."""
        return -(-self.num_examples // self.batch_size)

    def positions(self, step: int) -> np.ndarray:
        """Returns (B_local,) positions in the split. Positions past its end repeat the last example."""
        return np.minimum(self._unclipped_positions(step), self.num_examples - 1)

    def padding(self, step: int) -> np.ndarray:
        """Returns (B_local,) bool, True for positions past the end."""
        return self._unclipped_positions(step) >= self.num_examples

    def _unclipped_positions(self, step: int) -> np.ndarray:
        start = step * self.batch_size
        return np.arange(start, start + self.batch_size)[self.rows]


class Stream:
    """Inputs of consecutive steps, decoded ahead of their use.

    Args:
      reader: reader of the split.
      schedule: examples of each step.
      workers: number of worker processes; 0 decodes in this process on demand, -1 starts one for each core.
    """

    def __init__(self, reader: Reader, schedule: TrainSchedule | EvaluationSchedule, workers: int):
        self._read_step = _ReadStep(reader, schedule)
        self._workers = _available_cores() if workers < 0 else workers
        self._iterator = None
        self._next_step = -1

    def read(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads inputs (B_local, ...) of `step`, and a mask (B_local,) bool of the valid ones."""
        if self._workers == 0:
            return self._read_step(step)
        with _block_signals(), _hide_accelerators():
            if step != self._next_step:
                self._restart(step)
            inputs, valid = next(self._iterator)
        self._next_step = step + 1
        # Copied, because the shared memory of a worker ends with the worker.
        return np.array(inputs), np.array(valid)

    def close(self) -> None:
        """Stops the worker processes."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator, self._next_step = None, -1

    def _restart(self, step: int) -> None:
        import grain

        self.close()
        _parse_flags()
        steps = grain.MapDataset.range(step, self._read_step.schedule.num_steps).map(self._read_step)
        # A worker decodes one step after the other, so more threads in it would not help.
        batches = steps.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        workers = min(self._workers, self._read_step.schedule.num_steps - step)
        self._iterator = iter(
            batches.mp_prefetch(
                grain.multiprocessing.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BATCHES_AHEAD)
            )
        )


@dataclasses.dataclass(frozen=True)
class _ReadStep:
    """Decodes the batch of a step. Worker processes receive this object only."""

    reader: Reader
    schedule: TrainSchedule | EvaluationSchedule

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.reader.read(self.schedule.positions(int(step)))


@contextmanager
def _block_signals() -> Iterator[None]:
    """Blocks SIGTERM and SIGINT until the block ends. Workers started in the block never receive them.

    Launchers and Ctrl-C signal all processes of a group, but only this process handles these signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _hide_accelerators() -> Iterator[None]:
    """Workers that are started in the block see no accelerator: a second process on it fails or takes its memory."""
    before = os.environ.get(_PLATFORMS)
    os.environ[_PLATFORMS] = "cpu"  # JAX has read it in this process already.
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PLATFORMS]
        else:
            os.environ[_PLATFORMS] = before


def _parse_flags() -> None:
    """Parses the flags of absl, which Grain reads and which are unparsed if Plumbline is used as a library."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
