"""All examples of a set, whatever split they are in, read block by block."""

import dataclasses
import functools
from collections.abc import Iterator

import ml_collections
import numpy as np

from data.dataset import RunAssets, load
from data.features import Features
from data.row_lists import RowLists
from data.split import Split
from plumbline import UserError

_BLOCK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples of all splits, one split after the other, at positions 0 to N - 1.

    Attributes:
      features: what one example is.
      splits: "train", "test" and, if the config asks for one, "validation"; in the order of the positions.
      parts: for each split, the fingerprint of the part of the source that holds its rows.
      fingerprint: of all files and sets that were read.
      row_lists: rows that were left out or have a smaller weight.
    """

    features: Features
    splits: dict[str, Split]
    parts: dict[str, str]
    fingerprint: str
    row_lists: RowLists = dataclasses.field(default_factory=RowLists)

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """(N,) int32 classes, or float32 for regression."""
        return np.concatenate([split.labels for split in self.splits.values()])

    @functools.cached_property
    def groups(self) -> np.ndarray | None:
        """(N,) int32, or None."""
        groups = [split.groups for split in self.splits.values()]
        return None if any(each is None for each in groups) else np.concatenate(groups)

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """(N,) int64, rows in the source."""
        return np.concatenate([split.rows for split in self.splits.values()])

    @functools.cached_property
    def split(self) -> np.ndarray:
        """(N,) the name of the split of each example."""
        return np.concatenate([np.full(len(split), name, "<U10") for name, split in self.splits.items()])

    @functools.cached_property
    def decodable(self) -> np.ndarray:
        """(N,) bool, which images can be decoded; True for examples that are not images."""
        starts = range(0, len(self), _BLOCK)
        parts = [self.sound(np.arange(start, min(start + _BLOCK, len(self)))) for start in starts]
        return np.concatenate(parts or [np.ones(0, bool)])

    def positions(self, name: str) -> np.ndarray:
        """Returns the positions (n,) int64 of a split; none if there is no such split."""
        return np.flatnonzero(self.split == name)

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Reads raw inputs (n, *features.shape) at `positions` (n,), in any order; corrupt images are zeros."""
        inputs = np.zeros((len(positions), *self.features.shape), self.features.dtype)
        for split, chosen, own in self._by_split(positions):
            inputs[chosen] = split.reader.read(own)[0]
        return inputs

    def sound(self, positions: np.ndarray) -> np.ndarray:
        """Returns which images at `positions` (n,) can be decoded (n,) bool; True for examples that are not images."""
        sound = np.ones(len(positions), bool)
        if self.features.kind == "image":
            for split, chosen, own in self._by_split(positions):
                # A cache holds zeros for corrupt images, and its split gives them weight 0.
                sound[chosen] = (split.weights[own] > 0) if split.in_memory else split.reader.read(own)[1]
        return sound

    def blocks(self, positions: np.ndarray, size: int = _BLOCK) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Reads the examples at `positions` (n,) in blocks of `size`: positions and raw inputs."""
        for start in range(0, len(positions), size):
            own = positions[start : start + size]
            yield own, self.read(own)

    def text(self, position: int) -> str:
        """Returns the text of an example of texts."""
        (split, _, own) = next(self._by_split(np.array([position])))
        return split.reader.text(int(own[0]))

    def read_encoded(self, position: int) -> bytes | None:
        """Returns the image file of an example, before resizing; None if it is not available."""
        (split, _, own) = next(self._by_split(np.array([position])))
        read_encoded = getattr(split.reader, "read_encoded", None)
        return read_encoded(int(own[0])) if read_encoded else None

    def name(self, position: int) -> str:
        """Returns what the user knows an example by: its split, and its file or row there."""
        (split, _, own) = next(self._by_split(np.array([position])))
        return f"{self.split[position]}: {split.reader.name(int(own[0]))}"

    def _by_split(self, positions: np.ndarray) -> Iterator[tuple[Split, np.ndarray, np.ndarray]]:
        """For each split among them: which of the positions (n,) bool, and where in the split they are."""
        start = 0
        for split in self.splits.values():
            chosen = (positions >= start) & (positions < start + len(split))
            if chosen.any():
                yield split, chosen, positions[chosen] - start
            start += len(split)


def open_examples(config: ml_collections.ConfigDict, *, seed: int, assets: RunAssets | None = None) -> Examples:
    """Opens a set. Nothing is read before it is needed, unless the set fits in memory.

    Args:
      config: `config.data`.
      seed: of random splits.
      assets: files stored by a run on the same data, used in place of those that the config names.

    Raises:
      UserError: as in `data.dataset.load`, or the set is one text for language modelling.
    """
    dataset = load(config, seed=seed, assets=assets)
    if dataset.features.task == "language":
        raise UserError(
            "data.source: is one text for language modelling, which has no rows to audit; name texts with labels"
        )
    return Examples(
        features=dataset.features,
        splits=dataset.splits,
        parts=dataset.parts,
        fingerprint=dataset.fingerprint,
        row_lists=dataset.row_lists,
    )
