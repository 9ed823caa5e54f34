"""Selection of classes, and of a number of training rows of each."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from data.random_streams import Stream, generator
from data.sources import Part
from plumbline import UserError, pluralize, unknown_name

Assignment = dict[str, tuple[Part, np.ndarray]]
"""For each split, the part of the source and the rows in it."""


def select(
    assigned: Assignment, class_names: Sequence[str], config: ml_collections.ConfigDict, *, seed: int
) -> tuple[Assignment, tuple[str, ...]]:
    """Selects rows according to `data.classes` and `data.examples_per_class`.

    The rows are removed after splitting, so the split of a row does not depend on the selection.

    Args:
      assigned: all splits.
      class_names: classes of the source; () for regression.
      config: `config.data`.
      seed: seed of the draw.

    Returns:
      The splits, with labels renumbered to the selected classes (-1 for other rows), and the names of these classes.

    Raises:
      UserError: the data have no classes or not those, fewer than two are named, or one has too few training rows.
    """
    if config.classes:
        assigned, class_names = _select_classes(assigned, class_names, tuple(map(str, config.classes)))
        for name, (_, rows) in assigned.items():
            if not len(rows):
                raise UserError(f"data.classes: no row of the {name} split is of {', '.join(class_names)}; name others")
    if config.examples_per_class:
        part, rows = assigned["train"]
        kept = _draw_rows(part.labels[rows], class_names, config.examples_per_class, seed)
        assigned = {**assigned, "train": (part, rows[kept])}
    return assigned, tuple(class_names)


def _select_classes(
    assigned: Assignment, class_names: Sequence[str], wanted: tuple[str, ...]
) -> tuple[Assignment, tuple[str, ...]]:
    if not class_names:
        raise UserError("data.classes: needs a classification, but the data are for regression")
    for name in wanted:
        if name not in class_names:
            raise unknown_name("data.classes", name, class_names)
        if wanted.count(name) > 1:
            raise UserError(f"data.classes: '{name}' is named twice; name each class once")
    if len(wanted) < 2:
        raise UserError(f"data.classes: '{wanted[0]}' is a single class; name at least two")
    # In the order of the source, not the order in the config.
    kept = [label for label, name in enumerate(class_names) if name in wanted]
    new = np.full(len(class_names), -1, np.int32)
    new[kept] = np.arange(len(kept), dtype=np.int32)
    # Splits of one part must keep sharing one object.
    parts = {id(part): dataclasses.replace(part, labels=new[part.labels]) for part, _ in assigned.values()}
    selected = {name: (parts[id(part)], rows[new[part.labels[rows]] >= 0]) for name, (part, rows) in assigned.items()}
    return selected, tuple(class_names[label] for label in kept)


def _draw_rows(labels: np.ndarray, class_names: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Draws sorted positions of `count` rows of each class. Draws of one seed are nested."""
    if not class_names:
        raise UserError("data.examples_per_class: needs a classification, but the data are for regression")
    there = np.bincount(labels, minlength=len(class_names))
    if there.min() < count:
        name, rows = class_names[int(there.argmin())], pluralize(int(there.min()), "training row")
        raise UserError(f"data.examples_per_class: {count} given, but class '{name}' has {rows}; give fewer, or 0")
    order = generator(seed, Stream.ROWS_OF_CLASSES).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label in range(len(class_names))]))
