"""Batches of a split, for training and for evaluation, the same whatever the number of processes or workers."""

from collections.abc import Iterator

import numpy as np

from data import streaming
from data.split import Split

Batch = dict[str, np.ndarray]

# `index` of the examples that only fill up the last batch of an evaluation.
PADDING = -1

ALL_ROWS = slice(None)


class TrainBatches:
    """The endless stream of training batches, from any step on.

    A split in memory is read as one gather. Otherwise worker processes decode ahead, in the same order, and are started
    anew when the step asked for is not the one that comes next.

    Args:
      split: of the examples.
      batch_size: examples of one global batch.
      seed: of the order.
      rows: of each global batch, those to read, in ascending order; all of them by default. Processes that share a
        batch each read their own.
      passed_over: (step, count): from that step on, so many batches are passed over.
      workers: processes that decode a streamed split; 0 decodes in this one, -1 means one a core.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        rows: streaming.Rows = ALL_ROWS,
        passed_over: tuple[int, int] = (0, 0),
        workers: int = -1,
    ):
        self._split = split
        self._schedule = streaming.TrainSchedule(len(split), batch_size, seed, rows, passed_over)
        self._stream = None if split.in_memory else streaming.Stream(split.reader, self._schedule, workers)

    def read(self, step: int, count: int | None = None) -> Batch:
        """The batch of `step`, or those of `count` steps from it on.

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
            self._split.note_corrupt(positions, np.concatenate([piece[1] for piece in pieces]))
        batch = _batch(self._split, positions, inputs)
        if count is None:
            return batch
        return {name: leaf.reshape(count, -1, *leaf.shape[1:]) for name, leaf in batch.items()}

    def close(self) -> None:
        """Ends the worker processes, if there are any; reading starts them anew."""
        if self._stream is not None:
            self._stream.close()


def evaluation_batches(
    split: Split, *, batch_size: int, rows: streaming.Rows = ALL_ROWS, workers: int = -1
) -> Iterator[Batch]:
    """All examples in the order of their source, each exactly once over all processes.

    The last batch is filled up to the full size with examples of weight 0 and index -1, so that every process yields
    the same number of batches of one shape, ceil(n / batch_size).

    Args:
      split: of the examples.
      batch_size: examples of one global batch.
      rows: of each global batch, those to read, in ascending order; all of them by default. Processes that share a
        batch each read their own.
      workers: processes that decode a streamed split; 0 decodes in this one, -1 means one a core.

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
                inputs, sound = stream.read(step)
                split.note_corrupt(positions, sound)
            batch = _batch(split, positions, inputs)
            padding = schedule.padding(step)
            if padding.any():
                batch["weight"] = np.where(padding, np.float32(0), batch["weight"])
                batch["index"] = np.where(padding, batch["index"].dtype.type(PADDING), batch["index"])
            yield batch
    finally:
        if stream is not None:
            stream.close()


def _gathered(labels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    # The quicker `take` would first copy the whole of a view whose rows overlap, as those of texts do.
    return np.take(labels, positions) if labels.ndim == 1 else labels[positions]


def _batch(split: Split, positions: np.ndarray, inputs: np.ndarray) -> Batch:
    index = np.take(split.rows, positions)
    # Devices hold 32 bits by default, and few sets have more rows than they count.
    batch = {
        "inputs": inputs,
        "labels": _gathered(split.labels, positions),
        "weight": np.take(split.weights, positions),
        "index": index.astype(np.int32) if split.rows[-1] < 2**31 else index,
    }
    if split.groups is not None:
        batch["group"] = np.take(split.groups, positions)
    return batch
