"""Reading ahead in worker processes, for sets that are decoded as they are read."""

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
"""Which rows of a global batch."""

# Batches that each worker keeps ready.
BATCHES_AHEAD = 2
# Steps a training stream is laid out for: no run reaches it, and a slice of it is still an index of 64 bits.
_ENDLESS = 2**40


@dataclasses.dataclass(frozen=True)
class TrainSchedule:
    """Which examples this process reads at each step of training.

    Attributes:
      num_examples: of the split.
      batch_size: of one global batch.
      seed: of the order.
      rows: of each global batch, those that this process reads.
      passed_over: (step, count): from that step on, so many batches are passed over.
    """

    num_examples: int
    batch_size: int
    seed: int
    rows: Rows
    passed_over: tuple[int, int] = (0, 0)

    num_steps = _ENDLESS

    def positions(self, step: int) -> np.ndarray:
        """(B_local,) positions in the split."""
        first, count = self.passed_over
        step = step + count if step >= first else step
        return order.positions(self.num_examples, self.batch_size, self.seed, step)[self.rows]


@dataclasses.dataclass(frozen=True)
class EvaluationSchedule:
    """Which examples this process reads at each step of an evaluation, in the order of the split.

    Attributes:
      num_examples: of the split.
      batch_size: of one global batch.
      rows: of each global batch, those that this process reads.
    """

    num_examples: int
    batch_size: int
    rows: Rows

    @property
    def num_steps(self) -> int:
        """Batches of the evaluation."""
        return -(-self.num_examples // self.batch_size)

    def positions(self, step: int) -> np.ndarray:
        """(B_local,) positions in the split; what lies past its end is its last example once more."""
        return np.minimum(self._unbounded(step), self.num_examples - 1)

    def padding(self, step: int) -> np.ndarray:
        """(B_local,) bool, which of the positions lie past the end."""
        return self._unbounded(step) >= self.num_examples

    def _unbounded(self, step: int) -> np.ndarray:
        start = step * self.batch_size
        return np.arange(start, start + self.batch_size)[self.rows]


class Stream:
    """Inputs of one step after the other, decoded ahead of their use.

    Args:
      reader: of the split.
      schedule: which examples each step reads.
      workers: worker processes; 0 decodes in this process when asked, -1 means one a core.
    """

    def __init__(self, reader: Reader, schedule: TrainSchedule | EvaluationSchedule, workers: int):
        self._read_step = _ReadStep(reader, schedule)
        self._workers = _available_cores() if workers < 0 else workers
        self._iterator = None
        self._next_step = -1

    def read(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (B_local, ...) of `step`, and which are sound (B_local,) bool."""
        if self._workers == 0:
            return self._read_step(step)
        with _signals_held_back():
            if step != self._next_step:
                self._restart(step)
            inputs, sound = next(self._iterator)
        self._next_step = step + 1
        # Out of the shared memory that a worker put them in, which ends with the worker.
        return np.array(inputs), np.array(sound)

    def close(self) -> None:
        """Ends the worker processes."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator, self._next_step = None, -1

    def _restart(self, step: int) -> None:
        import grain

        self.close()
        _parse_flags()
        steps = grain.MapDataset.range(step, self._read_step.schedule.num_steps).map(self._read_step)
        # A worker decodes its steps one by one: more threads in it would only wait for each other.
        batches = steps.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        workers = min(self._workers, self._read_step.schedule.num_steps - step)
        self._iterator = iter(
            batches.mp_prefetch(
                grain.multiprocessing.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BATCHES_AHEAD)
            )
        )


@dataclasses.dataclass(frozen=True)
class _ReadStep:
    """Decodes the batch of a step; all that a worker process is sent."""

    reader: Reader
    schedule: TrainSchedule | EvaluationSchedule

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.reader.read(self.schedule.positions(int(step)))


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Keeps SIGTERM and SIGINT for after the block, and for ever from the workers that are started in it.

    Launchers, and Ctrl-C, send them to all processes of a group; what they mean is for this process to decide.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _parse_flags() -> None:
    """Grain reads absl's flags, which stay unparsed where Plumbline is used as a library."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
