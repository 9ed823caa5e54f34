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

# What is known of a prepared set besides what TFDS writes down; the last file that is written.
FACTS = "prepared.json"
# Layout of that file; raised when it changes.
FORMAT = 1
IMAGE, LABEL = "image", "label"


def open_source(name: str, config: ml_collections.ConfigDict) -> "PreparedSource":
    """The set in the folder `name`."""
    return PreparedSource(pathlib.Path(name), config)


def read_facts(path: pathlib.Path, where: str) -> dict[str, Any]:
    """What is known of the set in the folder `path`.

    Args:
      path: of the folder.
      where: config field or flag that named it, for messages.

    Returns:
      "classes", their names in order; and "splits", for each its "fingerprint", the "source_key" of what it was made
      from, the "counts" of examples by class, which follow each other in the order of classes, and the size in bytes
      of each file of its "shards".

    Raises:
      UserError: there is no such folder, or none that was prepared.
    """
    if not path.is_dir():
        raise UserError(f"{where}: no such folder '{path}'; plumbline prepare --output={path} makes one")
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise UserError(f"{where}: '{path}' was prepared by another version of Plumbline; prepare it again")
        if not all(
            {"fingerprint", "source_key", "counts", "shards"} <= split.keys() for split in facts["splits"].values()
        ):
            raise KeyError("split")
    except FileNotFoundError:
        raise UserError(f"{where}: '{path}' has no {FACTS}, so it holds no prepared set; name another folder") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, LookupError, TypeError, AttributeError):
        raise UserError(f"{where}: '{path / FACTS}' cannot be read; prepare the set again") from None
    return facts


def check_shards(path: pathlib.Path, shards: Mapping[str, int], where: str) -> list[int]:
    """Times of change of the files of a split, in nanoseconds.

    Args:
      path: of the prepared set.
      shards: size in bytes of each file.
      where: config field or flag that named the set, for messages.

    Raises:
      UserError: a file is missing or has another size.
    """
    times = []
    for name, size in shards.items():
        try:
            stat = (path / name).stat()
        except OSError:
            raise UserError(f"{where}: '{path / name}' is missing; copy or prepare the set again") from None
        if stat.st_size != size:
            problem = f"has {stat.st_size} bytes and should have {size}"
            raise UserError(f"{where}: '{path / name}' {problem}; copy or prepare the set again")
        times.append(stat.st_mtime_ns)
    return times


class PreparedSource:
    """A prepared set; see `data.sources.source.Source`. Its rows and fingerprints are those of what it was made from.

    Args:
      path: of the folder.
      config: `config.data`.

    Raises:
      UserError: there is no prepared set.
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
        """The images of one split, whose labels are known without reading it."""
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
        """Prepared sets have no paths."""
        raise UserError(f"data.test: '{path}' is not possible for {self._config.source}; write 'split:NAME'")
