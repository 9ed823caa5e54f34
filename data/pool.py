"""All examples of a data set in one array, from which several trainings select rows."""

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
    """All examples of a data set, of all splits.

    Attributes:
      features: description of one example.
      inputs: (N, *features.shape) raw inputs.
      labels: (N,) int32 classes, or float32 in raw units for regression; (N, L) int32 tokens for language modelling.
      weights: (N,) float32.
      groups: (N,) int32, or None.
      rows: (N,) int64, rows in the source.
      splits: positions of each split in the pool, int64: "train", "test" and, if the config asks for one, "validation".
      fingerprint: fingerprint of all files and data sets that were read.
      texts: the N texts; None if the inputs are not texts, or are windows of one text.
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
        """Fits the preprocessing, and class weights if the config asks for them, on these rows only.

        Args:
          positions: (n,) positions of the training rows.
          config: `config.data`.

        Raises:
          UserError: as `data.load`.
        """
        labels = self.labels[positions]
        fitted = preprocessing.fit(self.features, self.inputs[positions], labels, normalize=config.normalize)
        weights = class_weights(self.features, labels, config)
        return fitted if weights is None else {**fitted, "class_weights": weights}

    def digest(self) -> str:
        """Returns a digest of the classes, groups and columns, and of the row, label, group and split of examples."""
        names = (self.features.class_names, self.features.group_names, [c.name for c in self.features.columns])
        digest = hashlib.sha256(repr(names).encode())
        for values in (self.rows, self.labels, self.groups, *(self.splits[name] for name in sorted(self.splits))):
            # Tokens of a language model are a function of the text, which has a fingerprint.
            if values is not None and values.ndim == 1:
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:32]

    def with_copies(
        self, positions: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple["Pool", np.ndarray]:
        """Returns a pool with copies of some rows appended. The copies have new labels and belong to no split.

        Args:
          positions: (n,) positions of the rows, in any order and with repetitions.
          labels: (n, ...) labels of the copies.
          weights: (n,) weights of the copies; None keeps those of the rows.

        Returns:
          The new pool, and the positions (n,) int64 of the copies in it.
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
        """Checks that rows are independent, so that they may be held out or dropped at random.

        Args:
          asker: command or flag that does so, for messages.

        Raises:
          UserError: the rows are windows of one text.
        """
        if self.features.task == "language":
            raise UserError(
                f"{asker}: splits examples at random, but windows of one text are not independent; evaluate a language "
                "model on data.validation or data.test, which are contiguous parts of the text"
            )


def load_pool(config: ml_collections.ConfigDict, *, seed: int) -> Pool:
    """Reads a whole data set into memory.

    Args:
      config: `config.data`.
      seed: seed of random splits.

    Raises:
      UserError: as `data.load`, or the data set is too large and is streamed.
    """
    dataset = load(config, seed=seed)
    splits = dataset.splits
    if not all(split.in_memory for split in splits.values()):
        raise UserError(
            f"data.source: '{config.source}' is streamed, but populations need data that fit in memory; raise "
            "data.cache_limit_gib if they do, or train runs one by one"
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
