"""`folder:PATH`: images or texts in PATH/split/class/ or, without splits, in PATH/class/, and below these folders."""

import hashlib
import os
import pathlib
import unicodedata

import ml_collections
import numpy as np

from data import input_files
from data.input_files import IMAGES, TEXTS, Kind, LeftOut
from data.sources.source import Part
from plumbline import UserError, pluralize
from plumbline.files import describe_missing

# Number of files whose contents are part of the fingerprint of a folder.
_SAMPLED_FILES = 1024
# Names of folders, in lower case, that are taken for splits, not for classes.
_SPLIT_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})


def open_source(name: str, config: ml_collections.ConfigDict) -> "FolderSource":
    """Opens the images or, without images, the texts in the folder `name`."""
    return FolderSource(pathlib.Path(name).expanduser(), config)


class FolderSource:
    """Image or text files by class; see `data.sources.source.Source`.

    Attributes:
      unlabelled: for each split whose files have no class folders, how many there are. They are no part of the source.

    Args:
      path: path of the folder.
      config: `config.data`.

    Raises:
      UserError: there is no such folder, it cannot be read, or it has no training images or texts.
    """

    task = "classification"
    group_names = ()
    target = "label"

    def __init__(self, path: pathlib.Path, config: ml_collections.ConfigDict):
        if not os.path.isdir(path):  # noqa: PTH112 (a pathlib path raises an error if a folder above is not readable)
            raise UserError(f"data.source: {describe_missing(path)}; expected {_describe_layout(path)}")
        folders = input_files.subfolders(path, "data.source")
        named = _name_splits(folders)
        self._kind, has_splits = _layout(path, named)
        if has_splits and "train" not in named:
            found = ", ".join(folder.name for folder in folders)
            wanted = self._kind.extensions[0]
            raise UserError(
                f"data.source: '{path}' has {found} but no 'train'; expected {path}/train/<class>/*{wanted}"
            )
        self._paths = named if has_splits else {"train": path}
        self.class_names = _class_names(self._paths["train"])
        if len(self.class_names) < 2:
            raise UserError(
                f"data.source: '{self._paths['train']}' has {pluralize(len(self.class_names), 'class folder')}, but "
                f"needs at least 2; expected {_describe_layout(path)}{_hint_inside(folders)}"
            )
        self.unlabelled: dict[str, LeftOut] = {}
        for name in [name for name in self._paths if name != "train"]:
            if found := _find_unlabelled(self._paths[name], self.class_names, self._kind):
                self.unlabelled[name] = found
                del self._paths[name]
            elif name.lower() not in _SPLIT_NAMES and not input_files.contains(self._paths[name], self._kind):
                del self._paths[name]
        self.part_names = tuple(self._paths)

    @property
    def has_texts(self) -> bool:
        """Whether the files are texts."""
        return self._kind is TEXTS

    def part(self, name: str) -> Part:
        """Lists the images or texts of one split."""
        return _read_part(self._paths[name], self.class_names, self._kind, "data.source")

    def other(self, path: str) -> Part:
        """Lists the images or texts in path/class/."""
        folder = pathlib.Path(path).expanduser()
        if not os.path.isdir(folder):  # noqa: PTH112
            raise UserError(f"data.test: {describe_missing(folder)}; expected {path}/<class>/ with {self._kind.noun}")
        return _read_part(folder, self.class_names, self._kind, "data.test")


class FileRecords:
    """Files by row.

    Args:
      root: folder of the files.
      names: (n,) relative paths as bytes; one array pickles as one block.
      field: config field or flag that named the folder, for messages.
    """

    def __init__(self, root: str, names: np.ndarray, field: str = "data.source"):
        self.root = root
        self.names = names
        self.field = field

    def __len__(self) -> int:
        return len(self.names)

    def read_encoded(self, row: int) -> bytes:
        """Returns the content of the file.

        Raises:
          UnreadableFileError: it cannot be read.
        """
        return input_files.read_bytes(self._path(row), self.field)

    def num_bytes(self, row: int) -> int:
        """Returns the size of the file."""
        return pathlib.Path(self._path(row)).stat().st_size

    def name(self, row: int) -> str:
        """Returns the path of the file, for messages."""
        return f"'{input_files.printable(self._path(row))}'"

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


def _class_names(path: pathlib.Path) -> tuple[str, ...]:
    """Names of the class folders, sorted by the name on the disk."""
    names = tuple(input_files.printable(folder.name) for folder in input_files.subfolders(path, "data.source"))
    spelled = [_normalized(name) for name in names]
    for name in spelled:
        if spelled.count(name) > 1:
            raise UserError(f"data.source: '{path}' has two folders whose names look the same, '{name}'; rename one")
    return names


def _normalized(name: str) -> str:
    """Gives accented letters of a class name one spelling, because systems differ in it; the result is printable."""
    return unicodedata.normalize("NFC", input_files.printable(name))


def _read_part(path: pathlib.Path, class_names: tuple[str, ...], kind: Kind, field: str) -> Part:
    """Lists files by class, sorted by path, so that rows are the same on every machine."""
    known = {_normalized(name): label for label, name in enumerate(class_names)}
    names, labels, sizes, times = [], [], [], []
    left_out = _beside_classes(path, kind)
    for folder in input_files.subfolders(path, field):
        class_name = _normalized(folder.name)
        listing = input_files.list_files(folder, kind)
        input_files.refuse_unreadable(listing, folder, field)
        if class_name not in known:
            raise UserError(
                f"{field}: '{folder}' is a class without training data; known: {', '.join(class_names)} (without "
                "labels, set data.test='20 percent' and run plumbline predict on the folder)"
            )
        if not listing.files:
            others = f" but {listing.left_out[0].describe()}" if listing.left_out else ""
            raise UserError(
                f"{field}: '{folder}' has no {kind.noun}{others}; put {kind.wanted} files into it, or remove it"
            )
        prefix = f"{folder.name}/"
        names.extend(os.fsencode(prefix + file.name) for file in listing.files)
        sizes.extend(file.size for file in listing.files)
        times.extend(file.time for file in listing.files)
        labels.extend([known[class_name]] * len(listing.files))
        left_out.extend(listing.left_out)
    if not names:
        raise UserError(f"{field}: '{path}' has no class folders; expected {path}/<class>/ with {kind.noun}")
    records = FileRecords(str(path), np.array(names), field)
    fingerprint = _fingerprint(records, names, sizes)
    return Part(
        labels=np.array(labels, np.int32),
        groups=None,
        weights=np.ones(len(names), np.float32),
        fingerprint=fingerprint,
        cache_key=hashlib.sha256(fingerprint.encode() + np.array(times, np.int64).tobytes()).hexdigest(),
        records=None if kind is TEXTS else records,
        texts=FileTexts(records) if kind is TEXTS else None,
        left_out=tuple(input_files.merge_left_out(left_out)),
    )


def _beside_classes(path: pathlib.Path, kind: Kind) -> list[LeftOut]:
    """Counts the images or texts that lie in the folder of a split itself, and so have no class."""
    files = input_files.list_files(path, kind, nested=False).files
    if not files:
        return []
    return [LeftOut(number=len(files), reason="beside the class folders", example=f"{path}/{files[0].name}")]


def _find_unlabelled(path: pathlib.Path, class_names: tuple[str, ...], kind: Kind) -> LeftOut | None:
    """Counts the files of a split that has files, but none in a folder of one of the classes; None of other splits."""
    known = {_normalized(name).casefold() for name in class_names}
    folders = input_files.subfolders(path, "data.source")
    if any(_normalized(folder.name).casefold() in known for folder in folders):
        return None
    files = input_files.list_files(path, kind).files
    if not files:
        return None
    reason = f"in '{path.name}' without class folders (plumbline predict takes them)"
    return LeftOut(number=len(files), reason=reason, example=input_files.printable(f"{path}/{files[0].name}"))


def _fingerprint(records: FileRecords, names: list[bytes], sizes: list[int]) -> str:
    """Computes a fingerprint of relative paths, sizes, and contents of evenly spaced files."""
    digest = hashlib.sha256(b"\0".join(names) + np.array(sizes, np.int64).tobytes())
    for row in np.unique(np.linspace(0, len(names) - 1, _SAMPLED_FILES).astype(int)).tolist():
        digest.update(records.read_encoded(row))
    return digest.hexdigest()


def _name_splits(folders: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Returns folders by name, sorted; "Training" is "train" and "Testing" is "test", in any letter case."""
    named = {folder.name: folder for folder in folders}
    for name, spellings in (("train", ("train", "training")), ("test", ("test", "testing"))):
        found = [folder.name for folder in folders if folder.name.lower() in spellings]
        if len(found) == 1:
            named[name] = named.pop(found[0])
    return dict(sorted(named.items()))


def _layout(path: pathlib.Path, named: dict[str, pathlib.Path]) -> tuple[Kind, bool]:
    """Finds the kind of files, and whether the folders are splits with class folders.

    Raises:
      UserError: the folders may be splits or classes.
    """
    folders = list(named.values())
    if "train" in named:
        classes = input_files.subfolders(named["train"], "data.source")
        kind = _find_kind(classes)
        if any(input_files.contains(folder, kind) for folder in classes):
            return kind, True
        if len(named.keys() & _SPLIT_NAMES) > 1:
            return _find_kind(folders), True
    kind = _find_kind(folders)
    without_files = [folder for folder in folders if not input_files.contains(folder, kind, nested=False)]
    if any(folder.name.lower() in _SPLIT_NAMES and input_files.contains(folder, kind) for folder in without_files):
        return kind, True
    if len(without_files) == len(folders):
        _refuse_ambiguous(path, folders, kind)
    return kind, False


def _find_kind(folders: list[pathlib.Path]) -> Kind:
    """Finds the kind of files in class folders. Images take precedence, unless only the texts are in all folders."""
    if all(input_files.contains(folder, IMAGES) for folder in folders):
        return IMAGES
    return TEXTS if all(input_files.contains(folder, TEXTS) for folder in folders) else IMAGES


def _refuse_ambiguous(path: pathlib.Path, folders: list[pathlib.Path], kind: Kind) -> None:
    """Raises an error if folders without files of their own have the same folders, as splits would."""
    inner: dict[str, list[str]] = {}
    for folder in folders:
        for below in input_files.subfolders(folder, "data.source"):
            if input_files.contains(below, kind):
                inner.setdefault(below.name, []).append(folder.name)
    shared = [name for name, owners in inner.items() if len(owners) > 1]
    if len(shared) > 1:
        first, second = inner[shared[0]][:2]
        raise UserError(
            f"data.source: '{path}' has '{first}' and '{second}' with the same folders, '{shared[0]}' and "
            f"'{shared[1]}' among them; name the folder of the training split 'train' if they are splits, or put the "
            f"{kind.noun} directly into them if they are classes"
        )


def _hint_inside(folders: list[pathlib.Path]) -> str:
    """A hint for a folder in which the data set lies one folder deeper; "" if it does not."""
    if len(folders) == 1 and len(input_files.subfolders(folders[0], "data.source")) > 1:
        return f"; is it '{folders[0]}'?"
    return ""
