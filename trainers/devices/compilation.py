"""The persistent cache of compiled programs."""

import pathlib
import warnings
import zlib
from contextlib import suppress

import jax

from data import cache

# JAX's suffix of a stored program, and our file whose time is that of the last check.
_ENTRIES, _CHECKED = "*-cache", ".checked"
# Times of files may be rounded, on some file systems to two seconds.
_ROUNDING_SECONDS = 2.0
_CHUNK = 2**20


def keep_programs(folder: str, cache_dir: str) -> None:
    """Stores compiled programs on disk, for later processes.

    Args:
      folder: of the programs; "" means beside the data caches, "none" stores nothing.
      cache_dir: the config's `data.cache_dir`.
    """
    if folder == "none":
        return
    path = pathlib.Path(folder).expanduser() if folder else cache.writable_folder(cache_dir) / "programs"
    remove_damaged(path)
    jax.config.update("jax_compilation_cache_dir", str(path))
    # By default JAX stores only programs that took a second to compile. Many programs here take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # Another process may be storing the program at this moment. It is compiled here as well; nothing needs to be done.
    warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")


def remove_damaged(folder: pathlib.Path) -> None:
    """Removes the stored programs that a kill or a full disk has cut short, so that they are stored again.

    JAX writes a program under its final name. It compiles again what it cannot read, but never replaces it. Each entry
    is read once: only those that were written since the last check are looked at. An entry that another process is
    writing may be removed as well; it is then stored by the next process that compiles it.

    Args:
      folder: of the programs; it need not exist.
    """
    try:
        checked = folder / _CHECKED
        since = checked.stat().st_mtime - _ROUNDING_SECONDS if checked.exists() else 0.0
        if folder.is_dir():
            checked.touch()
        for entry in folder.glob(_ENTRIES):
            with suppress(FileNotFoundError):  # Another process has removed it.
                if entry.stat().st_mtime >= since and not _is_whole(entry):
                    entry.unlink()
    except OSError:
        # A cache that cannot be read or written is no reason to stop; JAX compiles without it.
        return


def _is_whole(entry: pathlib.Path) -> bool:
    """Whether a stored program ends where it should. Files that are not compressed by zlib count as whole."""
    stream = zlib.decompressobj()
    with entry.open("rb") as file:
        first = file.read(_CHUNK)
        if len(first) > 1 and (first[0] != 0x78 or int.from_bytes(first[:2], "big") % 31):
            return True  # By Zstandard, which JAX uses where it is installed.
        try:
            for chunk in (first, *iter(lambda: file.read(_CHUNK), b"")):
                stream.decompress(chunk)
        except zlib.error:
            return False
    return stream.eof
