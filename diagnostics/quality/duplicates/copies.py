"""The equal and nearly equal examples of a set, and what all findings on them share."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from diagnostics.examples import Examples
from diagnostics.finding import Histogram, Rows
from diagnostics.quality.duplicates import images, tables, texts
from diagnostics.quality.duplicates.near_pairs import NearPairs
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

Embed = Callable[[np.ndarray], np.ndarray]
"""From positions (n,) to embeddings (n, d) by a trained model."""

# Clusters that are listed.
_LISTED = 50
_LEFT_OUT = {"image": "show too little to be compared", "text": "are too short to be compared"}
_DISTANCES = {
    "image": "share of the contrast that differs",
    "table": "greatest difference of a number (standard deviations)",
    "text": "share of runs of three words that only one text has",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """The equal and nearly equal examples of a set.

    Attributes:
      examples: of the set.
      exact: positions of each group of two or more equal examples.
      near: pairs of nearly equal examples, one for each pair of different inputs.
      pairs: for each near pair, the positions of all examples equal to the first and to the second.
    """

    examples: Examples
    exact: list[np.ndarray]
    near: NearPairs
    pairs: list[tuple[np.ndarray, np.ndarray]]

    def by_split(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Sorts positions by split; ascending in each."""
        splits = self.examples.split[positions]
        return {str(name): np.sort(positions[splits == name]) for name in dict.fromkeys(splits.tolist())}

    def droppable(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns those of some positions that a training may leave out, sorted: none of the test split."""
        positions = np.unique(np.asarray(positions, np.int64))
        return positions[self.examples.split[positions] != "test"]

    def has_same_label(self, one: int, other: int) -> bool:
        """Whether two examples have the same label; labels of a regression may differ a little."""
        labels = self.examples.labels
        if self.examples.features.task == "classification":
            return bool(labels[one] == labels[other])
        limit = THRESHOLDS.same_label * float(np.std(labels))
        return bool(abs(float(labels[one]) - float(labels[other])) <= limit)

    def describe_left_out(self) -> str:
        """Says how many examples could not be compared; "" if all could."""
        if not self.near.left_out:
            return ""
        why = _LEFT_OUT[self.examples.features.kind]
        return f" {pluralize(self.near.left_out, 'example')} left out, which {why}."

    def histogram(self, values: dict[str, np.ndarray]) -> Histogram:
        """Plots distances (p,) of pairs by name, with the threshold."""
        return Histogram(
            title="Distances of the pairs",
            label=_DISTANCES[self.examples.features.kind],
            values=values,
            marks={"threshold": self.near.threshold},
        )


def find_copies(examples: Examples, embed: Embed | None = None) -> Copies:
    """Looks for equal and nearly equal examples.

    Equal are images with the same pixels, rows with the same values, and texts that differ in white space only. Near
    pairs are found by `images`, `tables` and `texts`. Corrupt images, and rows with a category that training never saw,
    are left out.

    Args:
      examples: of the set.
      embed: gives embeddings; for images and texts the nearest pairs by embedding are compared as well.
    """
    keys = _keys(examples)
    known = np.flatnonzero(keys >= 0)
    _, first = np.unique(keys[known], return_index=True)
    once = known[first]
    kind = examples.features.kind
    if kind == "table":
        near = tables.find_pairs(examples, once)
    else:
        near = (images if kind == "image" else texts).find_pairs(examples, once, embed)
    order = np.argsort(keys[known], kind="stable")
    # The positions of each key; keys count up from 0.
    members = np.split(known[order], np.flatnonzero(np.diff(keys[known][order])) + 1)
    return Copies(
        examples=examples,
        exact=[own for own in members if len(own) > 1],
        near=near,
        pairs=[(members[one], members[other]) for one, other in keys[near.pairs].tolist()],
    )


def list_clusters(title: str, clusters: Sequence[np.ndarray], notes: Sequence[str] = ()) -> Rows:
    """Lists the first clusters of positions, with a note on each."""
    return Rows(
        title=title,
        clusters=tuple(tuple(own.tolist()) for own in clusters[:_LISTED]),
        notes=tuple(notes[:_LISTED]),
        total=len(clusters),
    )


def _keys(examples: Examples) -> np.ndarray:
    """(N,) a number for each different input, counting up from 0; -1 for inputs that cannot be compared."""
    features, positions = examples.features, np.arange(len(examples))
    numbers: dict[bytes, int] = {}
    keys = np.full(len(examples), -1, np.int64)
    if features.kind == "text":
        for position in positions.tolist():
            content = " ".join(examples.text(position).split()).encode()
            keys[position] = numbers.setdefault(_digest(content), len(numbers))
        return keys
    for own, inputs in examples.blocks(positions):
        sound = np.ones(len(own), bool)
        if features.kind == "table":
            sound = tables.is_known(features, inputs)
            # All missing values are equal, and so are 0 and -0.
            inputs = np.where(np.isnan(inputs), np.float32(np.nan), inputs + np.float32(0))
        else:
            blank = ~inputs.reshape(len(own), -1).any(axis=1)
            if blank.any():
                sound[blank] = examples.sound(own[blank])
        for position, each in zip(own[sound].tolist(), inputs[sound], strict=True):
            keys[position] = numbers.setdefault(_digest(np.ascontiguousarray(each).tobytes()), len(numbers))
    return keys


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
