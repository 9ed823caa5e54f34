"""Formats numbers, names and remedies of findings as text that is safe to print on a terminal."""

import math
import shlex
import unicodedata
from collections.abc import Mapping
from typing import Any

from diagnostics.finding import Measure

# Numbers of at least this size are written without decimals.
_LARGE = 1000
_LEAST_P_VALUE = 1e-4
# Smaller numbers are rounding errors of 0.
_ZERO = 1e-12
# Control characters (Cc), unpaired surrogates (Cs), and characters that change the writing direction (in Cf).
_REPLACED = ("Cc", "Cs")
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
_REPLACEMENT = "\ufffd"


def plain(text: str, *, lines: bool = False) -> str:
    """Returns a text in which control characters are replaced.

    Args:
      text: from any source.
      lines: whether to keep line breaks and tabs; otherwise they become spaces.
    """

    def clean(character: str) -> str:
        if character in "\n\t\r":
            return character if lines and character != "\r" else " "
        replaced = character in _DIRECTIONS or unicodedata.category(character) in _REPLACED
        return _REPLACEMENT if replaced else character

    return "".join(map(clean, text))


def format_title(name: str) -> str:
    """Returns the name of a finding as a heading."""
    words = plain(name).replace("_", " ")
    return words[:1].upper() + words[1:]


def format_number(value: float, kind: str = "number") -> str:
    """Returns a number of a `Measure.kind` as text; "-" for nan."""
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


def format_value(measure: Measure) -> str:
    """Returns the estimate of a measure as text, in no more digits than its interval supports."""
    return _format_within(measure.value, measure)


def format_interval(measure: Measure) -> str:
    """Returns the bounds of a measure as text, in the digits that they support; "" if it has none."""
    if math.isnan(measure.low) and math.isnan(measure.high):
        return ""
    return f"{_format_within(measure.low, measure)} to {_format_within(measure.high, measure)}"


def _format_within(value: float, measure: Measure) -> str:
    """Formats a number to two significant digits of the width of the interval."""
    width = measure.high - measure.low
    if measure.kind not in ("share", "number") or not 0 < width < math.inf or not math.isfinite(value):
        return format_number(value, measure.kind)
    factor, unit = (100, " %") if measure.kind == "share" else (1, "")
    digits = 1 - math.floor(math.log10(width * factor))
    # Adding 0 turns -0 into 0.
    return f"{round(value * factor, digits) + 0.0:,.{max(0, digits)}f}{unit}"


def format_cell(value: object) -> str:
    """Returns a cell of a `Table` as text, with numbers in few digits."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return format_number(value) if isinstance(value, float) else plain(str(value))


def is_number(value: object) -> bool:
    """Whether a cell of a `Table` is a number."""
    value = value.item() if hasattr(value, "item") else value
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_flags(overrides: Mapping[str, Any]) -> list[str]:
    """Returns overrides of a config as flags, quoted for a shell."""
    return [plain(_quote(f"--config.{path}={value}")) for path, value in overrides.items()]


def _quote(word: str) -> str:
    """Quotes like `shlex.quote`, but with double quotes around single ones if they mean the same to a shell."""
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)
