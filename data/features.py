"""What one example of a set is: its kind, its shape and what is predicted from it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

# Codes of a categorical column: slot 0 is a value that training never saw, slot 1 a missing one, then the categories.
UNSEEN, MISSING, FIRST_CATEGORY = 0, 1, 2
# What stands, in inputs and in labels, where a text has no token, or where none is asked for.
PADDING_TOKEN = -1


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
      kind: "image", "table" or "text".
      shape: of one raw input: (H, W, C) in uint8; or (F,) in float32: the numeric and boolean columns raw, with NaN for
        missing, then one code for each categorical column; or (L,) in int32: token ids, with `PADDING_TOKEN` at the
        end.
      dtype: "uint8", "float32" or "int32".
      task: "classification", "regression" or, of text, "language": what is asked is a token at each position.
      class_names: () for regression.
      group_names: () without groups.
      columns: of a table, in the order of the inputs: numeric and boolean first, then categorical.
      target: name of what is predicted.
      tokenizer: of text, the content of its tokenizer.json.
      vocabulary: tokens that it has; 0 unless the inputs are text.
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

    @property
    def num_outputs(self) -> int:
        """Numbers that a model gives for one example, or for one position of it: for each class or token, or 1."""
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
        """Slots of each categorical column: unseen, missing, then its categories; of text, its vocabulary."""
        if self.kind == "text":
            return (self.vocabulary,)
        return tuple(FIRST_CATEGORY + len(column.categories) for column in self.columns if column.kind == "categorical")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input after preprocessing: tables gain an indicator for each numeric column with gaps."""
        if self.kind != "table":
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
