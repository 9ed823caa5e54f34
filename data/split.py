"""One split of a data set: its labels, groups and weights, and a reader of its inputs."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from plumbline import UserError, pluralize


@runtime_checkable
class Reader(Protocol):
    """Reads raw inputs of a split. Readers are sent to worker processes and must be picklable."""

    in_memory: bool

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads raw inputs (B, ...) at `positions` (B,), and a mask (B,) bool of the valid ones; others are zeros."""
        ...

    def name(self, position: int) -> str:
        """Returns the name of an example, for messages: a file, or a row of one."""
        ...


@dataclasses.dataclass(eq=False)
class Split:
    """Examples of one split, in the order of their source.

    Attributes:
      labels: (n,) int32 classes, or float32 in raw units for regression; (n, L) int32 tokens for language modelling.
      groups: (n,) int32, or None.
      weights: (n,) float32: the weight column, or ones; 0 for a corrupt image.
      rows: (n,) int64, rows in the source.
      reader: reader of the raw inputs.
      max_corrupt: largest number of corrupt images that is not an error.
    """

    labels: np.ndarray
    groups: np.ndarray | None
    weights: np.ndarray
    rows: np.ndarray
    reader: Reader
    max_corrupt: int = 0

    def __post_init__(self):
        self._corrupt = set()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self)

    @property
    def in_memory(self) -> bool:
        """Whether inputs are gathered from an array, in memory or memory-mapped, and not decoded."""
        return self.reader.in_memory

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Reads raw inputs (B, *shape) at `positions` (B,).

        Raises:
          UserError: more images are corrupt than `config.data.max_corrupt` allows.
        """
        inputs, valid = self.reader.read(positions)
        self.mark_corrupt(positions, valid)
        return inputs

    def mark_corrupt(self, positions: np.ndarray, valid: np.ndarray) -> None:
        """Sets the weight of examples that are found corrupt while streaming to 0, and counts them.

        Args:
          positions: (B,) positions that were read.
          valid: (B,) bool, False for corrupt examples.

        Raises:
          UserError: there are too many.
        """
        if valid.all():
            return
        corrupt = positions[~valid]
        self.weights[corrupt] = 0
        self._corrupt.update(corrupt.tolist())
        if len(self._corrupt) > self.max_corrupt:
            raise too_many_corrupt(self.reader.name(int(corrupt[0])), len(self._corrupt), self.max_corrupt)


class ArrayReader:
    """Inputs gathered from one array.

    Args:
      array: (N, ...) inputs of the whole source, in memory or memory-mapped.
      indices: (n,) rows of the array that belong to the split.
    """

    in_memory = True

    def __init__(self, array: np.ndarray, indices: np.ndarray):
        # A gather from np.memmap is slower than from a plain array over the same pages.
        self._array = array.view(np.ndarray)
        self._indices = indices

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads inputs at `positions`. All are valid: corrupt ones were found when the array was made."""
        inputs = np.take(self._array, np.take(self._indices, positions), axis=0)
        return inputs, np.ones(len(positions), bool)

    def name(self, position: int) -> str:
        """Returns the row in the source."""
        return f"row {self._indices[position]}"


def too_many_corrupt(name: str, found: int, allowed: int) -> UserError:
    """Makes the error for more corrupt images than allowed, which names the first."""
    return UserError(
        f"data.max_corrupt: {name} is corrupt; {pluralize(found, 'corrupt image')} found so far, {allowed} allowed; "
        "remove or replace it, or raise data.max_corrupt"
    )
