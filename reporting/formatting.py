"""Figures, names and remedies of findings as words. What comes from the data is made harmless for a terminal."""

import math
import shlex
import unicodedata
from collections.abc import Mapping
from typing import Any

from diagnostics.finding import Measure

# Values from which on a number is written without digits after the point.
_LARGE = 1000
_LEAST_P_VALUE = 1e-4
# What is left of sums that ought to be 0.
_ZERO = 1e-12
# Control characters (Cc), lone halves of surrogate pairs (Cs) and what turns the direction of writing (in Cf).
_REPLACED = ("Cc", "Cs")
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
_REPLACEMENT = "\ufffd"


def plain(text: str, *, lines: bool = False) -> str:
    """A text without characters that would do something other than stand there.

    Args:
      text: of whatever origin.
      lines: keep line breaks and tabs; otherwise they become spaces.
    """

    def kept(character: str) -> str:
        if character in "\n\t\r":
            return character if lines and character != "\r" else " "
        replaced = character in _DIRECTIONS or unicodedata.category(character) in _REPLACED
        return _REPLACEMENT if replaced else character

    return "".join(map(kept, text))


def title(name: str) -> str:
    """The name of a finding as a heading."""
    words = plain(name).replace("_", " ")
    return words[:1].upper() + words[1:]


def number(value: float, kind: str = "number") -> str:
    """A figure of a `Measure.kind`; "-" for nan."""
    value = float(value)
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "no limit" if value > 0 else "-no limit"
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "share":
        return f"{100 * value:.3g} %"
    if kind == "p-value":
        return f"below {_LEAST_P_VALUE:.4f}" if value < _LEAST_P_VALUE else f"{value:.2g}"
    value = 0.0 if abs(value) < _ZERO else value
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= _LARGE else f"{value:.4g}"


def interval(measure: Measure) -> str:
    """The bounds of a figure; "" where it has none."""
    if math.isnan(measure.low) and math.isnan(measure.high):
        return ""
    return f"{number(measure.low, measure.kind)} to {number(measure.high, measure.kind)}"


def cell(value: object) -> str:
    """A cell of a `Table`: a text as it is, a number in few digits."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return number(value) if isinstance(value, float) else plain(str(value))


def is_number(value: object) -> bool:
    """Whether a cell of a `Table` is a number."""
    value = value.item() if hasattr(value, "item") else value
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_flags(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides of a config as words of a command line, quoted for a shell where they must be."""
    return [plain(_quoted(f"--config.{path}={value}")) for path, value in overrides.items()]


def _quoted(word: str) -> str:
    """As `shlex.quote`, but with double quotes around single ones, where that is the same to a shell."""
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)
