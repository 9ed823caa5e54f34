"""Lists of rows that are dropped or get a lower weight. They are stored beside the data, whose files never change.

An audit writes the lists of each finding, and a run those that it uses. Rows are identified by the part of the source
they belong to, so the lists do not depend on the splits.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Collection, Mapping

import ml_collections
import numpy as np

from data.selection import Assignment
from plumbline import UserError, unknown_name
from plumbline.files import expand_home, replace_atomically

FILE = "findings.npz"
"""Name of the file that `write` makes in the directory of an audit."""

EARLIER = "before"
"""Name, in place of a finding, of the lists that were already in use when the audit ran."""

_PREFIX = "findings:"
_PARTS = "parts"
_KIND = "(drop|weights)"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RowLists:
    """Rows that are dropped from training and validation, and weight factors of training rows.

    Attributes:
      drop: by fingerprint of the part, the dropped rows (n,) int64 of the source.
      weights: by fingerprint of the part, factors (R,) float32 for the weights of rows 0 to R - 1 of the source.
    """

    drop: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def factors(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Returns factors (n,) float32 for the weights of `rows` (n,) of the source; 1 for rows in no list.

        Args:
          part: fingerprint of the part of the source.
          rows: (n,) rows of that part.
        """
        factors = np.ones(len(rows), np.float32)
        weights = self.weights.get(part, factors[:0])
        known = rows < len(weights)
        factors[known] = weights[rows[known]]
        return factors

    def digest(self) -> str:
        """Returns a digest of all lists; "" if there are none."""
        arrays = self._arrays()
        digest = hashlib.sha256()
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        return digest.hexdigest() if arrays else ""

    def save(self, path: str | os.PathLike) -> None:
        """Writes the lists for `load`."""
        with replace_atomically(path) as temporary:
            np.savez_compressed(temporary, **self._arrays())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "RowLists":
        """Reads the lists that `save` wrote.

        Raises:
          UserError: there is no such file, or it is damaged.
        """
        kinds: dict[str, dict[str, np.ndarray]] = {"drop": {}, "weights": {}}
        for key, rows in _read(pathlib.Path(path), "--workdir", f"{_KIND}/.+").items():
            kind, _, part = key.partition("/")
            kinds[kind][part] = rows
        return cls(**kinds)

    def _arrays(self) -> dict[str, np.ndarray]:
        kinds = {"drop": self.drop, "weights": self.weights}
        return {f"{kind}/{part}": rows for kind, lists in kinds.items() for part, rows in lists.items()}


def write(path: str | os.PathLike, findings: Mapping[str, RowLists], parts: Collection[str]) -> None:
    """Writes the lists of an audit.

    Args:
      path: path of the file, which is called `FILE`.
      findings: lists by the name of the finding; some have only `drop` or only `weights`.
      parts: fingerprints of all parts that were audited, also of those without rows in a list.
    """
    arrays = {f"{name}/{key}": rows for name, lists in findings.items() for key, rows in lists._arrays().items()}
    with replace_atomically(path) as temporary:
        np.savez_compressed(temporary, **arrays, **{_PARTS: np.array(sorted(parts), str)})


def read_lists(config: ml_collections.ConfigDict) -> RowLists:
    """Reads the lists that `data.drop` and `data.weights` name, from the audit in `data.findings`.

    Args:
      config: `config.data`.

    Raises:
      UserError: there is no such audit or finding, or the finding has no such list.
    """
    if not config.drop and not config.weights:
        return RowLists()
    field = "data.drop" if config.drop else "data.weights"
    if not config.findings:
        raise UserError(f"{field}: names findings of an audit; set data.findings to its directory")
    path = pathlib.Path(expand_home(config.findings)) / FILE
    if not path.is_file():
        raise UserError(f"data.findings: no audit in '{config.findings}' (no {FILE}); run `plumbline audit` there")
    arrays = _read(path, "data.findings", f"[^/]+/{_KIND}/.+|{_PARTS}", [_PARTS])
    parts = arrays.pop(_PARTS).tolist()
    dropped, weighed = (_collect(arrays, config, kind) for kind in ("drop", "weights"))
    # Parts without rows in any list were audited as well.
    drop = {part: np.unique(np.concatenate([np.zeros(0, np.int64), *dropped.get(part, [])])) for part in parts}
    weights = {part: np.prod(lists, axis=0) for part, lists in weighed.items()}
    return RowLists(drop=drop, weights=weights)


def include_earlier(text: str) -> str:
    """Adds the lists `EARLIER` to a value of `data.drop` or `data.weights`.

    Args:
      text: value of the field; "" for none.
    """
    return _PREFIX + ",".join(filter(None, [EARLIER, text.removeprefix(_PREFIX)]))


def drop_rows(assigned: Assignment, lists: RowLists, config: ml_collections.ConfigDict) -> Assignment:
    """Removes dropped rows from each split but the test split.

    Args:
      assigned: all splits.
      lists: lists of this data set.
      config: `config.data`.

    Raises:
      UserError: the lists belong to other data, or a split would be empty.
    """
    if not config.drop and not config.weights:
        return assigned
    if assigned["train"][0].fingerprint not in {*lists.drop, *lists.weights}:
        raise UserError(
            f"data.findings: '{config.findings}' is an audit of data other than '{config.source}' has now; audit these"
        )
    left = dict(assigned)
    for name, (part, rows) in assigned.items():
        if name != "test":
            kept = rows[~np.isin(rows + part.first_row, lists.drop.get(part.fingerprint, ()))]
            if not len(kept):
                raise UserError(f"data.drop: leaves no row in the {name} split; name fewer findings")
            left[name] = part, kept
    return left


def _collect(arrays: Mapping[str, np.ndarray], config: ml_collections.ConfigDict, kind: str) -> dict[str, list]:
    """Collects, by part, the lists of this kind of all findings that the config names."""
    found: dict[str, list] = {}
    text = config[kind].strip()
    if not text:
        return found
    if not text.startswith(_PREFIX):
        raise UserError(f"data.{kind}: '{text}' is not valid; write '{_PREFIX}NAME', or several names with commas")
    # Fingerprints of parts come last and may contain a slash.
    keys = {key: tuple(key.split("/", 2)) for key in arrays}
    known = {name for name, own, _ in keys.values() if own == kind}
    for name in (each.strip() for each in text.removeprefix(_PREFIX).split(",")):
        if name not in known:
            raise unknown_name(f"data.{kind}", name, known)
        for key, rows in arrays.items():
            if keys[key][:2] == (name, kind):
                found.setdefault(keys[key][2], []).append(rows)
    return found


def _read(path: pathlib.Path, field: str, form: str, needed: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Reads all arrays of a file. Names must match `form`, a regular expression, and include those in `needed`."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            found = dict(arrays)
        if strange := [name for name in found if not re.fullmatch(form, name)]:
            raise ValueError(f"it holds '{strange[0]}'")
        if missing := set(needed) - set(found):
            raise ValueError(f"it lacks '{missing.pop()}'")
        return found
    # The error depends on which byte is damaged. A TypeError means a single array, which is not a context manager.
    except (OSError, ValueError, EOFError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{field}: '{path}' is missing or damaged ({error}); make it again") from None
