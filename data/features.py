"""What one example of a set is: its kind, its shape and what is predicted from it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

# Codes of a categorical column: slot 0 is a value that training never saw, slot 1 a missing one, then the categories.
UNSEEN, MISSING, FIRST_CATEGORY = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One input column of a table.

    Attributes:
      name: as in the header.
      kind: "numeric", "boolean" or "categorical".
      categories: the values seen in training, sorted; () unless categorical.
      has_missing: whether a value is missing in a training row; such numeric columns get an indicator as input.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    has_missing: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """What one example is.

    Attributes:
      kind: "image" or "table".
      shape: of one raw input: (H, W, C) in uint8, or (F,) in float32: the numeric and boolean columns raw, with NaN for
        missing, then one code for each categorical column.
      dtype: "uint8" or "float32".
      task: "classification" or "regression".
      class_names: () for regression.
      group_names: () without groups.
      columns: of a table, in the order of the inputs: numeric and boolean first, then categorical.
      target: name of what is predicted.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    task: str
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    target: str = "label"

    @property
    def num_outputs(self) -> int:
        """Numbers that a model gives for one example: one for each class, or 1."""
        return len(self.class_names) if self.task == "classification" else 1

    @property
    def numeric_columns(self) -> tuple[Column, ...]:
        """The numeric and boolean columns, in input order."""
        return tuple(column for column in self.columns if column.kind != "categorical")

    @property
    def categories(self) -> tuple[int, ...]:
        """Slots of each categorical column: unseen, missing, then its categories."""
        return tuple(FIRST_CATEGORY + len(column.categories) for column in self.columns if column.kind == "categorical")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input after preprocessing: tables gain an indicator for each numeric column with gaps."""
        if self.kind == "image":
            return self.shape
        return (len(self.columns) + sum(column.has_missing for column in self.numeric_columns),)

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Features":
        """The features that `to_json` wrote, also after a way through a JSON file."""
        columns = (
            Column(**{**column, "categories": tuple(column["categories"])}) for column in fields.get("columns", ())
        )
        listed = {name: tuple(fields[name]) for name in ("shape", "class_names", "group_names") if name in fields}
        return cls(**{**fields, **listed, "columns": tuple(columns)})
