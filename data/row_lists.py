"""Rows that an audit found better left out or worth less: lists beside the data, so that no file of the user's changes.

An audit writes lists by the name of each finding, a run those that it uses. Both know rows by the part of the source
that they are of, so that they are the same rows whatever the splits.
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

from data.selection import Assigned
from plumbline import UserError, unknown_name
from plumbline.files import replaced

FILE = "findings.npz"
"""Name of the file in the directory of an audit, `write` writes it."""

BEFORE = "before"
"""Name, in place of a finding's, of the lists that were in use already where an audit looked."""

_PREFIX = "findings:"
_PARTS = "parts"
_KIND = "(drop|weights)"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RowLists:
    """What is left out of training and validation, and what counts less in training.

    Attributes:
      drop: by fingerprint of the part, rows (n,) int64 of the source that are left out.
      weights: by fingerprint of the part, factors (R,) float32 on the weights of rows 0 to R - 1 of the source.
    """

    drop: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def factors(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Factors (n,) float32 on the weights of `rows` (n,) of the source; 1 for those that no list knows.

        Args:
          part: fingerprint of the part that they are of.
          rows: (n,).
        """
        factors = np.ones(len(rows), np.float32)
        weights = self.weights.get(part, factors[:0])
        known = rows < len(weights)
        factors[known] = weights[rows[known]]
        return factors

    def digest(self) -> str:
        """Of all lists; "" where there are none."""
        arrays = self._arrays()
        digest = hashlib.sha256()
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        return digest.hexdigest() if arrays else ""

    def save(self, path: str | os.PathLike) -> None:
        """Writes the lists for `load`."""
        with replaced(path) as temporary:
            np.savez_compressed(temporary, **self._arrays())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "RowLists":
        """The lists that `save` wrote.

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
      path: of the file, which is called `FILE`.
      findings: lists by the name of the finding; of some with drop or weights alone.
      parts: fingerprints of all parts that were looked at, whether any of their rows is in a list or not.
    """
    arrays = {f"{name}/{key}": rows for name, lists in findings.items() for key, rows in lists._arrays().items()}
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **arrays, **{_PARTS: np.array(sorted(parts), str)})


def chosen(config: ml_collections.ConfigDict) -> RowLists:
    """The lists that `data.drop` and `data.weights` name, of the audit in `data.findings`.

    Args:
      config: `config.data`.

    Raises:
      UserError: there is no such audit or finding, or the finding has no such list.
    """
    if not config.drop and not config.weights:
        return RowLists()
    field = "data.drop" if config.drop else "data.weights"
    if not config.findings:
        raise UserError(f"{field}: takes findings of an audit; give its directory with data.findings")
    path = pathlib.Path(config.findings) / FILE
    if not path.is_file():
        raise UserError(f"data.findings: no audit in '{config.findings}' (no {FILE}); run plumbline audit there")
    arrays = _read(path, "data.findings", f"[^/]+/{_KIND}/.+|{_PARTS}", [_PARTS])
    parts = arrays.pop(_PARTS).tolist()
    dropped, weighed = (_named(arrays, config, kind) for kind in ("drop", "weights"))
    # A part without rows in any list has been looked at all the same.
    drop = {part: np.unique(np.concatenate([np.zeros(0, np.int64), *dropped.get(part, [])])) for part in parts}
    weights = {part: np.prod(lists, axis=0) for part, lists in weighed.items()}
    return RowLists(drop=drop, weights=weights)


def with_before(text: str) -> str:
    """What `data.drop` or `data.weights` says, and besides it the lists `BEFORE`.

    Args:
      text: of the field; "" for none.
    """
    return _PREFIX + ",".join(filter(None, [BEFORE, text.removeprefix(_PREFIX)]))


def without_dropped(assigned: Assigned, lists: RowLists, config: ml_collections.ConfigDict) -> Assigned:
    """The rows of each split but those that are left out; the test keeps all it has.

    Args:
      assigned: all splits.
      lists: of this set.
      config: `config.data`.

    Raises:
      UserError: the lists are of other data, or leave nothing of a split.
    """
    if not config.drop and not config.weights:
        return assigned
    if assigned["train"][0].fingerprint not in {*lists.drop, *lists.weights}:
        raise UserError(
            f"data.findings: '{config.findings}' is an audit of other data than '{config.source}' holds now; audit that"
        )
    left = dict(assigned)
    for name, (part, rows) in assigned.items():
        if name != "test":
            kept = rows[~np.isin(rows + part.first_row, lists.drop.get(part.fingerprint, ()))]
            if not len(kept):
                raise UserError(f"data.drop: leaves no row of the {name} split; name fewer findings")
            left[name] = part, kept
    return left


def _named(arrays: Mapping[str, np.ndarray], config: ml_collections.ConfigDict, kind: str) -> dict[str, list]:
    """By part, the lists of this kind of all findings that the config names."""
    found: dict[str, list] = {}
    text = config[kind].strip()
    if not text:
        return found
    if not text.startswith(_PREFIX):
        raise UserError(f"data.{kind}: '{text}' is not possible; write '{_PREFIX}NAME', or several names with commas")
    # Fingerprints of parts, which come last, may have a slash themselves.
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
    """All arrays of a file whose names are of this form, a regular expression, the needed ones among them."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            found = dict(arrays)
        if strange := [name for name in found if not re.fullmatch(form, name)]:
            raise ValueError(f"it holds '{strange[0]}'")
        if missing := set(needed) - set(found):
            raise ValueError(f"it lacks '{missing.pop()}'")
        return found
    # Which of these it is hangs on the byte that is damaged; a lone array is no context manager (TypeError).
    except (OSError, ValueError, EOFError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{field}: '{path}' is missing or damaged ({error}); make it again") from None
