"""What a source of examples offers, whatever it is read from."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from data.tables import Table


@runtime_checkable
class Records(Protocol):
    """Encoded images by row. Records are sent to worker processes, so they must pickle, and stay small."""

    def __len__(self) -> int: ...

    def encoded(self, row: int) -> bytes:
        """The image file of `row`, PNG or JPEG."""
        ...

    def name(self, row: int) -> str:
        """What the user knows the image by."""
        ...


@runtime_checkable
class Texts(Protocol):
    """Texts by row."""

    def __len__(self) -> int: ...

    def text(self, row: int) -> str:
        """The text of `row`.

        Raises:
          UserError: it cannot be read.
        """
        ...

    def name(self, row: int) -> str:
        """What the user knows the text by."""
        ...


@dataclasses.dataclass(kw_only=True)
class Part:
    """A split that the source itself has, or the whole of a source without splits.

    Attributes:
      labels: (n,) int32 classes, or float32 values.
      groups: (n,) int32, or None.
      weights: (n,) float32.
      fingerprint: of the content, wherever it lies.
      cache_key: by which decoded images and tokens are found again; the fingerprint and, for files, their times.
      first_row: row in the source of the part's first example.
      records: of images, else None.
      table: of rows, else None.
      texts: where an example is a text, else None.
    """

    labels: np.ndarray
    groups: np.ndarray | None
    weights: np.ndarray
    fingerprint: str
    cache_key: str = ""
    first_row: int = 0
    records: Records | None = None
    table: Table | None = None
    texts: Texts | None = None

    def __len__(self) -> int:
        return len(self.labels)


@runtime_checkable
class Source(Protocol):
    """A set that is random access and knows its labels and groups before any input is decoded.

    Attributes:
      part_names: splits that the source has; "train" always, and that is all of a source without splits.
      class_names: () for regression.
      group_names: () without groups.
      target: name of what is predicted.
    """

    part_names: tuple[str, ...]
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    target: str

    def part(self, name: str) -> Part:
        """One of `part_names`.

        Raises:
          UserError: something is wrong with its content.
        """
        ...

    def other(self, path: str) -> Part:
        """Test examples from another path, with the classes of this source.

        Raises:
          UserError: they are missing, or differ in what they hold.
        """
        ...
