"""A cache of arrays: they are made once and memory-mapped from disk at every later start."""

import atexit
import errno
import functools
import hashlib
import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping

import numpy as np

from plumbline import UserError
from plumbline.files import replace_atomically

# Version of the layout of a cache folder. Increase it when the stored content or its decoding changes.
VERSION = 2
# The check of an array reads evenly spaced blocks. It is fast at any size and finds truncated and zeroed files.
_BLOCKS, _BLOCK_BYTES = 64, 4096

# The folder is another user's, on a read-only disk, below a file, or behind a dangling link.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)

Arrays = dict[str, np.ndarray]


def folder(cache_dir: str) -> pathlib.Path:
    """Returns the folder of all caches.

    Args:
      cache_dir: `config.data.cache_dir`; "" means $PLUMBLINE_CACHE, else ~/.cache/plumbline.
    """
    chosen = cache_dir or os.environ.get("PLUMBLINE_CACHE", "") or pathlib.Path("~/.cache/plumbline")
    return pathlib.Path(chosen).expanduser()


def writable_folder(cache_dir: str) -> pathlib.Path:
    """Returns `folder(cache_dir)` or, if it cannot be written, a folder that is removed when the process ends."""
    return _writable(folder(cache_dir))


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
    path = _path(folder(cache_dir), key)
    arrays = _load(path)
    if arrays is None:
        path = _path(writable_folder(cache_dir), key)
        arrays = _load(path)
    if arrays is None:
        if path.exists():
            logging.warning("The cache %s is damaged and is made again.", path)
        _make(path, make)
        arrays = _load(path)
    if arrays is None:
        raise UserError(f"data.cache_dir: the cache {path} cannot be read back; choose another folder")
    return arrays


def _path(root: pathlib.Path, key: Mapping[str, object]) -> pathlib.Path:
    text = json.dumps({**key, "version": VERSION}, sort_keys=True)
    return root / "decoded" / hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _writable(wanted: pathlib.Path) -> pathlib.Path:
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            return wanted  # A full disk is an error of what is written.
        replacement = pathlib.Path(tempfile.mkdtemp(prefix="plumbline-cache-"))
        atexit.register(shutil.rmtree, replacement, ignore_errors=True)
        print(
            f"data.cache_dir: '{wanted}' cannot be written ({error.strerror}), so nothing is cached for later starts; "
            "choose another folder",
            file=sys.stderr,
            flush=True,
        )
        return replacement


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
