"""Splits of images: decoded once into a memory-mapped cache, or decoded when they are read."""

import functools
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import ml_collections
import numpy as np

from data import cache, images
from data.images import CorruptImageError, ImageFormat
from data.sources.folder import FileRecords
from data.sources.source import Part, Records
from data.split import ArrayReader, Split, too_many_corrupt
from plumbline import UserError

# Number of images in one task of the decoding threads.
_CHUNK = 64


def find_format(part: Part, config: ml_collections.ConfigDict) -> ImageFormat:
    """Finds the image format of a data set from the config and its first image.

    Raises:
      UserError: a field has an invalid value, or the first image is corrupt.
    """
    choices = {"image_size": config.image_size, "channels": config.channels, "resize": config.resize}
    key = {"format_of": part.cache_key, **choices}

    def measure(folder: pathlib.Path) -> None:
        # The first image is read only once, because opening the data set may take time.
        found = images.infer_format(part.records.read_encoded(0), part.records.name(0), **choices)
        np.save(folder / "shape.npy", np.array(found.shape))

    shape = tuple(cache.load_or_make(config.cache_dir, key, measure)["shape"].tolist())
    return ImageFormat(
        shape=shape, resize=config.resize, fixed_size=config.image_size == 0, fixed_channels=config.channels == 0
    )


def make_split(part: Part, rows: np.ndarray, image_format: ImageFormat, config: ml_collections.ConfigDict) -> Split:
    """Makes the split of `rows` (n,) of a part.

    Raises:
      UserError: more images are corrupt than `config.max_corrupt` allows, or one has another shape
        than the first.
    """
    split = functools.partial(
        Split,
        labels=part.labels[rows],
        groups=None if part.groups is None else part.groups[rows],
        rows=rows + part.first_row,
        max_corrupt=config.max_corrupt,
    )
    decoded_bytes = len(part) * int(np.prod(image_format.shape))
    if decoded_bytes > config.cache_limit_gib * 2**30:
        return split(weights=part.weights[rows], reader=DecodingReader(part.records, rows, image_format))
    decoded, corrupt = _load_decoded(part, image_format, config)
    weights = part.weights.copy()
    weights[corrupt] = 0
    # Examples of a prepared data set have no names but their row numbers.
    reader = FilesReader(decoded, rows, part.records) if isinstance(part.records, FileRecords) else None
    return split(weights=weights[rows], reader=reader or ArrayReader(decoded, rows))


class FilesReader(ArrayReader):
    """Decoded images and the files they came from.

    Args:
      decoded: (N, H, W, C) uint8, all images of the part.
      rows: (n,) rows of the part that belong to the split.
      records: all encoded images of the part.
    """

    def __init__(self, decoded: np.ndarray, rows: np.ndarray, records: Records):
        super().__init__(decoded, rows)
        self._records = records

    def name(self, position: int) -> str:
        """Returns the name of the image, for messages."""
        return self._records.name(int(self._indices[position]))

    def read_encoded(self, position: int) -> bytes:
        """Returns the content of the image file."""
        return self._records.read_encoded(int(self._indices[position]))


class DecodingReader:
    """Images that are decoded when they are read.

    Args:
      records: all encoded images of the part.
      rows: (n,) rows of the part that belong to the split.
      image_format: format that they are converted to.
    """

    in_memory = False

    def __init__(self, records: Records, rows: np.ndarray, image_format: ImageFormat):
        self._records, self._rows, self._format = records, rows, image_format

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads images (B, H, W, C) uint8 at `positions`, and a mask (B,) bool of the valid ones."""
        decoded = np.zeros((len(positions), *self._format.shape), np.uint8)
        valid = np.ones(len(positions), bool)
        for index, row in enumerate(self._rows[positions].tolist()):
            valid[index] = _decode_into(decoded[index], self._records, row, self._format)
        return decoded, valid

    def name(self, position: int) -> str:
        """Returns the name of the image, for messages."""
        return self._records.name(int(self._rows[position]))

    def read_encoded(self, position: int) -> bytes:
        """Returns the content of the image file."""
        return self._records.read_encoded(int(self._rows[position]))


def _load_decoded(
    part: Part, image_format: ImageFormat, config: ml_collections.ConfigDict
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images of a part (N, H, W, C) and the rows of the corrupt ones."""
    import PIL

    key = {
        "images": part.cache_key,
        "shape": image_format.shape,
        "resize": image_format.resize,
        "fixed": [image_format.fixed_size, image_format.fixed_channels],
        "pillow": PIL.__version__,
    }
    stored = cache.load_or_make(
        config.cache_dir, key, lambda folder: _decode_all(part.records, image_format, config.max_corrupt, folder)
    )
    corrupt = stored["corrupt"]
    if len(corrupt) > config.max_corrupt:
        raise too_many_corrupt(part.records.name(int(corrupt[0])), len(corrupt), config.max_corrupt)
    return stored["images"], corrupt


def _decode_all(records: Records, image_format: ImageFormat, max_corrupt: int, folder: pathlib.Path) -> None:
    """Decodes into a memory-mapped file, in threads: Pillow releases the interpreter lock."""
    shape = (len(records), *image_format.shape)
    decoded = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    corrupt = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        decode = functools.partial(_decode_chunk, records, image_format, decoded)
        try:
            for found in threads.map(decode, range(0, len(records), _CHUNK)):
                corrupt.extend(found)
                if len(corrupt) > max_corrupt:
                    raise too_many_corrupt(records.name(corrupt[0]), len(corrupt), max_corrupt)
        except UserError:
            # Report it without decoding the rest.
            threads.shutdown(cancel_futures=True)
            raise
    decoded.flush()
    np.save(folder / "corrupt.npy", np.array(corrupt, np.int64))


def _decode_chunk(records: Records, image_format: ImageFormat, decoded: np.ndarray, start: int) -> list[int]:
    """Decodes one chunk in place and returns the rows of its corrupt images."""
    rows = range(start, min(start + _CHUNK, len(records)))
    return [row for row in rows if not _decode_into(decoded[row], records, row, image_format)]


def _decode_into(target: np.ndarray, records: Records, row: int, image_format: ImageFormat) -> bool:
    """Decodes one image in place. Returns False, leaving zeros, if it is corrupt."""
    try:
        encoded = records.read_encoded(row)
        target[...] = images.decode(encoded, records.name(row), image_format)
    except CorruptImageError:
        return False
    return True


def read_chunks(split: Split, positions: np.ndarray, size: int = 1024) -> Iterator[np.ndarray]:
    """Yields raw inputs of the valid examples at `positions`, at most `size` at a time."""
    for start in range(0, len(positions), size):
        inputs = split.read(positions[start : start + size])
        yield inputs[split.weights[positions[start : start + size]] > 0]
