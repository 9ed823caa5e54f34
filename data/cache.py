"""Arrays that are made once and then mapped from disk at every later start."""

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from plumbline import UserError
from plumbline.files import replaced

# Layout of a cache folder; raised when what is stored or how it is decoded changes.
VERSION = 1
# The check of an array reads this many blocks, evenly spaced: quick at any size, and it finds cut and blanked files.
_BLOCKS, _BLOCK_BYTES = 64, 4096

Arrays = dict[str, np.ndarray]


def folder(cache_dir: str) -> pathlib.Path:
    """The folder of all caches.

    Args:
      cache_dir: `config.data.cache_dir`; "" for $PLUMBLINE_CACHE, or else ~/.cache/plumbline.
    """
    chosen = cache_dir or os.environ.get("PLUMBLINE_CACHE", "") or pathlib.Path("~/.cache/plumbline")
    return pathlib.Path(chosen).expanduser()


def stored(cache_dir: str, key: Mapping[str, object], make: Callable[[pathlib.Path], None]) -> Arrays:
    """Arrays mapped from the cache, which are made first if they are not there or damaged.

    The cache folder appears whole or not at all, so processes that make the same one do not break each other.

    Args:
      cache_dir: `config.data.cache_dir`.
      key: everything that the arrays depend on, as plain values.
      make: writes the arrays as `<name>.npy` into the empty folder it is given.

    Returns:
      The arrays by name, mapped read-only.

    Raises:
      UserError: the cache cannot be written or read back.
    """
    path = _path(cache_dir, key)
    arrays = _load(path)
    if arrays is None:
        if path.exists():
            logging.warning("The cache %s is damaged and is made anew.", path)
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
        with replaced(path) as temporary:
            temporary.mkdir()
            make(temporary)
            sums = {file.name: _checksum(file) for file in sorted(temporary.glob("*.npy"))}
            (temporary / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
            if path.exists():
                # A folder cannot be renamed over another: the damaged one steps aside, and goes with the temporary one.
                os.replace(path, temporary.parent / "damaged")
    except OSError as error:
        # Another process may have been quicker; then its folder is as good.
        if _load(path) is None:
            raise UserError(
                f"data.cache_dir: the cache {path} cannot be made ({error}); free space there or choose another folder"
            ) from None


def _load(path: pathlib.Path) -> Arrays | None:
    """The arrays of a cache folder, or None if it is missing or damaged."""
    try:
        sums = json.loads((path / "sums.json").read_text(encoding="utf-8"))
        if any(_checksum(path / name) != checksum for name, checksum in sums.items()):
            return None
        return {pathlib.Path(name).stem: _mapped(path / name) for name in sums}
    except (OSError, ValueError, AttributeError):
        return None


def _mapped(path: pathlib.Path) -> np.ndarray:
    # Small arrays are read whole: there is nothing to gain, and one without elements cannot be mapped.
    array = np.load(path, mmap_mode=None if path.stat().st_size <= 4096 else "r")
    array.setflags(write=False)
    return array


def _checksum(path: pathlib.Path) -> str:
    """Of the size and of evenly spaced blocks."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in np.linspace(0, max(size - _BLOCK_BYTES, 0), _BLOCKS).astype(int).tolist():
            file.seek(start)
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
