"""Files that a kill or a full disk leaves whole: written completely or not at all, or extended by whole lines."""

import contextlib
import glob
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def expand_home(path: str | os.PathLike) -> str:
    """Returns a path with the home in place of `~` or `~user` at its beginning, which shells leave in `--flag=~`."""
    return os.path.expanduser(os.fspath(path))  # noqa: PTH111 (pathlib removes "./", and fails on unknown users)


def describe_missing(path: str | os.PathLike, wanted: str = "folder") -> str:
    """Says why there is no such folder or file: it is a link to nothing, or it or a folder above it is a file.

    Args:
      path: that was looked for.
      wanted: what it should be, such as "folder" or "file or folder".
    """
    for place in (pathlib.Path(path), *pathlib.Path(path).parents):
        # The functions of `os.path` raise no error where a folder above is not readable.
        if os.path.islink(place) and not os.path.exists(place):  # noqa: PTH110, PTH114
            return f"'{place}' is a link to '{os.readlink(place)}', which does not exist"  # noqa: PTH115
        if os.path.isfile(place):  # noqa: PTH113
            return f"'{place}' is a file, not a folder"
    return f"no such {wanted} '{path}'"


@contextlib.contextmanager
def replace_atomically(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, and renames it to `path` when the block ends without an error.

    A reader sees the old file or the new one, never a part of it. Folders work as well, if `path` does not exist yet.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def remove_unfinished(path: str | os.PathLike) -> None:
    """Removes what a killed `replace_atomically` left beside `path`. No other process may be writing `path`."""
    path = pathlib.Path(path)
    # As `tempfile` names folders: eight characters after the prefix.
    for folder in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` (UTF-8) to `path` atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Mapping[str, Any]) -> None:
    """Writes figures; those that are not finite become null."""
    write_text(path, json.dumps(replace_non_finite(value), indent=2) + "\n")


def append_line(path: str | os.PathLike, line: str) -> None:
    """Adds a line (UTF-8) at the end of a file, which is created if it is missing. One process writes at a time.

    A half line at the end, which a power cut or a full disk has left, is removed first.
    """
    remove_half_line(path)
    with pathlib.Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def remove_half_line(path: str | os.PathLike) -> None:
    """Removes what stands after the last line break of a file, which may be missing."""
    path = pathlib.Path(path)
    if not path.exists() or not (size := path.stat().st_size):
        return
    with path.open("rb") as file:
        file.seek(size - 1)
        if file.read() == b"\n":
            return
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def replace_non_finite(value: Any) -> Any:
    """Returns a value for JSON, with None for every number in it that is not finite."""
    if isinstance(value, Mapping):
        return {name: replace_non_finite(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
