"""Folds of cross-validation: which rows train and which are held out, as scikit-learn's splitters deal them."""

from collections.abc import Sequence

import numpy as np
from sklearn import model_selection

from plumbline import UserError, counted, unknown_name

KINDS = ("stratified", "shuffled", "group", "leave_one_group_out")
Fold = tuple[np.ndarray, np.ndarray]
"""Rows that train (n,) and rows that are held out (m,): int64, sorted."""


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
    """Deals rows into folds. Every row is held out exactly once.

    "group" shuffles the groups and deals them out by number (`GroupKFold`). `StratifiedGroupKFold` would level the
    classes, but it ranks the groups: whatever the seed, most sets get the same folds, and repeating them over seeds
    would show no spread.

    Args:
      labels: (N,) classes for "stratified"; else only their number counts.
      groups: (N,) integers; only "group" and "leave_one_group_out" look at them.
      count: number of folds; "leave_one_group_out" has as many as there are groups, and takes no notice of it.
      kind: "stratified" (each class is spread evenly), "shuffled" (for regression), "group" (whole groups are held out)
        or "leave_one_group_out" (one group at a time, in the order of their numbers).
      seed: of the shuffling, 0 to 2**32 - 1.
      class_names: for messages.
      aside: for messages about too few groups, where there are others.

    Returns:
      For each fold the rows that train and the rows that are held out.

    Raises:
      UserError: fewer than two folds, more than the smallest class has rows, more than rows or groups, or no groups.
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
        raise UserError("--groups: the source has no groups; leave it out, or name a table's column that has them")
    found = len(np.unique(groups))
    aside = f" ({aside})" if aside else ""
    if found < 2:
        raise UserError(f"--groups: all rows are of one group{aside}, so none can be held out whole; choose others")
    if found < least:
        raise UserError(f"--folds: {least} given, but there are {found} groups{aside}; give at most {found}")


def _check_classes(labels: np.ndarray, count: int, class_names: Sequence[str]) -> None:
    present, rows = np.unique(labels, return_counts=True)
    smallest = int(rows.argmin())
    if rows[smallest] < count:
        label = int(present[smallest])
        name = class_names[label] if class_names else label
        raise UserError(
            f"--folds: {count} given, but class '{name}' has {counted(int(rows[smallest]), 'row')}; give fewer folds, "
            "or leave that class out"
        )
