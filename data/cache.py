"""A cache of arrays: they are made once and memory-mapped from disk at every later start."""

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from plumbline import UserError
from plumbline.files import replace_atomically

# Version of the layout of a cache folder. Increase it when the stored content or its decoding changes.
VERSION = 2
# The check of an array reads evenly spaced blocks. It is fast at any size and finds truncated and zeroed files.
_BLOCKS, _BLOCK_BYTES = 64, 4096

Arrays = dict[str, np.ndarray]


def folder(cache_dir: str) -> pathlib.Path:
    """Returns the folder of all caches.

    Args:
      cache_dir: `config.data.cache_dir`; "" means $PLUMBLINE_CACHE, else ~/.cache/plumbline.
    """
    chosen = cache_dir or os.environ.get("PLUMBLINE_CACHE", "") or pathlib.Path("~/.cache/plumbline")
    return pathlib.Path(chosen).expanduser()


def load_or_make(cache_dir: str, key: Mapping[str, object], make: Callable[[pathlib.Path], None]) -> Arrays:
    """Maps arrays from the cache. Arrays that are missing or damaged are made first.

    A cache folder is created atomically, so several processes may make the same one.

    Args:
      cache_dir: `config.data.cache_dir`.
      key: everything the arrays depend on, as plain values.
      make: function that writes the arrays as `<name>.npy` into the empty folder it receives.

    Returns:
      The arrays by name, mapped read-only.

    Raises:
      UserError: the cache cannot be written or read back.
    """
    path = _path(cache_dir, key)
    arrays = _load(path)
    if arrays is None:
        if path.exists():
            logging.warning("The cache %s is damaged and is made again.", path)
        _make(path, make)
        arrays = _load(path)
    if arrays is None:
        raise UserError(f"data.cache_dir: the cache {path} cannot be read back; choose another folder")
    return arrays


def _path(cache_dir: str, key: Mapping[str, object]) -> pathlib.Path:
    text = json.dumps({**key, "version": VERSION}, sort_keys=True)
    return folder(cache_dir) / "decoded" / hashlib.sha256(text.encode()).hexdigest()[:32]


def _make(path: pathlib.Path, make: Callable[[pathlib.Path], None]) -> None:
    logging.info("Making the cache %s.", path)
    try:
        with replace_atomically(path) as temporary:
            temporary.mkdir()
            make(temporary)
            sums = {file.name: _checksum(file) for file in sorted(temporary.glob("*.npy"))}
            (temporary / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
            if path.exists():
                # A folder cannot be renamed over another one. Move the damaged one into the temporary folder, which is
                # deleted.
                os.replace(path, temporary.parent / "damaged")
    except OSError as error:
        # Another process may have made the same folder meanwhile.
        if _load(path) is None:
            raise UserError(
                f"data.cache_dir: the cache {path} cannot be written ({error}); free space or choose another folder"
            ) from None


def _load(path: pathlib.Path) -> Arrays | None:
    """Loads the arrays of a cache folder. Returns None if it is missing or damaged."""
    try:
        sums = json.loads((path / "sums.json").read_text(encoding="utf-8"))
        if any(_checksum(path / name) != checksum for name, checksum in sums.items()):
            return None
        return {pathlib.Path(name).stem: _map(path / name) for name in sums}
    except (OSError, ValueError, AttributeError):
        return None


def _map(path: pathlib.Path) -> np.ndarray:
    # Small arrays are read: mapping gains nothing, and an empty file cannot be mapped.
    array = np.load(path, mmap_mode=None if path.stat().st_size <= 4096 else "r")
    array.setflags(write=False)
    return array


def _checksum(path: pathlib.Path) -> str:
    """Computes a checksum of the size and of evenly spaced blocks."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in np.linspace(0, max(size - _BLOCK_BYTES, 0), _BLOCKS).astype(int).tolist():
            file.seek(start)
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
