"""From encoded images to the inputs of a split: a cache that is mapped, or a stream that decodes as it goes."""

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

# Images that one task of the decoding threads takes.
_CHUNK = 64


def format_of(part: Part, config: ml_collections.ConfigDict) -> ImageFormat:
    """The format of a set, as the config and the first of its images say.

    Raises:
      UserError: a field has no such value, or the first image is corrupt.
    """
    choices = {"image_size": config.image_size, "channels": config.channels, "resize": config.resize}
    key = {"format_of": part.cache_key, **choices}

    def measure(folder: pathlib.Path) -> None:
        # The first image is read only once: it may lie in a set that takes time to open.
        found = images.image_format(part.records.encoded(0), part.records.name(0), **choices)
        np.save(folder / "shape.npy", np.array(found.shape))

    shape = tuple(cache.stored(config.cache_dir, key, measure)["shape"].tolist())
    return ImageFormat(
        shape=shape, resize=config.resize, fixed_size=config.image_size == 0, fixed_channels=config.channels == 0
    )


def make_split(part: Part, rows: np.ndarray, image_format: ImageFormat, config: ml_collections.ConfigDict) -> Split:
    """The split of `rows` (n,) of a part.

    Raises:
      UserError: more images are corrupt than `config.max_corrupt` allows, or one has another shape than the first.
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
    decoded, corrupt = _cached(part, image_format, config)
    weights = part.weights.copy()
    weights[corrupt] = 0
    # Rows of a prepared set have no names of their own, and are all that its users know them by.
    reader = FilesReader(decoded, rows, part.records) if isinstance(part.records, FileRecords) else None
    return split(weights=weights[rows], reader=reader or ArrayReader(decoded, rows))


class FilesReader(ArrayReader):
    """Decoded images, and the files that they came from.

    Args:
      decoded: (N, H, W, C) uint8 of the whole part.
      rows: (n,) of the part that belong to the split.
      records: encoded images of the whole part.
    """

    def __init__(self, decoded: np.ndarray, rows: np.ndarray, records: Records):
        super().__init__(decoded, rows)
        self._records = records

    def name(self, position: int) -> str:
        """What the user knows the image by."""
        return self._records.name(int(self._indices[position]))

    def encoded(self, position: int) -> bytes:
        """The image file."""
        return self._records.encoded(int(self._indices[position]))


class DecodingReader:
    """Inputs decoded when they are read.

    Args:
      records: encoded images of the whole part.
      rows: (n,) those of the split.
      image_format: what they are brought to.
    """

    in_memory = False

    def __init__(self, records: Records, rows: np.ndarray, image_format: ImageFormat):
        self._records, self._rows, self._format = records, rows, image_format

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (B, H, W, C) uint8 at `positions`, and which are sound (B,) bool."""
        decoded = np.zeros((len(positions), *self._format.shape), np.uint8)
        sound = np.ones(len(positions), bool)
        for index, row in enumerate(self._rows[positions].tolist()):
            sound[index] = _decode_into(decoded[index], self._records, row, self._format)
        return decoded, sound

    def name(self, position: int) -> str:
        """What the user knows the image by."""
        return self._records.name(int(self._rows[position]))

    def encoded(self, position: int) -> bytes:
        """The image file."""
        return self._records.encoded(int(self._rows[position]))


def _cached(part: Part, image_format: ImageFormat, config: ml_collections.ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """All images of a part (N, H, W, C), and the rows of the corrupt ones."""
    import PIL

    key = {
        "images": part.cache_key,
        "shape": image_format.shape,
        "resize": image_format.resize,
        "fixed": [image_format.fixed_size, image_format.fixed_channels],
        "pillow": PIL.__version__,
    }
    stored = cache.stored(
        config.cache_dir, key, lambda folder: _decode_all(part.records, image_format, config.max_corrupt, folder)
    )
    corrupt = stored["corrupt"]
    if len(corrupt) > config.max_corrupt:
        raise too_many_corrupt(part.records.name(int(corrupt[0])), len(corrupt), config.max_corrupt)
    return stored["images"], corrupt


def _decode_all(records: Records, image_format: ImageFormat, max_corrupt: int, folder: pathlib.Path) -> None:
    """Decodes in threads, as Pillow lets go of the interpreter's lock, straight into a mapped file."""
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
            # Told at once, not after all the rest is decoded.
            threads.shutdown(cancel_futures=True)
            raise
    decoded.flush()
    np.save(folder / "corrupt.npy", np.array(corrupt, np.int64))


def _decode_chunk(records: Records, image_format: ImageFormat, decoded: np.ndarray, start: int) -> list[int]:
    """Decodes one chunk in place, and gives the rows of its corrupt images."""
    rows = range(start, min(start + _CHUNK, len(records)))
    return [row for row in rows if not _decode_into(decoded[row], records, row, image_format)]


def _decode_into(target: np.ndarray, records: Records, row: int, image_format: ImageFormat) -> bool:
    """Decodes one image in place; False, and zeros stay, if it is corrupt."""
    try:
        encoded = records.encoded(row)
        target[...] = images.decode(encoded, records.name(row), image_format)
    except CorruptImageError:
        return False
    return True


def chunks(split: Split, positions: np.ndarray, size: int = 1024) -> Iterator[np.ndarray]:
    """Raw inputs of the sound examples at `positions`, `size` at a time."""
    for start in range(0, len(positions), size):
        inputs = split.read(positions[start : start + size])
        yield inputs[split.weights[positions[start : start + size]] > 0]
