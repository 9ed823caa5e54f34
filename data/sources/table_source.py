"""Sources of tables: one table, and possibly another one for the test split."""

import dataclasses
from collections.abc import Callable

import ml_collections
import numpy as np

from data import table_columns, tables
from data.sources.source import Part
from data.tables import Table
from data.written_numbers import are_spelled
from plumbline import UserError, unknown_name

TASKS = ("auto", "classification", "regression")
UNLABELLED = ("error", "drop")
# A numeric target with more distinct values is a regression target; see the comment of `data.task` in the config.
_MOST_CLASSES = 20


@dataclasses.dataclass(kw_only=True)
class TableSource:
    """Rows of a table, or texts in one of its columns; see `data.sources.source.Source`.

    Attributes:
      table: table of the training rows, and of the test rows if no other file has them.
      config: `config.data`.
      target: name of the target column.
      read_other: reads a table of test rows from a path; None if the source has no paths.
      label_names: names of the classes 0, 1, ..., if the source gives them.
    """

    table: Table
    config: ml_collections.ConfigDict
    target: str
    read_other: Callable[[str], Table] | None = None
    label_names: tuple[str, ...] = ()

    part_names = ("train",)

    def __post_init__(self):
        config = self.config
        for field, choices in (("task", TASKS), ("unlabelled", UNLABELLED)):
            if config[field] not in choices:
                raise unknown_name(f"data.{field}", config[field], choices)
        for field in ("ignore", "categorical"):
            for name in config[field]:
                tables.column(self.table, name, f"data.{field}")
        if not self.target:
            columns = ", ".join(self.table.named)
            raise UserError(f"data.target: not set; give the column to predict, one of {columns}")
        self.target = tables.clean_name(self.target)
        if self.target in map(tables.clean_name, config.ignore):
            raise UserError(f"data.ignore: '{self.target}' is the target; remove it from data.ignore")
        if config.text:
            self._check_text_column(config.text)
        target = tables.column(self.table, self.target, "data.target")
        self._numeric = tables.is_numeric(self.table, target)
        if not self.label_names and config.task != "classification":
            table_columns.check_target(self.table, self.target, config)
        self._labelled(self.table)
        self.task = self._infer_task(target)
        self.class_names = self._infer_classes(target)
        self.group_names = ()
        if config.group:
            self.group_names = tables.sorted_values(self._group_texts(self.table))

    @property
    def left_out(self) -> dict[str, str]:
        """Columns that are not inputs, with the reason."""
        fields = {self.target: "data.target", self.config.group: "data.group", self.config.weight: "data.weight"}
        fields.pop("", None)
        return {tables.clean_name(name): reason for name, reason in fields.items()} | {
            tables.clean_name(name): "data.ignore" for name in self.config.ignore
        }

    def part(self, name: str) -> Part:
        """Returns all rows of the table; `name` is "train"."""
        return self._part(self.table)

    def other(self, path: str) -> Part:
        """Reads the rows of another file of the same type."""
        if self.read_other is None:
            raise UserError(f"data.test: '{path}' is not supported for {self.config.source}; write 'N percent'")
        table = self.read_other(path)
        tables.check_width(table, len(self.table.columns), self.target, needs_target=True)
        tables.column(table, self.target, "data.target")
        if self.config.group:
            # New groups are appended, so that existing numbers do not change.
            new = tables.sorted_values(set(self._group_texts(table)) - set(self.group_names))
            self.group_names = (*self.group_names, *new)
        return self._part(table)

    def _part(self, table: Table) -> Part:
        groups = None
        if self.config.group:
            numbered = {name: index for index, name in enumerate(self.group_names)}
            groups = np.array([numbered[text] for text in self._group_texts(table)], np.int32)
        labelled = self._labelled(table)
        return Part(
            labels=self._labels(table, labelled),
            labelled=None if labelled.all() else labelled,
            groups=groups,
            weights=self._weights(table),
            fingerprint=table.fingerprint,
            table=table,
            texts=TableTexts(table, self.config.text) if self.config.text else None,
        )

    def _labelled(self, table: Table) -> np.ndarray:
        """Returns (n,) bool: which rows have a label. All must, unless the config says that others are left out."""
        target = tables.column(table, self.target, "data.target")
        drop = self.config.unlabelled == "drop"
        if not drop:
            remedy = ", or leave such rows out with data.unlabelled='drop'"
            tables.require_values(table, self.target, target, remedy=remedy)
        labelled = ~tables.is_missing(table, target)
        if not labelled.any():
            raise UserError(
                f"data.target: no row of {table.name} has a value in '{self.target}'; choose another column"
            )
        return labelled

    def _check_text_column(self, name: str) -> None:
        tables.column(self.table, name, "data.text")
        for field in ("target", "group", "weight"):
            if name == self.config[field]:
                raise UserError(f"data.text: '{name}' is data.{field} as well; name another column")
        if name in self.config.ignore:
            raise UserError(f"data.ignore: '{name}' is data.text; remove it from data.ignore")

    def _infer_task(self, target) -> str:
        if self.config.task != "auto":
            if self.config.task == "regression" and not self._numeric:
                first = tables.texts(target.drop_null()[:1])[0]
                raise UserError(
                    f"data.task: column '{self.target}' holds '{first}', not a number; choose 'classification' or "
                    "another data.target"
                )
            return self.config.task
        if self.label_names or not self._numeric:
            return "classification"
        values = self._distinct(target)
        quantity = len(values) > _MOST_CLASSES or not np.array_equal(values, np.round(values))
        return "regression" if quantity else "classification"

    def _infer_classes(self, target) -> tuple[str, ...]:
        if self.task == "regression":
            distinct = tuple(str(value) for value in self._distinct(target)[:2])
        else:
            found = (label for label in self._label_texts(self.table) if label is not None)
            distinct = self.label_names or tables.sorted_values(found)
        if len(distinct) < 2:
            raise UserError(
                f"data.target: column '{self.target}' of {self.table.name} is '{distinct[0]}' in every row, so there "
                "is nothing to learn; choose another column"
            )
        return () if self.task == "regression" else distinct

    def _distinct(self, target) -> np.ndarray:
        """Returns the distinct numbers of the target, sorted."""
        values = np.unique(tables.numbers(self.table, self.target, target))
        return values[~np.isnan(values)]

    def _labels(self, table: Table, labelled: np.ndarray) -> np.ndarray:
        """Returns (n,) labels: int32 classes, -1 where there is none, or float64 values, NaN where there is none."""
        target = tables.column(table, self.target, "data.target")
        if self.task == "regression":
            return tables.numbers(table, self.target, target)
        numbered = {name: index for index, name in enumerate(self.class_names)}
        found = self._label_texts(table)
        labels = np.array([numbered.get(text, -1) for text in found], np.int32)
        strange = labelled & (labels < 0)
        if strange.any():
            row = int(np.argmax(strange))
            raise UserError(
                f"{table.place(row, self.target)} holds the label '{found[row]}', which no training row has; known: "
                f"{', '.join(self.class_names[:20])}; correct it or remove the row"
            )
        return labels

    def _label_texts(self, table: Table) -> list[str | None]:
        """Returns labels as class names, with numbers in one spelling and None for missing ones."""
        target = tables.column(table, self.target, "data.target")
        if self.label_names:
            return [self.label_names[index] for index in target.to_pylist()]
        return tables.labels(table, self.target, numeric=self._numeric)

    def _weights(self, table: Table) -> np.ndarray:
        name = self.config.weight
        if not name:
            return np.ones(table.num_rows, np.float32)
        array = tables.column(table, name, "data.weight")
        tables.require_values(table, name, array)
        weights = tables.numbers(table, name, array)
        if (weights < 0).any():
            row = int(np.argmax(weights < 0))
            raise UserError(f"{table.place(row, name)} has the weight {weights[row]:g}; give at least 0")
        return weights.astype(np.float32)

    def _group_texts(self, table: Table) -> list[str]:
        array = tables.column(table, self.config.group, "data.group")
        tables.require_values(table, self.config.group, array)
        numeric = are_spelled(self.group_names) if self.group_names else tables.is_numeric(table, array)
        return tables.spelled_texts(table, array) if numeric else tables.texts(array)


class TableTexts:
    """Texts in a column of a table; see `data.sources.source.Texts`.

    Args:
      table: table with the column.
      name: name of the column.

    Raises:
      UserError: there is no such column, it does not hold texts, or one is missing.
    """

    def __init__(self, table: Table, name: str):
        array = tables.column(table, name, "data.text")
        tables.require_values(table, name, array)
        if not tables.is_text(array):
            raise UserError(f"data.text: column '{name}' of {table.name} is of type {array.type}, not text")
        self._table, self._name, self._texts = table, name, array.to_pylist()

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, row: int) -> str:
        """Returns the text without surrounding white space."""
        return self._texts[row]

    def name(self, row: int) -> str:
        """Returns file, line and column."""
        return self._table.place(row, self._name)
