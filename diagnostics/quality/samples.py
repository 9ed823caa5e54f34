"""Samples of a split or a reference set, for comparison with each other."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from diagnostics.examples import Examples
from diagnostics.quality.reference import MOST_ROWS, Reference

# Rows that are read at once.
_READ_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A sample of examples.

    Attributes:
      name: of the split, or "reference".
      count: n, the examples in the sample.
      blocks: their raw inputs, some at a time; can be read once.
      classes: (n,) of these rows, or None.
      labels: (N,) of all rows that the sample is taken from, or None.
      positions: (n,) in the `Examples`; None for a reference.
      total: N.
    """

    name: str
    count: int
    blocks: Iterable[np.ndarray]
    classes: np.ndarray | None
    labels: np.ndarray | None
    positions: np.ndarray | None
    total: int


def take_split(examples: Examples, split: str, seed: int) -> Sample:
    """Samples at most `MOST_ROWS` rows of a split; images that cannot be decoded are left out."""
    positions = examples.positions(split)
    total, labels = len(positions), examples.labels[positions]
    if len(positions) > MOST_ROWS:
        positions = np.sort(np.random.default_rng(seed).choice(positions, MOST_ROWS, replace=False))
    positions = positions[examples.sound(positions)]
    return Sample(
        name=split,
        count=len(positions),
        blocks=(inputs for _, inputs in examples.blocks(positions, _READ_AT_ONCE)),
        classes=examples.labels[positions] if examples.features.task == "classification" else None,
        labels=labels,
        positions=positions,
        total=total,
    )


def take_reference(reference: Reference) -> Sample:
    """Returns the rows of a reference, which is a sample already."""
    inputs = reference.inputs
    return Sample(
        name="reference",
        count=len(inputs),
        blocks=(inputs[start : start + _READ_AT_ONCE] for start in range(0, len(inputs), _READ_AT_ONCE)),
        classes=None,
        labels=reference.labels,
        positions=None,
        total=reference.total,
    )
