"""Which classes are kept, and how many training rows of each."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from data.random_streams import Stream, generator
from data.sources import Part
from plumbline import UserError, counted, unknown_name

Assigned = dict[str, tuple[Part, np.ndarray]]
"""The part of the source, and the rows of it, that make up each split."""


def select(
    assigned: Assigned, class_names: Sequence[str], config: ml_collections.ConfigDict, *, seed: int
) -> tuple[Assigned, tuple[str, ...]]:
    """Leaves out what `data.classes` and `data.examples_per_class` do not ask for.

    Rows are left out of splits that were made before, so that what a row belongs to does not hang on the other rows
    that are kept.

    Args:
      assigned: all splits.
      class_names: of the source; () for regression.
      config: `config.data`.
      seed: of the draw.

    Returns:
      The splits, of parts whose labels count the classes that are kept (of other rows -1), and the names of those.

    Raises:
      UserError: the set has no classes, or not those; too few are named; or one has too few training rows.
    """
    if config.classes:
        assigned, class_names = _of_classes(assigned, class_names, tuple(map(str, config.classes)))
        for name, (_, rows) in assigned.items():
            if not len(rows):
                raise UserError(f"data.classes: no row of the {name} split is of {', '.join(class_names)}; name others")
    if config.examples_per_class:
        part, rows = assigned["train"]
        kept = _few(part.labels[rows], class_names, config.examples_per_class, seed)
        assigned = {**assigned, "train": (part, rows[kept])}
    return assigned, tuple(class_names)


def _of_classes(
    assigned: Assigned, class_names: Sequence[str], wanted: tuple[str, ...]
) -> tuple[Assigned, tuple[str, ...]]:
    if not class_names:
        raise UserError("data.classes: is for classification, but the data are for regression")
    for name in wanted:
        if name not in class_names:
            raise unknown_name("data.classes", name, class_names)
        if wanted.count(name) > 1:
            raise UserError(f"data.classes: '{name}' is there twice; name each class once")
    if len(wanted) < 2:
        raise UserError(f"data.classes: '{wanted[0]}' alone leaves nothing to tell apart; name two classes at least")
    # In the order of the source, whatever the order they are named in.
    kept = [label for label, name in enumerate(class_names) if name in wanted]
    new = np.full(len(class_names), -1, np.int32)
    new[kept] = np.arange(len(kept), dtype=np.int32)
    # A part that makes up several splits stays one.
    parts = {id(part): dataclasses.replace(part, labels=new[part.labels]) for part, _ in assigned.values()}
    selected = {name: (parts[id(part)], rows[new[part.labels[rows]] >= 0]) for name, (part, rows) in assigned.items()}
    return selected, tuple(class_names[label] for label in kept)


def _few(labels: np.ndarray, class_names: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Positions (sorted) of so many rows of each class; fewer of the same seed are among more."""
    if not class_names:
        raise UserError("data.examples_per_class: is for classification, but the data are for regression")
    there = np.bincount(labels, minlength=len(class_names))
    if there.min() < count:
        name, rows = class_names[int(there.argmin())], counted(int(there.min()), "training row")
        raise UserError(f"data.examples_per_class: {count} given, but class '{name}' has {rows}; give fewer, or 0")
    order = generator(seed, Stream.ROWS_OF_CLASSES).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label in range(len(class_names))]))
