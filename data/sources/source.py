"""The interface of sources of examples."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from data.input_files import LeftOut
from data.tables import Table


@runtime_checkable
class Records(Protocol):
    """Encoded images by row. Records are sent to worker processes, so they must be picklable and small."""

    def __len__(self) -> int: ...

    def read_encoded(self, row: int) -> bytes:
        """Returns the content of the image file of `row`."""
        ...

    def name(self, row: int) -> str:
        """Returns the name of an image, for messages."""
        ...


@runtime_checkable
class Texts(Protocol):
    """Texts by row."""

    def __len__(self) -> int: ...

    def text(self, row: int) -> str:
        """Returns the text of `row`.

        Raises:
          UserError: it cannot be read.
        """
        ...

    def name(self, row: int) -> str:
        """Returns the name of a text, for messages."""
        ...


@dataclasses.dataclass(kw_only=True)
class Part:
    """A split of the source itself, or a whole source without splits.

    Attributes:
      labels: (n,) int32 classes, or float64 values; those of rows without a label are not used.
      groups: (n,) int32, or None.
      weights: (n,) float32.
      fingerprint: fingerprint of the content, independent of its location.
      cache_key: key of cached images and tokens: the fingerprint and, for files, their modification times.
      first_row: row of the first example in the source.
      records: encoded images, or None.
      table: the table of the rows, or None.
      texts: the texts, or None.
      left_out: files of the source that are not used.
      labelled: (n,) bool, whether a row has a label; None if all have. Other rows belong to no split.
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
    left_out: tuple[LeftOut, ...] = ()
    labelled: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray:
        """The rows (m,) int64 that have a label."""
        return np.arange(len(self)) if self.labelled is None else np.flatnonzero(self.labelled)

    def __len__(self) -> int:
        return len(self.labels)


@runtime_checkable
class Source(Protocol):
    """A data set with random access. Labels and groups are known before any input is decoded.

    Attributes:
      part_names: splits of the source, always with "train"; ("train",) for a source without splits.
      class_names: names of the classes; () for regression.
      group_names: names of the groups; () without groups.
      target: name of the prediction target.
    """

    part_names: tuple[str, ...]
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    target: str

    def part(self, name: str) -> Part:
        """Opens one of `part_names`.

        Raises:
          UserError: its content is invalid.
        """
        ...

    def other(self, path: str) -> Part:
        """Opens test examples at another path, with the classes of this source.

        Raises:
          UserError: they do not exist, or do not fit this source.
        """
        ...
