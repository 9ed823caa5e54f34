"""Inputs for prediction: image or text files, folders of them, or tables, read as in training."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import ml_collections
import numpy as np

from data import images, input_files, table_columns, table_files, tables, text_splits
from data.features import Features
from data.input_files import IMAGES, TEXTS, Kind, LeftOut
from data.sources import folder
from data.sources.table_source import TableTexts
from data.table_files import Form
from data.tokenizer import Tokenizer
from data.written_numbers import are_spelled
from plumbline import UserError

if TYPE_CHECKING:
    import pandas

# Number of images or texts in one chunk, so that a folder of any size can be predicted.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """A part of the inputs.

    Attributes:
      names: name of each input: its file, or "file.csv:17" for a row of a table.
      inputs: (N, *features.shape) raw inputs.
      labels: names of the true classes, or true values, with None for a missing one; None without labels.
    """

    names: list[str]
    inputs: np.ndarray
    labels: list[str | float | None] | None


@dataclasses.dataclass
class Notes:
    """What was not read of the inputs. Reading adds to it.

    Attributes:
      unreadable: errors of files that cannot be read.
      left_out: files that are not inputs, of folders.
    """

    unreadable: list[UserError] = dataclasses.field(default_factory=list)
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)

    def add_unreadable(self, error: UserError) -> None:
        """Adds a file that cannot be read."""
        self.unreadable.append(error)


class _NoNotes(Notes):
    """Raises the error of the first file that cannot be read."""

    def add_unreadable(self, error: UserError) -> None:
        raise error


def read_inputs(
    features: Features,
    config: ml_collections.ConfigDict,
    paths: Sequence[str | os.PathLike],
    notes: Notes | None = None,
) -> Iterator[Chunk]:
    """Reads inputs for prediction with the code that read the training data.

    Args:
      features: description of the training examples.
      config: `config.data` of the training.
      paths: image or text files, folders of them (searched recursively), or CSV or Parquet files, which need not have
        the target column. What counts as an input in a folder is what counts in training.
      notes: gets the errors of image and text files that cannot be read, which are passed over; None raises the first.

    Yields:
      The inputs in the order of the paths; files of a folder sorted by path.

    Raises:
      UserError: a path does not exist or has no inputs of the right kind, an input column is missing or, without
        `notes`, an image is corrupt, or a text is empty.
    """
    paths = [os.path.expanduser(path) for path in paths]  # noqa: PTH111 (keeps "./" at the start of names)
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"inputs: no such file or folder '{path}'; check the path")
    if features.kind == "table":
        return _read_tables(features, config, paths)
    read = {"image": _read_images, "text": _read_texts}[features.kind]
    return read(features, config, paths, _NoNotes() if notes is None else notes)


def read_frame(features: Features, config: ml_collections.ConfigDict, frame: "pandas.DataFrame") -> Chunk:
    """Reads the rows of a DataFrame with the code that read the training table.

    Args:
      features: description of the training examples.
      config: `config.data` of the training.
      frame: table with the input columns, or the column of texts; the target column may be missing.

    Returns:
      The inputs; `names` are the labels of the frame's index.

    Raises:
      UserError: the model was not trained on a table, or a column is missing or has another type.
    """
    import pyarrow

    if features.kind == "image" or (features.kind == "text" and not config.text):
        raise UserError(
            f"inputs: a DataFrame given, but the model was trained on {features.kind}s; give files or arrays"
        )
    # pandas numbers columns without names from 0. If one in the middle is left out, the others keep their numbers.
    positions = not config.header and all(isinstance(name, int) for name in frame.columns)
    numbered = positions and list(frame.columns) == list(range(frame.shape[1]))
    frame = frame.rename(columns=(lambda number: f"c{number}") if positions else str)
    names = [str(label) for label in frame.index]
    try:
        arrow = pyarrow.Table.from_pandas(frame, preserve_index=False)
    except pyarrow.ArrowException as error:
        raise UserError(f"inputs: a column of the DataFrame holds mixed types ({error}); convert it") from None
    table = tables.from_arrow(
        arrow,
        name="the DataFrame",
        missing_values=config.missing_values,
        typed=True,
        line=lambda row: names[row],
        fingerprint="",
        field="inputs",
        decimal=config.decimal,
        text=config.text,
        numbered=numbered,
    )
    return _chunk(features, config, table, names)


def _read_images(
    features: Features, config: ml_collections.ConfigDict, paths: list[str], notes: "Notes"
) -> Iterator[Chunk]:
    files = [file for path in paths for file in _files(path, IMAGES, notes)]
    # Images of another shape are converted, also if all training images had one shape.
    image_format = images.ImageFormat(shape=features.shape, resize=config.resize)
    for start in range(0, len(files), _CHUNK):
        names, decoded = [], []
        for file in files[start : start + _CHUNK]:
            name = input_files.printable(file)
            try:
                decoded.append(images.decode(input_files.read_bytes(file, "inputs"), f"'{name}'", image_format))
            except images.CorruptImageError as error:
                notes.add_unreadable(UserError(f"inputs: '{name}' is corrupt ({error}); replace it, or exclude it"))
            except UserError as error:
                notes.add_unreadable(error)
            else:
                names.append(name)
        if names:
            yield Chunk(names=names, inputs=np.stack(decoded), labels=None)


def _files(path: str, kind: Kind, notes: "Notes") -> list[str]:
    """Lists the inputs in a folder and below it, by the rule of a training, or the one file."""
    if not pathlib.Path(path).is_dir():
        if not kind.includes(path):
            raise UserError(
                f"inputs: '{path}' has the wrong type; the model was trained on {kind.noun}, give {kind.wanted} files"
            )
        return [path]
    listing = input_files.list_files(path, kind)
    for name, reason in listing.unreadable:
        notes.add_unreadable(input_files.unreadable(f"{path}/{name}" if name else path, reason, "inputs"))
    notes.left_out.extend(listing.left_out)
    if not listing.files and not listing.unreadable:
        others = f" but {listing.left_out[0].describe()}" if listing.left_out else ""
        raise UserError(
            f"inputs: folder '{path}' has no {kind.noun}{others}; expected {kind.wanted} files in it or below it"
        )
    return [os.path.join(path, file.name) for file in listing.files]  # noqa: PTH118 (keeps "./" and bytes of names)


def _read_texts(
    features: Features, config: ml_collections.ConfigDict, paths: list[str], notes: "Notes"
) -> Iterator[Chunk]:
    """Reads texts from files and, if the model was trained on a column of a table, from that column of other tables."""
    for path in paths:
        if config.text and pathlib.Path(path).is_file() and not TEXTS.includes(path):
            table = table_files.read(path, Form.from_config(config), "inputs")
            yield _chunk(features, config, table, [f"{path}:{table.line(row)}" for row in range(table.num_rows)])
            continue
        files = _files(path, TEXTS, notes)
        for start in range(0, len(files), _CHUNK):
            names, texts = [], []
            for file in files[start : start + _CHUNK]:
                name = input_files.printable(file)
                try:
                    text = folder.decode_text(input_files.read_bytes(file, "inputs"), f"'{name}'", "inputs")
                    text_splits.check_not_empty(text, f"'{name}'", "inputs")
                except UserError as error:
                    notes.add_unreadable(error)
                else:
                    names.append(name)
                    texts.append(text)
            yield from _encode_texts(features, texts, names, notes)


def _encode_texts(features: Features, texts: list[str], names: list[str], notes: "Notes") -> Iterator[Chunk]:
    """Tokenises texts; those without tokens go to the notes."""
    while names:
        try:
            tokens = _tokens(features, texts, names)
        except text_splits.NoTokensError as error:
            notes.add_unreadable(error)
            texts, names = [each[: error.row] + each[error.row + 1 :] for each in (texts, names)]
        else:
            yield Chunk(names=names, inputs=tokens, labels=None)
            return


def _read_tables(features: Features, config: ml_collections.ConfigDict, paths: list[str]) -> Iterator[Chunk]:
    for path in paths:
        of_parquet = config.source.startswith("parquet:")
        if IMAGES.includes(path) or (pathlib.Path(path).is_dir() and not of_parquet):
            raise UserError(
                f"inputs: '{path}' is not a table; the model was trained on a table, give CSV or Parquet files"
            )
        table = table_files.read(path, Form.from_config(config), "inputs")
        yield _chunk(features, config, table, [f"{path}:{table.line(row)}" for row in range(table.num_rows)])


def _chunk(features: Features, config: ml_collections.ConfigDict, table: tables.Table, names: list[str]) -> Chunk:
    """Converts the rows of a table to inputs of a model of tables, or of texts in one column."""
    tables.check_width(table, features.width, features.target)
    if features.kind == "table":
        inputs = table_columns.encode(table, features.columns)
        for line in table_columns.describe_unseen(table, features.columns, inputs):
            print(line, file=sys.stderr, flush=True)
        return Chunk(names=names, inputs=inputs, labels=_labels(features, table))
    if tables.clean_name(config.text) not in table.columns:
        known = ", ".join(table.named)
        raise UserError(f"inputs: '{table.name}' lacks the text column '{config.text}'; it has {known}")
    found = TableTexts(table, config.text)
    texts = [found.text(row) for row in range(len(found))]
    return Chunk(names=names, inputs=_tokens(features, texts, names), labels=_labels(features, table))


def _tokens(features: Features, texts: list[str], names: list[str]) -> np.ndarray:
    chosen = Tokenizer(features.tokenizer)
    return text_splits.encode(texts, chosen, features.shape[0], name=lambda row: f"'{names[row]}'", field="inputs")


def _labels(features: Features, table: tables.Table) -> list[str | float | None] | None:
    if features.target not in table.columns:
        return None
    array = table.columns[features.target]
    if features.task == "regression":
        values = tables.numbers(table, features.target, array)
        return [None if np.isnan(value) else float(value) for value in values]
    numeric = are_spelled(features.class_names) if tables.is_text(array) else True
    return tables.labels(table, features.target, numeric=numeric)
