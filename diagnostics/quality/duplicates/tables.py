"""Rows of a table whose categories are equal and whose numbers are nearly equal."""

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from data.features import UNSEEN, Features
from diagnostics.examples import Examples
from diagnostics.quality.chance import estimate_chance_distance
from diagnostics.quality.duplicates.near_pairs import NearPairs

FARTHEST = 0.01
"""Greatest difference of any number, in standard deviations of its column, in any set."""

# Rows that the chance distance is estimated from.
_SAMPLE = 2000


def is_known(features: Features, rows: np.ndarray) -> np.ndarray:
    """Returns which rows (n,) of inputs (n, F) can be compared: categories unseen in training share one code."""
    return (rows[:, len(features.numeric_columns) :] != UNSEEN).all(axis=1)


def find_pairs(examples: Examples, positions: np.ndarray) -> NearPairs:
    """Finds pairs of rows that are nearly equal.

    Their categories are equal, the same values are missing, and no number differs by more than a threshold, in standard
    deviations of its column: the distance expected of the nearest two of as many different rows
    (`estimate_chance_distance`), and at most `FARTHEST`. Among many rows of few or coarse columns, where near rows are
    common, there are no such pairs.

    Args:
      examples: rows of a table.
      positions: (n,) to compare, no two of which are equal.
    """
    numbers, keys = _read(examples, positions)
    parts = _group(keys)
    sampled = np.zeros(len(positions), bool)
    sampled[np.linspace(0, max(len(positions) - 1, 0), min(_SAMPLE, len(positions))).astype(np.int64)] = True
    nearest = [np.zeros((0, 2))]
    for part in parts:
        if len(part) > 2 and (own := part[sampled[part]]).size:
            found, _ = cKDTree(numbers[part]).query(numbers[own], k=3, p=np.inf)
            nearest.append(found[:, 1:])
    threshold = min(FARTHEST, estimate_chance_distance(np.concatenate(nearest), len(positions)))
    pairs = [np.zeros((0, 2), np.int64)]
    for part in parts if numbers.shape[1] else ():
        found = cKDTree(numbers[part]).query_pairs(threshold, p=np.inf, output_type="ndarray")
        pairs.append(part[found])
    pairs = np.concatenate(pairs)
    distances = np.abs(numbers[pairs[:, 0]] - numbers[pairs[:, 1]]).max(axis=1, initial=0)
    return NearPairs(np.sort(positions[pairs], axis=1), distances, threshold)


def _read(examples: Examples, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers (n, f) in standard deviations, and for each row the bytes (n,) of all that has to be equal."""
    count = len(examples.features.numeric_columns)
    rows = np.concatenate([np.zeros((0, *examples.features.shape), np.float32), *_blocks(examples, positions)])
    numbers = rows[:, :count].astype(np.float64)
    missing = np.isnan(numbers)
    filled = np.where(missing, 0, numbers)
    present = np.maximum((~missing).sum(axis=0), 1)
    centred = np.where(missing, 0, filled - filled.sum(axis=0) / present)
    deviation = np.sqrt(np.square(centred).sum(axis=0) / present)
    equal = np.ascontiguousarray(np.concatenate([missing.astype(np.float32), rows[:, count:]], axis=1))
    return centred / np.where(deviation > 0, deviation, 1), equal.view(f"V{equal.itemsize * equal.shape[1]}").ravel()


def _blocks(examples: Examples, positions: np.ndarray) -> Iterator[np.ndarray]:
    return (rows for _, rows in examples.blocks(positions))


def _group(keys: np.ndarray) -> list[np.ndarray]:
    """Groups rows with equal keys; groups of one are left out."""
    _, index = np.unique(keys, return_inverse=True)
    order = np.argsort(index, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(index[order])) + 1)
    return [part for part in parts if len(part) > 1]
