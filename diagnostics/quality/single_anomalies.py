"""What findings on single examples share: how far one is from the others, and how those found are told."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Rows
from plumbline import counted

_SHOWN = 20
# Share of odd examples from which on they cost something, and a good deal.
_SOME, _MANY = 0.01, 0.1


def robust(values: np.ndarray, among: np.ndarray, least: float = 1.0) -> np.ndarray:
    """Deviations (N,) from the median of those `among` (N,) bool, in median absolute ones, no less than `least`."""
    centre = np.median(values[among])
    return (values - centre) / max(float(stats.median_abs_deviation(values[among], scale="normal")), least)


def severity_by_share(share: float) -> str:
    """The severity of a share of examples that are of no use."""
    return "high" if share >= _MANY else "medium" if share >= _SOME else "low"


def by_split(examples: Examples, positions: np.ndarray) -> str:
    """How many of the positions (n,) are in each split, in words."""
    counts = {name: int((examples.split[positions] == name).sum()) for name in examples.splits}
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def rows(examples: Examples, title: str, positions: np.ndarray, notes: list[str]) -> Rows:
    """The first of the examples at `positions` (n,), with a note on each."""
    return Rows(
        title=title,
        clusters=tuple((position,) for position in positions[:_SHOWN].tolist()),
        notes=tuple(notes[:_SHOWN]),
        total=len(positions),
    )


def message(examples: Examples, found: Mapping[str, np.ndarray], count: int, what: str) -> str:
    """How many examples are odd, and by what.

    Args:
      examples: all.
      found: by what is odd about them, which (N,) bool are.
      count: examples that were looked at.
      what: an example is, in the singular.
    """
    some = [f"{int(mask.sum())} {reason}" for reason, mask in found.items() if mask.any()]
    if not some:
        return f"None of {counted(count, what)} is odd by itself ({', '.join(found)})."
    odd = np.flatnonzero(np.any(list(found.values()), axis=0))
    are = "is" if len(odd) == 1 else "are"
    return f"{counted(len(odd), what)} of {count} {are} odd ({by_split(examples, odd)}): {', '.join(some)}."


def evidence(examples: Examples, found: Mapping[str, np.ndarray]) -> tuple[Evidence, ...]:
    """Examples of each oddity that was found: by what is odd about them, which (N,) bool are."""
    return tuple(
        rows(examples, f"Examples that are {reason}", np.flatnonzero(mask), [reason] * _SHOWN)
        for reason, mask in found.items()
        if mask.any()
    )
