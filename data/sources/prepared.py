"""`prepared:DIR`: images in ArrayRecord shards, as `plumbline prepare` writes them."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from data.sources.source import Part
from data.sources.tfds import TfdsRecords
from plumbline import UserError
from plumbline.files import describe_missing

# File with the facts of a prepared data set that TFDS does not store. It is written last.
FACTS = "prepared.json"
# Version of the layout of that file. Increase it when the layout changes.
FORMAT = 1
IMAGE, LABEL = "image", "label"


def open_source(name: str, config: ml_collections.ConfigDict) -> "PreparedSource":
    """Opens the data set in the folder `name`."""
    return PreparedSource(pathlib.Path(name), config)


def read_facts(path: pathlib.Path, where: str) -> dict[str, Any]:
    """Reads the facts of the prepared data set in the folder `path`.

    Args:
      path: path of the folder.
      where: config field or flag that named it, for messages.

    Returns:
      "classes", the names of the classes in order; and "splits", with the "fingerprint" of each split, the "source_key"
      of its source, the "counts" of examples of each class (examples are sorted by class), and the "shards", with the
      size in bytes of each file.

    Raises:
      UserError: there is no such folder, or it is not a prepared data set.
    """
    if not path.is_dir():
        raise UserError(f"{where}: {describe_missing(path)}; plumbline prepare --output={path} makes one")
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise UserError(f"{where}: '{path}' was prepared by another version of Plumbline; prepare it again")
        if not all(
            {"fingerprint", "source_key", "counts", "shards"} <= split.keys() for split in facts["splits"].values()
        ):
            raise KeyError("split")
    except FileNotFoundError:
        raise UserError(
            f"{where}: '{path}' has no {FACTS}, so it is not a prepared data set; give another one"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, LookupError, TypeError, AttributeError):
        raise UserError(f"{where}: '{path / FACTS}' cannot be read; prepare the data set again") from None
    return facts


def check_shards(path: pathlib.Path, shards: Mapping[str, int], where: str) -> list[int]:
    """Returns the modification times of the files of a split, in nanoseconds.

    Args:
      path: path of the prepared data set.
      shards: size in bytes of each file.
      where: config field or flag that named it, for messages.

    Raises:
      UserError: a file is missing or has another size.
    """
    times = []
    for name, size in shards.items():
        try:
            stat = (path / name).stat()
        except OSError:
            raise UserError(f"{where}: '{path / name}' is missing; copy or prepare the data set again") from None
        if stat.st_size != size:
            problem = f"has {stat.st_size} bytes and should have {size}"
            raise UserError(f"{where}: '{path / name}' {problem}; copy or prepare the data set again")
        times.append(stat.st_mtime_ns)
    return times


class PreparedSource:
    """A prepared data set; see `data.sources.source.Source`. It has the rows and fingerprints of its source.

    Args:
      path: path of the folder.
      config: `config.data`.

    Raises:
      UserError: the folder is not a prepared data set.
    """

    group_names: tuple[str, ...] = ()
    target = LABEL

    def __init__(self, path: pathlib.Path, config: ml_collections.ConfigDict):
        self._path, self._config = path, config
        facts = read_facts(path, "data.source")
        self._splits = facts["splits"]
        self.part_names = tuple(self._splits)
        self.class_names = tuple(facts["classes"])

    def part(self, name: str) -> Part:
        """Opens the images of one split. Labels are known without reading it."""
        split = self._splits[name]
        times = check_shards(self._path, split["shards"], "data.source")
        labels = np.repeat(np.arange(len(self.class_names), dtype=np.int32), split["counts"])
        identity = json.dumps([split["fingerprint"], split["source_key"], times])
        return Part(
            labels=labels,
            groups=None,
            weights=np.ones(len(labels), np.float32),
            fingerprint=split["fingerprint"],
            cache_key=hashlib.sha256(identity.encode()).hexdigest(),
            records=TfdsRecords(str(self._path), name, IMAGE),
        )

    def other(self, path: str) -> Part:
        """Raises an error: prepared data sets have no other paths."""
        raise UserError(f"data.test: '{path}' is not supported for {self._config.source}; write 'split:NAME'")
