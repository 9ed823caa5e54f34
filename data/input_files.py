"""Which files of a folder are inputs: one rule for training, prediction and preparation."""

import dataclasses
import os
import pathlib
import stat
from collections.abc import Iterable
from typing import NamedTuple

from data import images
from plumbline import UserError

# Folders and files that operating systems and tools leave behind.
_SYSTEM = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
# Number of endings that a description lists.
_LISTED = 5
_OTHER = "of another type"
_GONE = "no such file, or a link to a file that is gone"


class UnreadableFileError(UserError):
    """A file cannot be read.

    Attributes:
      reason: why.
    """

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of inputs, with its names in messages.

    Attributes:
      extensions: endings of its files, in lower case.
      noun: "images" or "texts".
      wanted: the endings, for messages.
    """

    extensions: tuple[str, ...]
    noun: str
    wanted: str

    def includes(self, name: str) -> bool:
        """Whether a file of this name is of this kind. Letter case does not matter."""
        return name.lower().endswith(self.extensions)


IMAGES = Kind(extensions=images.EXTENSIONS, noun="images", wanted=".png, .jpg or other image")
TEXTS = Kind(extensions=(".txt",), noun="texts", wanted=".txt")
LONG_TEXTS = Kind(extensions=(".txt", ".txt.gz"), noun="texts", wanted=".txt or .txt.gz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Files that are not used, for one reason.

    Attributes:
      number: number of files.
      reason: what they are, such as "of another type".
      example: path of one of them.
      endings: endings of files of another type, sorted.
    """

    number: int
    reason: str
    example: str
    endings: tuple[str, ...] = ()

    def describe(self) -> str:
        """Describes them, such as "2 files of another type (.json), such as 'a/b.json'"."""
        listed = ", ".join(self.endings[:_LISTED]) + (", ..." if len(self.endings) > _LISTED else "")
        number = "1 file" if self.number == 1 else f"{self.number:,} files"
        return f"{number} {self.reason}{f' ({listed})' if listed else ''}, such as '{self.example}'"


class File(NamedTuple):
    """A file that is an input. A named tuple, because there may be millions.

    Attributes:
      parts: path relative to the folder, in parts; files are sorted by it.
      size: size in bytes.
      time: modification time in nanoseconds.
    """

    parts: tuple[str, ...]
    size: int
    time: int

    @property
    def name(self) -> str:
        """Path relative to the folder."""
        return "/".join(self.parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """The files in a folder and below it.

    Attributes:
      files: the inputs, sorted by path.
      unreadable: path relative to the folder, and reason, of files and folders that cannot be read.
      left_out: files that are not used.
    """

    files: list[File]
    unreadable: list[tuple[str, str]]
    left_out: list[LeftOut]


def list_files(folder: str | os.PathLike, kind: Kind, *, nested: bool = True) -> Listing:
    """Lists the inputs in a folder and all folders below it. Links are followed.

    Not used are files of other types, hidden ones (whose name begins with "."), and what is no regular file. Hidden
    folders, and those that operating systems make, are not searched.

    Args:
      folder: path of the folder.
      kind: kind of the inputs.
      nested: whether folders below it are searched as well.
    """
    walk = _Walk(os.fspath(folder), kind, nested=nested)
    walk.search((), frozenset())
    return Listing(
        files=sorted(walk.files),
        unreadable=sorted(walk.unreadable),
        left_out=walk.left_out(),
    )


def refuse_unreadable(listing: Listing, folder: str | os.PathLike, field: str) -> None:
    """Raises an error for the first file or folder that cannot be read.

    Args:
      listing: files of the folder.
      folder: path of the folder.
      field: config field or argument that named it.

    Raises:
      UnreadableFileError: there is one.
    """
    for name, reason in listing.unreadable:
        raise unreadable(f"{os.fspath(folder)}/{name}" if name else os.fspath(folder), reason, field)


def contains(folder: str | os.PathLike, kind: Kind, *, nested: bool = True) -> bool:
    """Returns whether a folder has an input of this kind.

    Args:
      folder: path of the folder.
      kind: kind of the input.
      nested: whether folders below it count as well.
    """
    walk = _Walk(os.fspath(folder), kind, first_only=True, nested=nested)
    walk.search((), frozenset())
    return bool(walk.files)


def subfolders(path: pathlib.Path, field: str) -> list[pathlib.Path]:
    """Lists the folders in a folder that are searched, sorted by name.

    Raises:
      UnreadableFileError: the folder cannot be read, or has a link to nothing, which may have been a folder.
    """
    names, broken = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not _is_ignored(entry.name):
                    names += [entry.name] if _is_folder(entry) else []
                    broken += [entry.name] if _is_broken(entry) else []
    except OSError as error:
        raise unreadable(str(path), _reason(error), field) from None
    if broken:
        raise unreadable(f"{path}/{min(broken)}", _GONE, field)
    return [path / name for name in sorted(names)]


def merge_left_out(entries: Iterable[LeftOut]) -> list[LeftOut]:
    """Adds up entries of one reason, in the order of their first."""
    merged: dict[str, LeftOut] = {}
    for entry in entries:
        earlier = merged.get(entry.reason, dataclasses.replace(entry, number=0))
        endings = tuple(sorted({*earlier.endings, *entry.endings}))
        merged[entry.reason] = dataclasses.replace(earlier, number=earlier.number + entry.number, endings=endings)
    return list(merged.values())


def read_bytes(path: str | os.PathLike, field: str) -> bytes:
    """Reads a file.

    Raises:
      UnreadableFileError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (a pathlib path takes longer to make than to open)
            return file.read()
    except OSError as error:
        raise unreadable(os.fspath(path), _reason(error), field) from None


def unreadable(path: str, reason: str, field: str) -> UnreadableFileError:
    """Makes the error for a file or folder that cannot be read.

    Args:
      path: its path.
      reason: why.
      field: config field or argument that named it or its folder.
    """
    name = printable(path)
    return UnreadableFileError(f"{field}: '{name}' cannot be read ({reason}); make it readable, or remove it", reason)


def printable(path: str) -> str:
    """Returns a path that can be printed and written: bytes that are not UTF-8 become escapes of Python."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Walk:
    """The search of one folder."""

    def __init__(self, root: str, kind: Kind, *, first_only: bool = False, nested: bool = True):
        self._root, self._kind, self._first_only, self._nested = root, kind, first_only, nested
        self.files: list[File] = []
        self.unreadable: list[tuple[str, str]] = []
        # Number and example by reason.
        self._left_out: dict[str, tuple[int, str]] = {}
        self._others: set[str] = set()

    def search(self, parts: tuple[str, ...], above: frozenset[tuple[int, int]]) -> None:
        """Searches the folder at `parts`. The folders above it are identified by device and inode."""
        path, folders = "/".join((self._root, *parts)), []
        try:
            status = os.stat(path)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                self._leave_out("linking to a folder above", parts)
                return
            with os.scandir(path) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        folders += [] if _is_ignored(entry.name) else [entry.name]
                    elif not _is_system(entry.name):
                        self._add((*parts, entry.name), entry)
                    if self._is_over:
                        return
        except OSError as error:
            self.unreadable.append((printable("/".join(parts)), _reason(error)))
        for name in folders if self._nested else ():
            self.search((*parts, name), above | {identity})
            if self._is_over:
                return

    def left_out(self) -> list[LeftOut]:
        """The files that are not used; files of other types with their endings."""
        endings = {_OTHER: tuple(sorted(self._others))}
        return [
            LeftOut(number=number, reason=reason, example=example, endings=endings.get(reason, ()))
            for reason, (number, example) in self._left_out.items()
        ]

    @property
    def _is_over(self) -> bool:
        return self._first_only and bool(self.files)

    def _add(self, parts: tuple[str, ...], entry: os.DirEntry) -> None:
        ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if not ending and _is_broken(entry) and not _is_ignored(entry.name):
            # It may have been a folder.
            self.unreadable.append((printable("/".join(parts)), _GONE))
            return
        if not self._kind.includes(entry.name):
            if not entry.name.startswith("."):
                self._leave_out(_OTHER, parts)
                self._others.add(ending or "no ending")
            return
        if entry.name.startswith("."):
            self._leave_out("with a hidden name", parts)
            return
        try:
            status = entry.stat()
        except OSError as error:
            self.unreadable.append((printable("/".join(parts)), _reason(error)))
            return
        if stat.S_ISREG(status.st_mode):
            self.files.append(File(parts, status.st_size, status.st_mtime_ns))
        else:
            self._leave_out("that is a pipe or a device", parts)

    def _leave_out(self, reason: str, parts: tuple[str, ...]) -> None:
        number, example = self._left_out.get(reason, (0, printable("/".join((self._root, *parts)))))
        self._left_out[reason] = number + 1, example


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _is_broken(entry: os.DirEntry) -> bool:
    """Whether it is a link to nothing, or to itself."""
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or _is_system(name)


def _is_system(name: str) -> bool:
    return name.lower() in _SYSTEM


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return _GONE
    return error.strerror or str(error) or type(error).__name__
