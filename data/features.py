"""The description of one example: its kind, its shape and the prediction target."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

# Codes of a categorical column: 0 for a value not seen in training, 1 for a missing value, then the categories.
UNSEEN, MISSING, FIRST_CATEGORY = 0, 1, 2
# Token id of padding in inputs, and of positions without a prediction target in labels.
PADDING_TOKEN = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One input column of a table.

    Attributes:
      name: name in the header.
      kind: "numeric", "boolean" or "categorical".
      categories: sorted values seen in training; () unless categorical.
      has_missing: whether training rows have missing values. Such numeric columns get an indicator as further input.
      offset: subtracted from the numbers, in float64, before they become float32; 0 unless float32 would merge values.
      unit: what is written before or after each number, such as "$" or "%"; "" for nothing.
      decimal: sign before the decimals of numbers in texts: "." or ","; "" if the config says it.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    has_missing: bool = False
    offset: float = 0.0
    unit: str = ""
    decimal: str = ""

    def restore(self, values: np.ndarray) -> np.ndarray:
        """Returns raw inputs of a numeric column as they are in the table: float64 with an offset, else unchanged."""
        return values.astype(np.float64) + self.offset if self.offset else values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """Description of one example.

    Attributes:
      kind: "image", "table" or "text".
      shape: shape of one raw input. Images: (H, W, C) uint8. Tables: (F,) float32, the raw numeric and boolean columns
        with NaN for missing values, then one code for each categorical column. Texts: (L,) int32 token ids, padded with
        `PADDING_TOKEN`.
      dtype: "uint8", "float32" or "int32".
      task: "classification", "regression" or, for texts, "language": a token is predicted at each position.
      class_names: names of the classes; () for regression.
      group_names: names of the groups; () without groups.
      columns: columns of a table in input order: numeric and boolean first, then categorical.
      target: name of the prediction target.
      tokenizer: content of the tokenizer.json of texts.
      width: number of columns of a training file without a header; 0 for other data, and in runs of earlier versions.
      target_offset: subtracted from the target of a regression before it becomes float32, as `Column.offset`.
      vocabulary: number of tokens of the tokenizer; 0 unless the inputs are texts.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    task: str
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    target: str = "label"
    tokenizer: str = dataclasses.field(default="", repr=False)
    vocabulary: int = 0
    target_offset: float = 0.0
    width: int = 0

    @property
    def num_outputs(self) -> int:
        """Model outputs for one example, or for one position of it: one per class or token, or 1."""
        return {"classification": len(self.class_names), "language": self.vocabulary}.get(self.task, 1)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of the label of one example."""
        return self.shape if self.task == "language" else ()

    @property
    def label_dtype(self) -> str:
        """Type of labels: "float32" for regression, else "int32"."""
        return "float32" if self.task == "regression" else "int32"

    @property
    def numeric_columns(self) -> tuple[Column, ...]:
        """The numeric and boolean columns, in input order."""
        return tuple(column for column in self.columns if column.kind != "categorical")

    @property
    def categories(self) -> tuple[int, ...]:
        """Number of codes of each categorical column; for texts the vocabulary."""
        if self.kind == "text":
            return (self.vocabulary,)
        return tuple(FIRST_CATEGORY + len(column.categories) for column in self.columns if column.kind == "categorical")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one preprocessed input. Tables get an indicator for each numeric column with missing values."""
        if self.kind != "table":
            return self.shape
        return (len(self.columns) + sum(column.has_missing for column in self.numeric_columns),)

    def to_json(self) -> dict[str, Any]:
        """Returns a dict of plain values for `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Features":
        """Restores features from `to_json`, also if the dict was stored as JSON."""
        columns = (
            Column(**{**column, "categories": tuple(column["categories"])}) for column in fields.get("columns", ())
        )
        listed = {name: tuple(fields[name]) for name in ("shape", "class_names", "group_names") if name in fields}
        return cls(**{**fields, **listed, "columns": tuple(columns)})
