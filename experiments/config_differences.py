"""A config as its differences to the defaults: field, default, value, and the place where it was set."""

from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from experiments.origins import Origins

_HEADER = ("field", "default", "value", "set by")


class Difference(NamedTuple):
    """A field that does not have its default.

    Attributes:
      path: of the field.
      default: as Python writes it.
      value: likewise.
      place: "configs/my.py:12", "--config.train.batch_size", or "transfer.source" for what the source's weights set.
    """

    path: str
    default: str
    value: str
    place: str


def find(resolved: ml_collections.ConfigDict, given: ml_collections.ConfigDict, origins: Origins) -> list[Difference]:
    """The fields of a config that do not have their defaults.

    Args:
      resolved: the config that a run uses.
      given: the config of the flag --config, before weights to start from set any of its fields.
      origins: of the values of `given`.
    """
    from trainers import settings

    values, before = settings.fields(resolved), settings.fields(given)
    differences = []
    for path, field in settings.FIELDS.items():
        if values[path] != field.default:
            place = origins.find(given, path) if values[path] == before[path] else "transfer.source"
            differences.append(Difference(path, repr(field.default), repr(values[path]), place))
    return differences


def format_table(differences: Sequence[Difference]) -> str:
    """The differences as lines of aligned columns."""
    rows = [_HEADER, *differences]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
