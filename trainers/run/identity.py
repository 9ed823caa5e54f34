"""Whether two configs define the same run: the fields that count, and how those that differ are described."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from trainers import settings

_MOST_SHOWN = 5


def defining_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that define a run, by path: none that a resumed run may change, and none of models it does not use."""
    return {path: value for path, value in settings.used_fields(config).items() if not _may_change(path)}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The config of a run that exists, and another one. Both with JSON values, and with defaults for absent fields.

    Attributes:
      there: config of the run.
      here: the other config.
    """

    there: Mapping[str, Any]
    here: Mapping[str, Any]

    @functools.cached_property
    def old(self) -> dict[str, Any]:
        """The defining fields of the run, by path."""
        return defining_fields(self.there)

    @functools.cached_property
    def new(self) -> dict[str, Any]:
        """Those of the other config."""
        return defining_fields(self.here)

    @property
    def differing(self) -> list[str]:
        """Paths of the defining fields that differ."""
        return sorted(path for path in self.old | self.new if self.old.get(path) != self.new.get(path))

    @property
    def unknown(self) -> list[str]:
        """Paths of defining fields of the run that no config has here."""
        return sorted(path for path in self.old if path not in self.new and path not in settings.FIELDS)

    @property
    def changed(self) -> dict[str, list[Any]]:
        """The values, there and here, of all used fields that differ, whether they define the run or not, by path."""
        there, here = (settings.used_fields(config) for config in (self.there, self.here))
        return {path: [there.get(path), value] for path, value in here.items() if there.get(path) != value}

    def describe(self, paths: Iterable[str]) -> str:
        """The values of these fields, as "seed is 0 there, 1 here"; the first few of many."""
        phrases = [f"{path} is {_quote(self.old, path)} there, {_quote(self.new, path)} here" for path in paths]
        more = len(phrases) - _MOST_SHOWN
        return ", ".join(phrases[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _may_change(path: str) -> bool:
    return path in settings.FIELDS and settings.FIELDS[path].may_change


def _quote(fields: Mapping[str, Any], path: str) -> str:
    return repr(fields[path]) if path in fields else "no field"
