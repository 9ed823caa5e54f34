"""A reference set that a user names, such as examples met in use, with the features of the training set."""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from data import prediction
from data.features import Features
from plumbline import UserError

FORMS = ("csv:", "parquet:", "folder:")
"""Optional prefixes of the path."""
MOST_ROWS = 2000
"""Examples that are kept; of a larger set, a random sample."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Examples to compare with those of the training.

    Attributes:
      source: as the user named it.
      inputs: (n, *features.shape) raw, at most `MOST_ROWS`, in their order.
      names: the file of each, or "file.csv:17" for the row in that line.
      labels: (N,) of all labelled examples: int32 classes, -1 for a class that training does not know, or float32 for
        regression; None if there are none.
      total: N, the size of the set.
    """

    source: str
    inputs: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray | None
    total: int


def read_reference(features: Features, config: ml_collections.ConfigDict, text: str, *, seed: int = 0) -> Reference:
    """Reads a reference set part by part, with the code that reads inputs for prediction.

    Args:
      features: of the training set.
      config: `config.data` of the training.
      text: "csv:PATH" or "parquet:PATH", whose target column may be missing; "folder:PATH" of images or texts; or a
        path alone.
      seed: of the sample of a large set.

    Raises:
      UserError: there is no such set, its columns differ, or it cannot be read.
    """
    random = np.random.default_rng(seed)
    keys, inputs, names, labels = np.zeros(0), np.zeros((0, *features.shape), features.dtype), [], []
    total, labelled = 0, False
    try:
        for chunk in prediction.read_inputs(features, config, [_path(text)]):
            # Reservoir sampling: each example gets a random key, and those with the smallest keys stay.
            keys = np.concatenate([keys, random.random(len(chunk.names))])
            inputs, names = np.concatenate([inputs, chunk.inputs]), names + chunk.names
            kept = np.sort(np.argsort(keys)[:MOST_ROWS])
            keys, inputs, names = keys[kept], inputs[kept], [names[row] for row in kept]
            total += len(chunk.names)
            if chunk.labels is not None:
                labelled = True
                labels.append(_labels(features, chunk.labels))
    except UserError as error:
        raise UserError(f"--reference: {str(error).removeprefix('inputs: ')}") from None
    return Reference(
        source=text,
        inputs=inputs,
        names=tuple(names),
        labels=np.concatenate(labels) if labelled else None,
        total=total,
    )


def _path(text: str) -> str:
    for form in FORMS:
        if text.startswith(form):
            return text.removeprefix(form)
    head, colon, _ = text.partition(":")
    if colon and head.isidentifier():
        raise UserError(f"'{text}' is not possible; give {', '.join(f'{form}PATH' for form in FORMS)} or a path")
    return text


def _labels(features: Features, found: Sequence[str | float | None]) -> np.ndarray:
    known = [label for label in found if label is not None]
    if features.task == "regression":
        return (np.array(known, np.float64) - features.target_offset).astype(np.float32)
    numbered = {name: index for index, name in enumerate(features.class_names)}
    return np.array([numbered.get(str(label), -1) for label in known], np.int32)
