"""`folder:PATH`: images or texts in PATH/split/class/ or, without splits, in PATH/class/."""

import dataclasses
import hashlib
import os
import pathlib

import ml_collections
import numpy as np

from data import images
from data.sources.source import Part
from plumbline import UserError, pluralize

# Number of files whose contents are part of the fingerprint of a folder.
_SAMPLED_FILES = 1024
TEXT_EXTENSIONS = (".txt",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """A kind of files, with its names in messages."""

    extensions: tuple[str, ...]
    noun: str
    wanted: str


_IMAGES = _Kind(extensions=images.EXTENSIONS, noun="images", wanted=".png or .jpg")
_TEXTS = _Kind(extensions=TEXT_EXTENSIONS, noun="texts", wanted=".txt")


def open_source(name: str, config: ml_collections.ConfigDict) -> "FolderSource":
    """Opens the images or, without images, the texts in the folder `name`."""
    return FolderSource(pathlib.Path(name), config)


class FolderSource:
    """Image or text files by class; see `data.sources.source.Source`.

    Args:
      path: path of the folder.
      config: `config.data`.

    Raises:
      UserError: there is no such folder, or it has no training images or texts.
    """

    task = "classification"
    group_names = ()
    target = "label"

    def __init__(self, path: pathlib.Path, config: ml_collections.ConfigDict):
        if not path.is_dir():
            raise UserError(f"data.source: no such folder '{path}'; expected {_describe_layout(path)}")
        folders = _folders(path)
        self._kind, has_splits = _layout(folders)
        if has_splits and "train" not in {folder.name for folder in folders}:
            found = ", ".join(folder.name for folder in folders)
            wanted = self._kind.extensions[0]
            raise UserError(
                f"data.source: '{path}' has {found} but no 'train'; expected {path}/train/<class>/*{wanted}"
            )
        self._paths = {folder.name: folder for folder in folders} if has_splits else {"train": path}
        self.part_names = tuple(self._paths)
        self.class_names = tuple(folder.name for folder in _folders(self._paths["train"]))
        if len(self.class_names) < 2:
            raise UserError(
                f"data.source: '{self._paths['train']}' has {pluralize(len(self.class_names), 'class folder')}, but "
                f"needs at least 2; expected {_describe_layout(path)}"
            )

    @property
    def has_texts(self) -> bool:
        """Whether the files are texts."""
        return self._kind is _TEXTS

    def part(self, name: str) -> Part:
        """Lists the images or texts of one split."""
        return _read_part(self._paths[name], self.class_names, self._kind, "data.source")

    def other(self, path: str) -> Part:
        """Lists the images or texts in path/class/."""
        if not pathlib.Path(path).is_dir():
            raise UserError(f"data.test: no such folder '{path}'; expected {path}/<class>/ with {self._kind.noun}")
        return _read_part(pathlib.Path(path), self.class_names, self._kind, "data.test")


class FileRecords:
    """Files by row.

    Args:
      root: folder of the files.
      names: (n,) relative paths as bytes; one array pickles as one block.
    """

    def __init__(self, root: str, names: np.ndarray):
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def read_encoded(self, row: int) -> bytes:
        """Returns the content of the file."""
        with open(self._path(row), "rb") as file:  # noqa: PTH123 (a pathlib path takes longer to make than to open)
            return file.read()

    def num_bytes(self, row: int) -> int:
        """Returns the size of the file."""
        return pathlib.Path(self._path(row)).stat().st_size

    def name(self, row: int) -> str:
        """Returns the path of the file, for messages."""
        return f"'{self._path(row)}'"

    def _path(self, row: int) -> str:
        return f"{self.root}/{os.fsdecode(self.names[row])}"


class FileTexts:
    """Texts by row, one per file; see `data.sources.source.Texts`.

    Args:
      records: the files.
    """

    def __init__(self, records: FileRecords):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def text(self, row: int) -> str:
        """Reads the text of a file, with Unix line breaks."""
        return decode_text(self._records.read_encoded(row), self.name(row), "data.source")

    def name(self, row: int) -> str:
        """Returns the path of the file, for messages."""
        return self._records.name(row)


def decode_text(content: bytes, name: str, field: str) -> str:
    """Decodes the content of a UTF-8 file, with Unix line breaks.

    Raises:
      UserError: the encoding is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{field}: {name} is not encoded as UTF-8 ({error.reason}); save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _describe_layout(path: pathlib.Path) -> str:
    return f"{path}/train/<class>/*.png, *.jpg or *.txt, or {path}/<class>/*.png without splits"


def _read_part(path: pathlib.Path, class_names: tuple[str, ...], kind: _Kind, field: str) -> Part:
    """Lists files by class, sorted by name, so that rows are the same on every machine."""
    known = {name: label for label, name in enumerate(class_names)}
    names, labels, sizes, times = [], [], [], []
    for folder in _folders(path):
        if folder.name not in known:
            raise UserError(f"{field}: '{folder}' is a class without training data; known: {', '.join(class_names)}")
        files = _files(kind, folder)
        if not files:
            raise UserError(f"{field}: '{folder}' has no {kind.noun}; put {kind.wanted} files into it, or remove it")
        for file_name, size, time in files:
            names.append(os.fsencode(f"{folder.name}/{file_name}"))
            sizes.append(size)
            times.append(time)
        labels.extend([known[folder.name]] * len(files))
    if not names:
        raise UserError(f"{field}: '{path}' has no class folders; expected {path}/<class>/ with {kind.noun}")
    records = FileRecords(str(path), np.array(names))
    fingerprint = _fingerprint(records, names, sizes)
    return Part(
        labels=np.array(labels, np.int32),
        groups=None,
        weights=np.ones(len(names), np.float32),
        fingerprint=fingerprint,
        cache_key=hashlib.sha256(fingerprint.encode() + np.array(times, np.int64).tobytes()).hexdigest(),
        records=None if kind is _TEXTS else records,
        texts=FileTexts(records) if kind is _TEXTS else None,
    )


def _fingerprint(records: FileRecords, names: list[bytes], sizes: list[int]) -> str:
    """Computes a fingerprint of relative paths, sizes, and contents of evenly spaced files."""
    digest = hashlib.sha256(b"\0".join(names) + np.array(sizes, np.int64).tobytes())
    for row in np.unique(np.linspace(0, len(names) - 1, _SAMPLED_FILES).astype(int)).tolist():
        digest.update(records.read_encoded(row))
    return digest.hexdigest()


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _layout(folders: list[pathlib.Path]) -> tuple[_Kind, bool]:
    """Finds the kind of files, and whether the folders are splits with class folders. Images take precedence."""
    if _contains(_IMAGES, folders):
        return _IMAGES, False
    inner = [inner for folder in folders for inner in _folders(folder)]
    if _contains(_IMAGES, inner):
        return _IMAGES, True
    # A text file beside the class folders of a split does not make the split a class.
    if _contains(_TEXTS, inner):
        return _TEXTS, True
    return (_TEXTS if _contains(_TEXTS, folders) else _IMAGES), False


def _contains(kind: _Kind, folders: list[pathlib.Path]) -> bool:
    """Returns whether any of the folders has a file of this kind."""
    for folder in folders:
        with os.scandir(folder) as entries:
            if any(_is_of_kind(kind, entry.name) for entry in entries):
                return True
    return False


def _files(kind: _Kind, folder: pathlib.Path) -> list[tuple[str, int, int]]:
    """Lists name, size in bytes and modification time in nanoseconds of each file of this kind, sorted by name."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries if _is_of_kind(kind, entry.name)]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _is_of_kind(kind: _Kind, name: str) -> bool:
    return name.lower().endswith(kind.extensions) and not name.startswith(".")
