"""Inputs to predict: image files, folders of them, or tables, read as in training."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import ml_collections
import numpy as np

from data import images, tables
from data.features import Features
from plumbline import UserError

# Images in one chunk, so that a folder of any size can be predicted.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some of the inputs to predict.

    Attributes:
      names: of each input: the image file, or "file.csv:17" for the row in that line.
      inputs: (N, *features.shape) raw.
      labels: names of the true classes, or true values, None where one is missing; None if there are none at all.
    """

    names: list[str]
    inputs: np.ndarray
    labels: list[str | float | None] | None


def read_inputs(
    features: Features, config: ml_collections.ConfigDict, paths: Sequence[str | os.PathLike]
) -> Iterator[Chunk]:
    """Reads what is to be predicted, by the code that read the training set.

    Args:
      features: of the training set.
      config: `config.data` of the training.
      paths: image files and folders, which are searched through for images; or CSV or Parquet files, whose target
        column may be missing.

    Yields:
      The inputs, in the order of the paths; folders by name.

    Raises:
      UserError: a path does not exist or holds nothing that fits the model, an input column is missing, or an image is
        corrupt.
    """
    paths = [os.fspath(path) for path in paths]
    for path in paths:
        if not pathlib.Path(path).exists():
            raise UserError(f"inputs: no such file or folder '{path}'; check the path")
    return _read_images(features, config, paths) if features.kind == "image" else _read_tables(features, config, paths)


def _read_images(features: Features, config: ml_collections.ConfigDict, paths: list[str]) -> Iterator[Chunk]:
    files = [file for path in paths for file in _image_files(pathlib.Path(path))]
    # The shape is settled by now, so an image of another one is brought to it even if training had none.
    image_format = images.ImageFormat(shape=features.shape, resize=config.resize)
    for start in range(0, len(files), _CHUNK):
        names, decoded = [], []
        for file in files[start : start + _CHUNK]:
            try:
                decoded.append(images.decode(file.read_bytes(), f"'{file}'", image_format))
            except images.CorruptImageError as error:
                raise UserError(f"inputs: '{file}' is corrupt ({error}); replace it, or leave it out") from None
            else:
                names.append(str(file))
        if names:
            yield Chunk(names=names, inputs=np.stack(decoded), labels=None)


def _image_files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in images.EXTENSIONS and file.is_file())
        if not found:
            raise UserError(f"inputs: folder '{path}' has no images; expected .png or .jpg files in it or below it")
        return found
    if path.suffix.lower() not in images.EXTENSIONS:
        raise UserError(f"inputs: '{path}' is no image; the model was trained on images, give .png or .jpg files")
    return [path]


def _read_tables(features: Features, config: ml_collections.ConfigDict, paths: list[str]) -> Iterator[Chunk]:
    for path in paths:
        if pathlib.Path(path).suffix.lower() in images.EXTENSIONS or pathlib.Path(path).is_dir():
            raise UserError(
                f"inputs: '{path}' is no table; the model was trained on a table, give CSV or Parquet files"
            )
        table = tables.read(path, config.missing_values, "inputs")
        yield Chunk(
            names=[f"{path}:{table.line(row)}" for row in range(table.num_rows)],
            inputs=tables.encode(table, features.columns),
            labels=_labels(features, table),
        )


def _labels(features: Features, table: tables.Table) -> list[str | float | None] | None:
    if features.target not in table.columns:
        return None
    array = table.columns[features.target]
    if features.task == "regression":
        values = tables.numbers(table, features.target, array)
        return [None if np.isnan(value) else float(value) for value in values]
    return tables.labels(table, features.target, numeric=tables.is_numeric(table, array))
