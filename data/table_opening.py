"""How a table was read, in lines for a user."""

from collections.abc import Collection, Mapping

import numpy as np

from data import table_columns, tables
from data.features import Features
from data.selection import Assignment
from data.table_columns import Inferred
from plumbline import pluralize

# Characters of names in one line of the opening, and remarks.
_LINE, _REMARKS, _NO_LIMIT = 300, 5, 10**9
_KINDS = {"numeric": "numeric", "boolean": "true or false", "categorical": "categorical (categories)"}


def describe(
    features: Features, inferred: Inferred, assigned: Assignment, encoded: Mapping[int, np.ndarray]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Describes task, target and columns.

    Args:
      features: description of one row.
      inferred: how the columns are read.
      assigned: all splits.
      encoded: the encoded inputs (n, F) of each part, by its `id`.

    Returns:
      Lines, at most a screenful of them; and the same with all columns that are left out, and all notes.
    """
    train, _ = assigned["train"]
    goal = f"{features.task} of '{features.target}'"
    if features.class_names:
        goal += f" ({len(features.class_names)} classes: {_shorten(features.class_names, 100)})"
    lines = [f"{train.table.name}: {pluralize(len(train), 'row')}; {goal}"]
    kinds = {kind: [] for kind in _KINDS}
    for column in inferred.columns:
        detail = f" ({len(column.categories)})" if column.kind == "categorical" else f" in {column.unit}"
        kinds[column.kind].append(column.name + (detail if column.kind == "categorical" or column.unit else ""))
    lines += [f"  {len(names)} {_KINDS[kind]}: {_shorten(names)}" for kind, names in kinds.items() if names]
    remarks = list(inferred.remarks)
    parts = {id(part): part for part, _ in assigned.values()}
    for part in parts.values():
        if part.labelled is not None:
            remarks.append(
                f"{pluralize(len(part) - len(part.rows), 'row')} of {part.table.name} without a label left out"
            )
        if part is not train:
            remarks += table_columns.describe_unseen(part.table, inferred.columns, encoded[id(part)])
    left_out = [f"{name or 'unnamed'} ({reason})" for name, reason in _all_left_out(train.table, inferred).items()]
    short, full = (
        [f"  {len(left_out)} left out: {_shorten(left_out, limit)}"] if left_out else [] for limit in (_LINE, _NO_LIMIT)
    )
    notes = [f"  note: {remark}" for remark in remarks]
    more = [f"  and {len(remarks) - _REMARKS} more notes of this kind"] if len(remarks) > _REMARKS else []
    return (*lines, *short, *notes[:_REMARKS], *more), (*lines, *full, *notes)


def _all_left_out(table: tables.Table, inferred: Inferred) -> dict[str, str]:
    """Why columns are no inputs; a run that is resumed stores its inputs only, so the reasons are found again."""
    left_out, inputs = dict(inferred.left_out), {column.name for column in inferred.columns}
    for name in table.columns:
        if name not in inputs and name not in left_out:
            unnamed = "an index without a name" if name.startswith("__") else "no name"
            is_unnamed = tables.is_unnamed(name) or name.startswith("__index_level_")
            left_out[name] = unnamed if is_unnamed else "no values in the training rows"
    return left_out


def _shorten(names: Collection[str], limit: int = _LINE) -> str:
    """Joins names, as many as fit."""
    shown, length = [], 0
    for name in names:
        length += len(name) + 2
        if length > limit and shown:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)
