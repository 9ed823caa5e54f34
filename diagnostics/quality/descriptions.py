"""Descriptions of examples without their labels: vectors for distances, and named columns."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

from data.features import PADDING_TOKEN, Features
from data.tokenizer import Tokenizer

# Pixels a side of images, most frequent values of a column, and most frequent tokens, of which some are columns.
_SIDE, _MOST_VALUES, _MOST_TOKENS, _TOKEN_COLUMNS = 32, 100, 2000, 200


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """A property of all examples.

    Attributes:
      name: a column of a table, a property such as "brightness" of images, or a token of texts.
      values: (n,) numbers, NaN where one is missing; or codes of categories.
      categorical: whether the values are codes.
    """

    name: str
    values: np.ndarray
    categorical: bool = False


def describe(features: Features, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, list[Column]]:
    """Describes examples by vectors (n, d) float32 and named columns.

    Images become pixels, averaged down; tables standardised numbers and one-hot codes; texts TF-IDF of the tokens that
    a model reads. Means and the like are fitted on all examples: pass both samples of a comparison at once, so that the
    description does not separate them.

    Args:
      features: of one example.
      blocks: raw inputs (b, *features.shape), one after the other.
    """
    if features.kind == "image":
        return _describe_images(blocks)
    inputs = np.concatenate(list(blocks))
    return _describe_table(features, inputs) if features.kind == "table" else _describe_texts(features, inputs)


def _describe_images(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, list[Column]]:
    """Describes images by pixels, averaged down, and by brightness, contrast, sharpness and colours."""
    vectors, figures = [], []
    for block in blocks:
        images = block.astype(np.float32)
        count, height, width, channels = images.shape
        shape = (count, min(height, _SIDE), min(width, _SIDE), channels)
        vectors.append(np.asarray(jax.image.resize(jnp.asarray(images), shape, "linear")).reshape(count, -1) / 255)
        steps = [np.abs(np.diff(images, axis=axis)).reshape(count, -1) for axis in (1, 2)]
        figures.append(
            np.column_stack(
                [
                    images.mean(axis=(1, 2, 3)),
                    images.std(axis=(1, 2, 3)),
                    np.concatenate(steps, axis=1).mean(axis=1) if height * width > 1 else np.zeros(count),
                    *([images.mean(axis=(1, 2))] if channels == 3 else []),
                ]
            )
        )
    names = ("brightness", "contrast", "sharpness", "red", "green", "blue")
    found = np.concatenate(figures)
    return np.concatenate(vectors), [Column(name=names[n], values=found[:, n]) for n in range(found.shape[1])]


def _describe_table(features: Features, inputs: np.ndarray) -> tuple[np.ndarray, list[Column]]:
    """Describes rows by standardised numbers, indicators of missing values, and one-hot codes of categories."""
    count = len(features.numeric_columns)
    numbers, parts = inputs[:, :count].astype(np.float64), []
    for column in range(count):
        values, missing = numbers[:, column], np.isnan(numbers[:, column])
        filled = np.where(missing, np.median(values[~missing]) if not missing.all() else 0.0, values)
        parts.append((filled - filled.mean()) / (filled.std() or 1.0))
        if missing.any():
            parts.append(missing)
    for codes in inputs[:, count:].T:
        values, rows = np.unique(codes, return_counts=True)
        frequent = values[np.argsort(-rows, kind="stable")][:_MOST_VALUES]
        parts.extend(codes == value for value in frequent)
    columns = [
        Column(name=column.name, values=values, categorical=column.kind == "categorical")
        for column, values in zip(features.columns, inputs.T, strict=True)
    ]
    return np.column_stack(parts).astype(np.float32), columns


def _describe_texts(features: Features, inputs: np.ndarray) -> tuple[np.ndarray, list[Column]]:
    """Describes texts by TF-IDF of their tokens, and by their length and the presence of the most frequent tokens."""
    there = inputs != PADDING_TOKEN
    rows = np.repeat(np.arange(len(inputs)), there.sum(axis=1))
    ones = np.ones(len(rows), np.float32)
    counts = sparse.csr_array((ones, (rows, inputs[there])), shape=(len(inputs), features.vocabulary))
    counts.sum_duplicates()
    texts_with = np.bincount(counts.indices, minlength=features.vocabulary)
    # A token of all texts, or of a single one, cannot show a difference.
    informative = np.flatnonzero((texts_with > 1) & (texts_with < len(inputs)))
    frequent = informative[np.argsort(-texts_with[informative], kind="stable")][:_MOST_TOKENS]
    columns = [Column(name="tokens", values=there.sum(axis=1))]
    if not len(frequent):
        return columns[0].values[:, None].astype(np.float32), columns
    chosen = Tokenizer(features.tokenizer)
    dense = counts[:, frequent]
    for place, token in enumerate(frequent[:_TOKEN_COLUMNS]):
        values = dense[:, [place]].toarray()[:, 0] > 0
        columns.append(
            Column(name=chosen.decode([int(token)]).strip() or f"token {token}", values=values, categorical=True)
        )
    return TfidfTransformer(sublinear_tf=True).fit_transform(dense).toarray().astype(np.float32), columns
