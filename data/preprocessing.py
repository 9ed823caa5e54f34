"""Preprocessing of raw inputs: fitted on training rows only, applied on the device."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from data.features import Features
from plumbline import UserError

NORMALIZATIONS = ("fitted", "imagenet", "signed", "none")
# Mean and standard deviation of ImageNet's RGB channels, in 0 to 1 units; the usual values.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Number of images whose moments are summed at once, so that a memory-mapped data set is never loaded as a whole.
_CHUNK = 1024


def fit(features: Features, inputs: np.ndarray, labels: np.ndarray, *, normalize: str) -> dict[str, np.ndarray]:
    """Fits the preprocessing on the given rows.

    Args:
      features: description of an example.
      inputs: (N, *features.shape) raw inputs.
      labels: (N,) labels; for regression in raw units.
      normalize: `config.data.normalize`.

    Returns:
      A dict of float32 arrays. Images: `mean` and `std` (C,) in 0 to 1 units. Tables: `fill` (the median), `mean` and
      `std` (of the filled columns) of the numeric and boolean columns; and `slots` (sum of `features.categories`,),
      which maps the codes of one categorical column after the other to slots, with 0 for codes that no given row has.
      Regression: the scalars `label_mean` and `label_std`. The deviation of constants is 1. Empty arrays are left out,
      because checkpoints cannot hold them. For texts there is nothing to fit.

    Raises:
      UserError: `normalize` is unknown, or not supported for these inputs.
    """
    if features.kind == "image":
        chunks = (inputs[start : start + _CHUNK] for start in range(0, len(inputs), _CHUNK))
        return fit_images(features, chunks, normalize=normalize)
    _check(normalize, features)
    if features.kind == "text":
        return _fit_labels(features, labels, normalize)
    columns = {name: array for name, array in _fit_columns(features, inputs, normalize).items() if array.size}
    return {**columns, **_fit_labels(features, labels, normalize)}


def fit_images(features: Features, chunks: Iterable[np.ndarray], *, normalize: str) -> dict[str, np.ndarray]:
    """Fits the preprocessing of images given in chunks (N, H, W, C) uint8; see `fit`."""
    _check(normalize, features)
    channels = features.shape[-1]
    if normalize == "none":
        return {"mean": np.zeros(channels, np.float32), "std": np.ones(channels, np.float32)}
    if normalize == "signed":
        return {"mean": np.full(channels, 0.5, np.float32), "std": np.full(channels, 0.5, np.float32)}
    if normalize == "imagenet":
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        if channels == 1:
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for chunk in chunks:
        # Sum over the examples first, in integers: this is exact and much faster than summing by channel.
        flat = chunk.reshape(len(chunk), -1)
        squared = np.square(flat, dtype=np.uint16)
        total += flat.sum(axis=0, dtype=np.uint64).reshape(-1, channels).sum(axis=0)
        squares += squared.sum(axis=0, dtype=np.uint64).reshape(-1, channels).sum(axis=0)
        count += flat.size // channels
    mean = total / max(count, 1) / 255.0
    variance = np.maximum(squares / max(count, 1) / 255.0**2 - mean**2, 0.0)
    return {"mean": mean.astype(np.float32), "std": _deviation(np.sqrt(variance), mean)}


def apply(
    preprocessing: dict[str, np.ndarray | jax.Array], features: Features, inputs: Num[Array | np.ndarray, "B ..."]
) -> Num[Array, "B ..."]:
    """Converts raw inputs to model inputs (B, *features.input_shape).

    Args:
      preprocessing: dict of arrays from `fit`; one compiled program serves all values.
      features: description of an example.
      inputs: (B, *features.shape) raw inputs; images may also be floats in 0 to 255, after augmentation.

    Returns:
      Float32. Images: normalised by channel. Tables: the filled and standardised numeric and boolean columns, then a
      missing indicator for each of them that has missing values in training, then the slot of each categorical column
      as a float. Texts: the int32 tokens, unchanged.
    """
    if features.kind == "text":
        return jnp.asarray(inputs, jnp.int32)
    inputs = jnp.asarray(inputs, jnp.float32)
    if features.kind == "image":
        mean, std = (jnp.asarray(preprocessing[name], jnp.float32)[None, None, None, :] for name in ("mean", "std"))
        return (inputs / 255.0 - mean) / std
    parts = []
    num_numeric = len(features.numeric_columns)
    if num_numeric:
        fill, mean, std = (jnp.asarray(preprocessing[name], jnp.float32)[None, :] for name in ("fill", "mean", "std"))
        numeric = inputs[:, :num_numeric]
        missing = jnp.isnan(numeric)
        parts.append((jnp.where(missing, fill, numeric) - mean) / std)
        with_gaps = [index for index, column in enumerate(features.numeric_columns) if column.has_missing]
        parts.append(missing[:, np.array(with_gaps, np.int32)].astype(jnp.float32))
    if features.categories:
        codes = inputs[:, num_numeric:].astype(jnp.int32)
        parts.append(jnp.asarray(preprocessing["slots"], jnp.float32)[codes + _offsets(features)[None, :]])
    return jnp.concatenate(parts, axis=1)


def _fit_columns(features: Features, inputs: np.ndarray, normalize: str) -> dict[str, np.ndarray]:
    num_numeric = len(features.numeric_columns)
    numeric = inputs[:, :num_numeric].astype(np.float64)
    missing = np.isnan(numeric)
    fill = np.zeros(num_numeric)
    for column in range(num_numeric):
        present = numeric[~missing[:, column], column]
        fill[column] = np.median(present) if len(present) else 0.0
    filled = np.where(missing, fill, numeric)
    mean, std = np.zeros(num_numeric), np.ones(num_numeric)
    if normalize == "fitted" and len(filled):
        mean, std = filled.mean(axis=0), filled.std(axis=0)
    slots = np.zeros(sum(features.categories), np.float32)
    codes = inputs[:, num_numeric:].astype(np.int64)
    for column, offset in enumerate(_offsets(features)):
        known = np.unique(codes[:, column])
        slots[offset + known] = known
    return {
        "fill": fill.astype(np.float32),
        "mean": mean.astype(np.float32),
        "std": _deviation(std, mean),
        "slots": slots,
    }


def _fit_labels(features: Features, labels: np.ndarray, normalize: str) -> dict[str, np.ndarray]:
    if features.task != "regression":
        return {}
    if normalize == "none" or not len(labels):
        return {"label_mean": np.asarray(0, np.float32), "label_std": np.asarray(1, np.float32)}
    labels = labels.astype(np.float64)
    return {"label_mean": np.asarray(labels.mean(), np.float32), "label_std": _deviation(labels.std(), labels.mean())}


def _deviation(std: np.ndarray | np.floating, mean: np.ndarray | np.floating) -> np.ndarray:
    """Returns deviations as float32, with 1 for values that are constant up to rounding."""
    std = np.asarray(std)
    return np.where(std > 1e-7 * np.abs(mean), std, 1.0).astype(np.float32)


def _offsets(features: Features) -> np.ndarray:
    """Returns the start of each categorical column in `slots`."""
    return np.concatenate([[0], np.cumsum(features.categories)[:-1]]).astype(np.int32)[: len(features.categories)]


def _check(normalize: str, features: Features) -> None:
    if normalize not in NORMALIZATIONS:
        raise UserError(f"data.normalize: unknown value '{normalize}'; choose one of {', '.join(NORMALIZATIONS)}")
    if normalize in ("imagenet", "signed") and features.kind != "image":
        raise UserError(f"data.normalize: '{normalize}' is for images; choose 'fitted' or 'none' for a {features.kind}")
