"""One split of a set: its labels, groups and weights, and a reader of its inputs."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from plumbline import UserError, counted


@runtime_checkable
class Reader(Protocol):
    """Where the raw inputs of a split are read from. Readers are sent to worker processes, so they must pickle."""

    in_memory: bool

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw inputs (B, ...) at `positions` (B,), and which of them are sound (B,) bool: the rest are zeros."""
        ...

    def name(self, position: int) -> str:
        """What the user knows the example by: a file, or a row of one."""
        ...


@dataclasses.dataclass(eq=False)
class Split:
    """Examples of one split, in the order of their source.

    Attributes:
      labels: (n,) int32 classes, or float32 in raw units for regression; (n, L) int32 tokens of a text.
      groups: (n,) int32, or None.
      weights: (n,) float32: the weight column, or ones; 0 for a corrupt image.
      rows: (n,) int64, rows in the source.
      reader: of the raw inputs.
      max_corrupt: corrupt images that are counted before it becomes an error.
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
        """Whether inputs are gathered from an array, in memory or mapped from a cache, rather than decoded."""
        return self.reader.in_memory

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Raw inputs (B, *shape) at `positions` (B,).

        Raises:
          UserError: more images are corrupt than `config.data.max_corrupt` allows.
        """
        inputs, sound = self.reader.read(positions)
        self.note_corrupt(positions, sound)
        return inputs

    def note_corrupt(self, positions: np.ndarray, sound: np.ndarray) -> None:
        """Gives the examples that were found corrupt while streaming weight 0, and counts them.

        Args:
          positions: (B,) that were read.
          sound: (B,) bool.

        Raises:
          UserError: they have become too many.
        """
        if sound.all():
            return
        corrupt = positions[~sound]
        self.weights[corrupt] = 0
        self._corrupt.update(corrupt.tolist())
        if len(self._corrupt) > self.max_corrupt:
            raise too_many_corrupt(self.reader.name(int(corrupt[0])), len(self._corrupt), self.max_corrupt)


class ArrayReader:
    """Inputs gathered from one array.

    Args:
      array: (N, ...) of the whole source, in memory or mapped.
      indices: (n,) rows of the array that belong to the split.
    """

    in_memory = True

    def __init__(self, array: np.ndarray, indices: np.ndarray):
        # A gather from the subclass np.memmap costs more than one from a plain array over the same pages.
        self._array = array.view(np.ndarray)
        self._indices = indices

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs at `positions`; all count as sound, as the corrupt ones were told apart when the array was made."""
        inputs = np.take(self._array, np.take(self._indices, positions), axis=0)
        return inputs, np.ones(len(positions), bool)

    def name(self, position: int) -> str:
        """The row in the source."""
        return f"row {self._indices[position]}"


def too_many_corrupt(name: str, found: int, allowed: int) -> UserError:
    """The error for more corrupt images than are allowed, naming the first."""
    return UserError(
        f"data.max_corrupt: {name} is corrupt, and with it {counted(found, 'image')}, more than the {allowed} allowed; "
        "remove or replace it, or raise data.max_corrupt"
    )
