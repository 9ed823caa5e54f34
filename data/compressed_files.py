"""Opening files that may be compressed, by the ending of their names in any letter case."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from plumbline import UserError

ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError)
"""What reading a damaged file raises."""

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def open_text(file: pathlib.Path, encoding: str) -> io.TextIOBase:
    """Opens the text of a file, decompressed and without its byte order mark."""
    # Arrow drops the byte order mark as well.
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return io.TextIOWrapper(open_bytes(file), encoding=encoding, newline="")


def open_bytes(file: pathlib.Path) -> io.BufferedIOBase:
    """Opens the content of a file, decompressed."""
    match file.suffix.lower():
        case ".gz":
            return gzip.open(file)
        case ".bz2":
            return bz2.open(file)
        case ".xz":
            return lzma.open(file)
        case ".zip":
            return _open_zip(file)
        case ".zst":
            import pyarrow

            return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file.open("rb")), "zstd"))
    return file.open("rb")


def _open_zip(file: pathlib.Path) -> io.BufferedIOBase:
    with zipfile.ZipFile(file) as archive:
        members = [
            name
            for name in archive.namelist()
            if not name.endswith("/")
            and not name.startswith("__MACOSX/")
            and not pathlib.Path(name).name.startswith(".")
        ]
        if len(members) != 1:
            names = ", ".join(members[:5])
            raise UserError(f"data.source: '{file}' has {len(members)} files ({names}); give an archive with one table")
        # The file stays open as long as the member is.
        return archive.open(members[0])


@contextlib.contextmanager
def open_arrow(file: pathlib.Path) -> Iterator:
    """Opens a file for pyarrow; a plain one without Python in between."""
    if file.suffix.lower() not in _COMPRESSED and not has_strange_name(file):
        yield str(file)
        return
    with open_bytes(file) as stream:
        yield stream


def has_strange_name(file: pathlib.Path) -> bool:
    """Returns whether a file has a name that is not UTF-8, which pyarrow cannot open."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return True
    return False
