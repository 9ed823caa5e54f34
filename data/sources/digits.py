"""`digits`: the handwritten digits that scikit-learn ships, as a TFDS set of our own; it needs no network."""

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
# Rows come writer by writer, and this is about where each writer's begin: scikit-learn does not tell, so a row or two
# at a boundary may be its neighbour's. The last three writers are the test, as random rows would be judged by models
# that know the hand that wrote them.
WRITER_STARTS = (0, 130, 256, 386, 516, 646, 776, 915, 1029, 1157, 1287, 1415, 1545, 1667)
NUM_ROWS, TEST_START = 1797, 1415
ROWS = {"train": range(TEST_START), "test": range(TEST_START, NUM_ROWS)}


def open_source(name: str, config: ml_collections.ConfigDict) -> "DigitsSource":
    """The digits; `name` is empty."""
    del name
    return DigitsSource(config)


def encoded_rows(rows: range):
    """Image (an open PNG file, 8x8 grey, 0 to 255), label and writer of each of `rows`."""
    import PIL.Image
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    writers = writers_of(np.arange(NUM_ROWS))
    for row in rows:
        # Ink comes in 0 to 16.
        ink = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        file = io.BytesIO()
        PIL.Image.fromarray(ink).save(file, format="PNG")
        file.seek(0)
        yield row, {"image": file, "label": int(digits.target[row]), "writer": int(writers[row])}


def writers_of(rows: np.ndarray) -> np.ndarray:
    """The writer of each row, int32 from 0."""
    return (np.searchsorted(WRITER_STARTS, rows, side="right") - 1).astype(np.int32)


class DigitsSource:
    """The digits, with their writers as groups; see `data.sources.source.Source`.

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
        """The first eleven writers ("train") or the last three ("test")."""
        fingerprint = f"{NAME}/{VERSION} {name} {len(ROWS[name])}"
        root = cache.folder(self._config.cache_dir) / "tfds"
        records = _PreparedRecords(root, name)
        stored = cache.stored(
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
        """The digits have no paths."""
        raise UserError(f"data.test: '{path}' is not possible for the digits; write 'auto' or 'N percent'")


class _PreparedRecords(TfdsRecords):
    """Records of a set that is prepared when first read, so that a start from the cache never imports TFDS."""

    def __init__(self, root: pathlib.Path, split: str):
        super().__init__(str(root / NAME / VERSION), split, "image")
        self._root = str(root)

    def __getstate__(self):
        return {**super().__getstate__(), "_root": self._root}

    def __len__(self) -> int:
        return len(ROWS[self._arguments[1]])

    def _opened(self):
        if self._source is None:
            prepare(pathlib.Path(self._root))
        return super()._opened()


def prepare(root: pathlib.Path) -> None:
    """Prepares the digits under the TFDS folder `root`, unless they are there.

    Each process prepares in a folder of its own and renames the finished set into place: the first one stays.
    """
    target = root / NAME / VERSION
    if target.exists():
        return
    from data.sources.digits_builder import PlumblineDigits

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}.", dir=root) as folder:
        # TFDS draws progress bars and tells where it puts a set, for which there is no switch.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder = PlumblineDigits(data_dir=folder, file_format="array_record")
            builder.download_and_prepare()
        try:
            os.replace(builder.data_path, target)
        except OSError:
            # Another process was quicker.
            if not target.exists():
                raise


def _write_labels(records: TfdsRecords, folder: pathlib.Path) -> None:
    examples = [records.example(row) for row in range(len(records))]
    np.save(folder / "labels.npy", np.array([example["label"] for example in examples], np.int32))
    np.save(folder / "writers.npy", np.array([example["writer"] for example in examples], np.int32))
