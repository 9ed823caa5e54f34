"""`folder:PATH`: images in PATH/split/class/ or, without splits, in PATH/class/."""

import hashlib
import os
import pathlib

import ml_collections
import numpy as np

from data import images
from data.sources.source import Part
from plumbline import UserError, counted

# Files whose contents go into the fingerprint of a folder.
_SAMPLED_FILES = 1024


def open_source(name: str, config: ml_collections.ConfigDict) -> "FolderSource":
    """The images under the folder `name`."""
    return FolderSource(pathlib.Path(name), config)


class FolderSource:
    """Image files by class; see `data.sources.source.Source`.

    Args:
      path: of the folder.
      config: `config.data`.

    Raises:
      UserError: there is no such folder, or no training images in it.
    """

    group_names = ()
    target = "label"

    def __init__(self, path: pathlib.Path, config: ml_collections.ConfigDict):
        if not path.is_dir():
            raise UserError(f"data.source: no such folder '{path}'; expected {_expected(path)}")
        folders = _folders(path)
        has_splits = not any(_has_images(folder) for folder in folders) and any(
            _has_images(inner) for folder in folders for inner in _folders(folder)
        )
        if has_splits and "train" not in {folder.name for folder in folders}:
            found = ", ".join(folder.name for folder in folders)
            raise UserError(f"data.source: '{path}' has {found} but no 'train'; expected {path}/train/<class>/*.png")
        self._paths = {folder.name: folder for folder in folders} if has_splits else {"train": path}
        self.part_names = tuple(self._paths)
        self.class_names = tuple(folder.name for folder in _folders(self._paths["train"]))
        if len(self.class_names) < 2:
            raise UserError(
                f"data.source: '{self._paths['train']}' has {counted(len(self.class_names), 'class folder')}, and "
                f"there must be at least 2; expected {_expected(path)}"
            )

    def part(self, name: str) -> Part:
        """The images of one split."""
        return _read_part(self._paths[name], self.class_names, "data.source")

    def other(self, path: str) -> Part:
        """The images in path/class/."""
        if not pathlib.Path(path).is_dir():
            raise UserError(f"data.test: no such folder '{path}'; expected {path}/<class>/*.png or *.jpg")
        return _read_part(pathlib.Path(path), self.class_names, "data.test")


class FileRecords:
    """Image files by row.

    Args:
      root: folder of all of them.
      names: (n,) their paths below it, as bytes: one array pickles as one block, however many there are.
    """

    def __init__(self, root: str, names: np.ndarray):
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def encoded(self, row: int) -> bytes:
        """The file."""
        with open(self._path(row), "rb") as file:  # noqa: PTH123 (a pathlib path takes longer to make than to open)
            return file.read()

    def num_bytes(self, row: int) -> int:
        """The size of the file."""
        return pathlib.Path(self._path(row)).stat().st_size

    def name(self, row: int) -> str:
        """The path of the file."""
        return f"'{self._path(row)}'"

    def _path(self, row: int) -> str:
        return f"{self.root}/{os.fsdecode(self.names[row])}"


def _expected(path: pathlib.Path) -> str:
    return f"{path}/train/<class>/*.png or *.jpg, or {path}/<class>/*.png without splits"


def _read_part(path: pathlib.Path, class_names: tuple[str, ...], field: str) -> Part:
    """Lists class by class, names sorted, so that rows are the same on every machine."""
    known = {name: label for label, name in enumerate(class_names)}
    names, labels, sizes, times = [], [], [], []
    for folder in _folders(path):
        if folder.name not in known:
            raise UserError(
                f"{field}: '{folder}' is a class that training does not have; its classes are {', '.join(class_names)}"
            )
        files = _image_files(folder)
        if not files:
            raise UserError(f"{field}: '{folder}' has no images; put .png or .jpg files into it, or remove it")
        for file_name, size, time in files:
            names.append(os.fsencode(f"{folder.name}/{file_name}"))
            sizes.append(size)
            times.append(time)
        labels.extend([known[folder.name]] * len(files))
    if not names:
        raise UserError(f"{field}: '{path}' has no class folders; expected {path}/<class>/*.png or *.jpg")
    records = FileRecords(str(path), np.array(names))
    fingerprint = _fingerprint(records, names, sizes)
    return Part(
        labels=np.array(labels, np.int32),
        groups=None,
        weights=np.ones(len(names), np.float32),
        fingerprint=fingerprint,
        cache_key=hashlib.sha256(fingerprint.encode() + np.array(times, np.int64).tobytes()).hexdigest(),
        records=records,
    )


def _fingerprint(records: FileRecords, names: list[bytes], sizes: list[int]) -> str:
    """Of the relative paths, the sizes, and the contents of some files, evenly spaced."""
    digest = hashlib.sha256(b"\0".join(names) + np.array(sizes, np.int64).tobytes())
    for row in np.unique(np.linspace(0, len(names) - 1, _SAMPLED_FILES).astype(int)).tolist():
        digest.update(records.encoded(row))
    return digest.hexdigest()


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _has_images(folder: pathlib.Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_image(entry.name) for entry in entries)


def _image_files(folder: pathlib.Path) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change in nanoseconds of each image, by name."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries if _is_image(entry.name)]
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _is_image(name: str) -> bool:
    return name.lower().endswith(images.EXTENSIONS) and not name.startswith(".")
