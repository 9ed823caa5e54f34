"""What findings on single examples share: robust deviations, and the rows and messages that show what was found."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from diagnostics.examples import Examples
from diagnostics.finding import Evidence, Rows
from diagnostics.phrases import choose
from plumbline import pluralize

_SHOWN = 20


def robust_deviations(values: np.ndarray, among: np.ndarray, least: float = 1.0) -> np.ndarray:
    """Computes deviations (N,) from the median, in units of the scaled median absolute deviation.

    Args:
      values: (N,).
      among: (N,) bool, the values that median and deviation are taken of.
      least: smallest unit.
    """
    centre = np.median(values[among])
    return (values - centre) / max(float(stats.median_abs_deviation(values[among], scale="normal")), least)


def count_by_split(examples: Examples, positions: np.ndarray) -> str:
    """Says how many of the positions (n,) are in each split, as in "train 3, test 0"."""
    counts = {name: int((examples.split[positions] == name).sum()) for name in examples.splits}
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def list_rows(title: str, positions: np.ndarray, notes: list[str]) -> Rows:
    """Lists the first of the examples at `positions` (n,), with a note on each."""
    return Rows(
        title=title,
        clusters=tuple((position,) for position in positions[:_SHOWN].tolist()),
        notes=tuple(notes[:_SHOWN]),
        total=len(positions),
    )


def describe(examples: Examples, found: Mapping[str, np.ndarray], count: int, what: str) -> str:
    """Says how many examples are anomalous, and in what way.

    Args:
      examples: all of them.
      found: for each anomaly, the examples (N,) bool that have it.
      count: examples that were checked.
      what: an example is, in the singular.
    """
    some = [f"{int(mask.sum())} {reason}" for reason, mask in found.items() if mask.any()]
    if not some:
        return f"None of {pluralize(count, what)} is anomalous by itself (checked: {', '.join(found)})."
    odd = np.flatnonzero(np.any(list(found.values()), axis=0))
    are = choose(len(odd), "is", "are")
    return (
        f"{pluralize(len(odd), what)} of {count} {are} anomalous ({count_by_split(examples, odd)}): {', '.join(some)}."
    )


def show(found: Mapping[str, np.ndarray]) -> tuple[Evidence, ...]:
    """Lists examples of each anomaly.

    Args:
      found: for each anomaly, the examples (N,) bool that have it.
    """
    return tuple(
        list_rows(f"Examples that are {reason}", np.flatnonzero(mask), [reason] * int(mask.sum()))
        for reason, mask in found.items()
        if mask.any()
    )
