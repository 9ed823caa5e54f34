"""Batches of a split for training and evaluation. They do not depend on the number of processes or workers."""

from collections.abc import Iterator

import numpy as np

from data import streaming
from data.split import Split

Batch = dict[str, np.ndarray]

# `index` of the padding examples in the last batch of an evaluation.
PADDING = -1

ALL_ROWS = slice(None)


class TrainBatches:
    """The endless stream of training batches, readable from any step.

    A split in memory is read with one gather. For other splits, worker processes decode ahead in the same order. They
    are restarted when a step is read that is not the next one.

    Args:
      split: the examples.
      batch_size: examples of one global batch.
      seed: seed of the order.
      rows: rows of each global batch that this process reads, in ascending order; by default all. Processes that share
        a batch read different rows.
      skipped: (step, count): `count` batches are skipped from `step` on.
      workers: processes that decode a streamed split; 0 decodes in this process, -1 starts one for each core.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        rows: streaming.Rows = ALL_ROWS,
        skipped: tuple[int, int] = (0, 0),
        workers: int = -1,
    ):
        self._split = split
        self._schedule = streaming.TrainSchedule(len(split), batch_size, seed, rows, skipped)
        self._stream = None if split.in_memory else streaming.Stream(split.reader, self._schedule, workers)

    def read(self, step: int, count: int | None = None) -> Batch:
        """Reads the batch of `step`, or the batches of `count` steps from it on.

        Returns:
          Leaves (B_local, ...) or, with `count`, (count, B_local, ...).

        Raises:
          UserError: more images are corrupt than `config.data.max_corrupt` allows.
        """
        steps = range(step, step + (1 if count is None else count))
        positions = np.concatenate([self._schedule.positions(step) for step in steps])
        if self._stream is None:
            inputs = self._split.read(positions)
        else:
            pieces = [self._stream.read(step) for step in steps]
            inputs = np.concatenate([piece[0] for piece in pieces]) if len(pieces) > 1 else pieces[0][0]
            self._split.mark_corrupt(positions, np.concatenate([piece[1] for piece in pieces]))
        batch = _batch(self._split, positions, inputs)
        if count is None:
            return batch
        return {name: leaf.reshape(count, -1, *leaf.shape[1:]) for name, leaf in batch.items()}

    def close(self) -> None:
        """Stops the worker processes, if any. Reading starts them again."""
        if self._stream is not None:
            self._stream.close()


def evaluation_batches(
    split: Split, *, batch_size: int, rows: streaming.Rows = ALL_ROWS, workers: int = -1
) -> Iterator[Batch]:
    """Yields all examples in the order of their source, each exactly once over all processes.

    The last batch is padded to the full size with examples of weight 0 and index -1. So every process yields the same
    number of batches, ceil(n / batch_size), and all have one shape.

    Args:
      split: the examples.
      batch_size: examples of one global batch.
      rows: rows of each global batch that this process reads, in ascending order; by default all. Processes that share
        a batch read different rows.
      workers: processes that decode a streamed split; 0 decodes in this process, -1 starts one for each core.

    Yields:
      Leaves (B_local, ...).

    Raises:
      UserError: too many images are corrupt.
    """
    schedule = streaming.EvaluationSchedule(len(split), batch_size, rows)
    stream = None if split.in_memory else streaming.Stream(split.reader, schedule, workers)
    return _evaluate(split, schedule, stream)


def _evaluate(split: Split, schedule: streaming.EvaluationSchedule, stream: streaming.Stream | None) -> Iterator[Batch]:
    try:
        for step in range(schedule.num_steps):
            positions = schedule.positions(step)
            if stream is None:
                inputs = split.read(positions)
            else:
                inputs, valid = stream.read(step)
                split.mark_corrupt(positions, valid)
            batch = _batch(split, positions, inputs)
            padding = schedule.padding(step)
            if padding.any():
                batch["weight"] = np.where(padding, np.float32(0), batch["weight"])
                batch["index"] = np.where(padding, batch["index"].dtype.type(PADDING), batch["index"])
            yield batch
    finally:
        if stream is not None:
            stream.close()


def _gather(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    # `take` is faster, but copies the whole of a view whose rows overlap, as those of texts do.
    return np.take(labels, positions) if labels.ndim == 1 else labels[positions]


def _batch(split: Split, positions: np.ndarray, inputs: np.ndarray) -> Batch:
    index = np.take(split.rows, positions)
    # Devices use 32 bits by default, which is enough for almost all data sets.
    batch = {
        "inputs": inputs,
        "labels": _gather(split.labels, positions),
        "weight": np.take(split.weights, positions),
        "index": index.astype(np.int32) if split.rows[-1] < 2**31 else index,
    }
    if split.groups is not None:
        batch["group"] = np.take(split.groups, positions)
    return batch
