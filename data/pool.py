"""All examples of a set in one array, of which trainings choose their own rows."""

import dataclasses
import hashlib
from collections.abc import Sequence

import ml_collections
import numpy as np

from data import preprocessing
from data.dataset import class_weights, load
from data.features import Features
from data.split import Split
from plumbline import UserError


@dataclasses.dataclass(eq=False)
class Pool:
    """All examples of a set, whatever split they belong to.

    Attributes:
      features: what one example is.
      inputs: (N, *features.shape) raw.
      labels: (N,) int32 classes, or float32 in raw units for regression; (N, L) int32 tokens of a text.
      weights: (N,) float32.
      groups: (N,) int32, or None.
      rows: (N,) int64, rows in the source.
      splits: positions of each split in the pool, int64: "train", "test" and, if the config asks for one, "validation".
      fingerprint: of all files and sets that were used.
      texts: the N texts themselves; None where the examples are no texts, or windows of one.
    """

    features: Features
    inputs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None
    rows: np.ndarray
    splits: dict[str, np.ndarray]
    fingerprint: str
    texts: Sequence[str] | None = None

    def fit(self, positions: np.ndarray, config: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
        """What is fitted on these rows and no others: preprocessing, and class weights where the config has them.

        Args:
          positions: (n,) of the training rows.
          config: `config.data`.

        Raises:
          UserError: as `data.load`.
        """
        labels = self.labels[positions]
        fitted = preprocessing.fit(self.features, self.inputs[positions], labels, normalize=config.normalize)
        weights = class_weights(self.features, labels, config)
        return fitted if weights is None else {**fitted, "class_weights": weights}

    def appended(
        self, positions: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple["Pool", np.ndarray]:
        """The pool with copies of some rows at its end, which are in no split and have labels of their own.

        Args:
          positions: (n,) of the rows, in any order and as often as wanted.
          labels: (n, ...) of the copies.
          weights: (n,) of the copies; those of the rows if None.

        Returns:
          The pool, and the positions (n,) int64 of the copies in it.
        """
        labels = np.asarray(labels, self.labels.dtype)
        weights = self.weights[positions] if weights is None else np.asarray(weights, np.float32)
        digest = hashlib.sha256(self.fingerprint.encode())
        for values in (np.asarray(positions, np.int64), labels, weights):
            digest.update(np.ascontiguousarray(values).tobytes())
        pool = dataclasses.replace(
            self,
            inputs=np.concatenate([self.inputs, self.inputs[positions]]),
            labels=np.concatenate([self.labels, labels]),
            weights=np.concatenate([self.weights, weights]),
            groups=None if self.groups is None else np.concatenate([self.groups, self.groups[positions]]),
            rows=np.concatenate([self.rows, self.rows[positions]]),
            fingerprint=digest.hexdigest(),
            texts=None if self.texts is None else [*self.texts, *(self.texts[position] for position in positions)],
        )
        return pool, len(self.rows) + np.arange(len(positions))

    def require_independent(self, asker: str) -> None:
        """Checks that rows may be held out at random, or left out.

        Args:
          asker: command or flag that does so, for messages.

        Raises:
          UserError: they are windows of one text, of which some overlap and each tells of its neighbours.
        """
        if self.features.task == "language":
            raise UserError(
                f"{asker}: deals out examples at random, but those of one text overlap and tell of each other; judge a "
                "language model on data.validation or data.test, which are whole parts of the text"
            )


def load_pool(config: ml_collections.ConfigDict, *, seed: int) -> Pool:
    """Reads a whole set into memory.

    Args:
      config: `config.data`.
      seed: of random splits.

    Raises:
      UserError: as `data.load`, or the set is so large that it is streamed.
    """
    dataset = load(config, seed=seed)
    splits = dataset.splits
    if not all(split.in_memory for split in splits.values()):
        raise UserError(
            f"data.source: '{config.source}' is streamed, but populations are trained on what fits in memory; "
            "raise data.cache_limit_gib if it does, or train runs one by one"
        )
    ends = np.cumsum([len(split) for split in splits.values()])
    groups = [split.groups for split in splits.values()]
    return Pool(
        features=dataset.features,
        inputs=np.concatenate([split.read(np.arange(len(split))) for split in splits.values()]),
        labels=np.concatenate([split.labels for split in splits.values()]),
        weights=np.concatenate([split.weights for split in splits.values()]),
        groups=None if groups[0] is None else np.concatenate(groups),
        rows=np.concatenate([split.rows for split in splits.values()]),
        splits={n: np.arange(end - len(s), end) for (n, s), end in zip(splits.items(), ends, strict=True)},
        fingerprint=dataset.fingerprint,
        texts=_texts(splits) if dataset.features.kind == "text" and dataset.features.task != "language" else None,
    )


def _texts(splits: dict[str, Split]) -> list[str]:
    return [split.reader.text(position) for split in splits.values() for position in range(len(split))]
