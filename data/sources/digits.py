"""`digits`: the handwritten digits of scikit-learn as a TFDS data set. Needs no network."""

import contextlib
import io
import os
import pathlib
import tempfile

import ml_collections
import numpy as np

from data import cache
from data.sources.source import Part
from data.sources.tfds import TfdsRecords
from plumbline import UserError

NAME, VERSION = "plumbline_digits", "1.0.0"
# Rows are ordered by writer. These are estimates of the first row of each writer, which scikit-learn does not give; a
# row or two at a boundary may belong to the neighbour. The last three writers are the test split: with random rows,
# models would be tested on writers seen in training.
WRITER_STARTS = (0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1545, 1667)
NUM_ROWS, TEST_START = 1797, 1415
ROWS = {"train": range(TEST_START), "test": range(TEST_START, NUM_ROWS)}


def open_source(name: str, config: ml_collections.ConfigDict) -> "DigitsSource":
    """Opens the digits; `name` is empty."""
    del name
    return DigitsSource(config)


def encode_rows(rows: range):
    """Yields the image (an open PNG file, 8x8 grey, 0 to 255), label and writer of each of `rows`."""
    import PIL.Image
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    writers = find_writers(np.arange(NUM_ROWS))
    for row in rows:
        # Values are 0 to 16.
        ink = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        file = io.BytesIO()
        PIL.Image.fromarray(ink).save(file, format="PNG")
        file.seek(0)
        yield row, {"image": file, "label": int(digits.target[row]), "writer": int(writers[row])}


def find_writers(rows: np.ndarray) -> np.ndarray:
    """Returns the writer of each row, int32 from 0."""
    return (np.searchsorted(WRITER_STARTS, rows, side="right") - 1).astype(np.int32)


class DigitsSource:
    """The digits with writers as groups; see `data.sources.source.Source`.

    Args:
      config: `config.data`.
    """

    part_names = ("train", "test")
    class_names = tuple(str(digit) for digit in range(10))
    group_names = tuple(f"writer {writer}" for writer in range(len(WRITER_STARTS)))
    target = "label"

    def __init__(self, config: ml_collections.ConfigDict):
        self._config = config

    def part(self, name: str) -> Part:
        """Reads the first eleven writers ("train") or the last three ("test")."""
        fingerprint = f"{NAME}/{VERSION} {name} {len(ROWS[name])}"
        root = cache.writable_folder(self._config.cache_dir) / "tfds"
        records = _PreparedRecords(root, name)
        stored = cache.load_or_make(
            self._config.cache_dir,
            {"labels": fingerprint},
            lambda folder: _write_labels(records, folder),
        )
        return Part(
            labels=stored["labels"],
            groups=stored["writers"],
            weights=np.ones(len(ROWS[name]), np.float32),
            fingerprint=fingerprint,
            cache_key=fingerprint,
            first_row=ROWS[name].start,
            records=records,
        )

    def other(self, path: str) -> Part:
        """Raises an error: the digits have no other paths."""
        raise UserError(f"data.test: '{path}' is not supported for the digits; write 'auto' or 'N percent'")


class _PreparedRecords(TfdsRecords):
    """Records of a data set that is prepared when it is first read. A start from the cache does not import TFDS."""

    def __init__(self, root: pathlib.Path, split: str):
        super().__init__(str(root / NAME / VERSION), split, "image")
        self._root = str(root)

    def __getstate__(self):
        return {**super().__getstate__(), "_root": self._root}

    def __len__(self) -> int:
        return len(ROWS[self._arguments[1]])

    def _open(self):
        if self._source is None:
            prepare(pathlib.Path(self._root))
        return super()._open()


def prepare(root: pathlib.Path) -> None:
    """Prepares the digits in the TFDS folder `root`, unless they exist.

    Each process prepares them in a temporary folder and renames it when finished; the first one wins.
    """
    target = root / NAME / VERSION
    if target.exists():
        return
    from data.sources.digits_builder import PlumblineDigits

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}.", dir=root) as folder:
        # TFDS prints progress bars and paths, which cannot be switched off.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder = PlumblineDigits(data_dir=folder, file_format="array_record")
            builder.download_and_prepare()
        try:
            os.replace(builder.data_path, target)
        except OSError:
            # Another process was faster.
            if not target.exists():
                raise


def _write_labels(records: TfdsRecords, folder: pathlib.Path) -> None:
    examples = [records.example(row) for row in range(len(records))]
    np.save(folder / "labels.npy", np.array([example["label"] for example in examples], np.int32))
    np.save(folder / "writers.npy", np.array([example["writer"] for example in examples], np.int32))
