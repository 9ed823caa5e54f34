"""Folds of cross-validation, from scikit-learn's splitters: training rows and held-out rows."""

from collections.abc import Sequence

import numpy as np
from sklearn import model_selection

from plumbline import UserError, pluralize, unknown_name

KINDS = ("stratified", "shuffled", "group", "leave_one_group_out")
Fold = tuple[np.ndarray, np.ndarray]
"""Training rows (n,) and held-out rows (m,): int64, sorted."""


def split(
    labels: np.ndarray,
    groups: np.ndarray | None,
    *,
    count: int,
    kind: str,
    seed: int,
    class_names: Sequence[str] = (),
    aside: str = "",
) -> list[Fold]:
    """Splits rows into folds. Every row is held out exactly once.

    "group" shuffles the groups and gives each fold an equal number of them (`GroupKFold`). `StratifiedGroupKFold` would
    also balance the classes, but it sorts the groups: for most data sets it gives the same folds for every seed, so
    repeats over seeds would show no spread.

    Args:
      labels: (N,) classes for "stratified"; for other kinds only their number is used.
      groups: (N,) integers; used by "group" and "leave_one_group_out" only.
      count: number of folds; ignored by "leave_one_group_out", which makes one fold per group.
      kind: "stratified" (equal class shares), "shuffled" (for regression), "group" (whole groups are held out) or
        "leave_one_group_out" (one group at a time, in the order of their numbers).
      seed: seed of the shuffling, 0 to 2**32 - 1.
      class_names: names of the classes, for messages.
      aside: remark for messages about too few groups.

    Returns:
      The training rows and the held-out rows of each fold.

    Raises:
      UserError: there are fewer than two folds, more folds than rows, groups or rows of the smallest class, or no
        groups.
    """
    if kind not in KINDS:
        raise unknown_name("folds", kind, KINDS)
    rows = np.arange(len(labels))
    if kind == "leave_one_group_out":
        _check_groups(groups, 2, aside)
        return list(model_selection.LeaveOneGroupOut().split(rows, labels, groups))
    if count < 2:
        raise UserError(f"--folds: {count} given; cross-validation takes at least 2")
    if kind == "group":
        _check_groups(groups, count, aside)
        splitter = model_selection.GroupKFold(count, shuffle=True, random_state=seed)
        return list(splitter.split(rows, labels, groups))
    if kind == "stratified":
        _check_classes(labels, count, class_names)
        splitter = model_selection.StratifiedKFold(count, shuffle=True, random_state=seed)
    else:
        if count > len(labels):
            raise UserError(f"--folds: {count} given, but there are {len(labels)} rows; give fewer folds")
        splitter = model_selection.KFold(count, shuffle=True, random_state=seed)
    return list(splitter.split(rows, labels))


def _check_groups(groups: np.ndarray | None, least: int, aside: str) -> None:
    if groups is None:
        raise UserError("--groups: the source has no groups; omit the flag, or set data.group to a column of the table")
    found = len(np.unique(groups))
    aside = f" ({aside})" if aside else ""
    if found < 2:
        raise UserError(f"--groups: all rows belong to one group{aside}; choose a column with several groups")
    if found < least:
        raise UserError(f"--folds: {least} given, but there are {found} groups{aside}; give at most {found}")


def _check_classes(labels: np.ndarray, count: int, class_names: Sequence[str]) -> None:
    present, rows = np.unique(labels, return_counts=True)
    smallest = int(rows.argmin())
    if rows[smallest] < count:
        label = int(present[smallest])
        name = class_names[label] if class_names else label
        raise UserError(
            f"--folds: {count} given, but class '{name}' has {pluralize(int(rows[smallest]), 'row')}; give fewer "
            "folds, or exclude that class with data.classes"
        )
