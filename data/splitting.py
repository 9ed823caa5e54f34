"""Which rows train, which validate and which test."""

import re

import numpy as np

from data.random_streams import Stream, generator
from plumbline import UserError

DEFAULT_TEST_SHARE = 0.2
"""What is held out where a source has no test split."""
_STREAMS = {"data.test": Stream.TEST_SPLIT, "data.validation": Stream.VALIDATION_SPLIT}


def share(text: str, field: str) -> float | None:
    """The share of "N percent", in 0 to 1, or None for another text.

    Raises:
      UserError: N is not between 0 and 100.
    """
    match = re.fullmatch(r"\s*([+-]?[0-9.]+)\s*(percent|%)\s*", text)
    if match is None:
        return None
    try:
        percent = float(match.group(1))
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise UserError(f"{field}: '{text}' is not possible; give between 0 and 100 percent, both excluded")
    return percent / 100


def named(text: str) -> str | None:
    """The NAME of "split:NAME", or None for another text."""
    return text.removeprefix("split:") if text.startswith("split:") else None


def held_out(
    share: float, strata: np.ndarray | None, groups: np.ndarray | None, num_rows: int, *, seed: int, field: str
) -> np.ndarray:
    """Which rows are held out, drawn by the seed.

    Args:
      share: of the rows, in 0 to 1.
      strata: (n,) classes whose shares are kept, or None.
      groups: (n,) groups, which are held out as a whole; they go before the strata.
      num_rows: n.
      seed: of the run.
      field: "data.test" or "data.validation", for the draw and for messages.

    Returns:
      (n,) bool.

    Raises:
      UserError: nothing would be left on one side.
    """
    random = generator(seed, _STREAMS[field])
    if groups is not None:
        return _whole_groups(share, groups, random, field)
    wanted = round(share * num_rows)
    if not 0 < wanted < num_rows:
        raise UserError(f"{field}: {share:.1%} of {num_rows} rows leaves one side empty; choose another share")
    if strata is None:
        strata = np.zeros(num_rows, np.int32)
    counts = np.bincount(strata)
    taken = _apportioned(counts, share, wanted)
    if not taken.any():
        raise UserError(f"{field}: every class has a single row, so none can be held out; is the target an identifier?")
    # In a random order of all rows, the first of each class are taken.
    shuffled = random.permutation(num_rows)
    by_class = shuffled[np.argsort(strata[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank = np.arange(num_rows) - np.repeat(starts, counts)
    mask = np.zeros(num_rows, bool)
    mask[by_class] = rank < np.repeat(taken, counts)
    return mask


def _whole_groups(share: float, groups: np.ndarray, random: np.random.Generator, field: str) -> np.ndarray:
    """Groups in random order, as many as come nearest to the share; at least one stays on each side."""
    present, sizes = np.unique(groups, return_counts=True)
    if len(present) < 2:
        raise UserError(
            f"{field}: whole groups are held out, and there is only one; choose another data.group or {field}"
        )
    order = random.permutation(len(present))
    miss = np.abs(np.cumsum(sizes[order]) - share * len(groups))
    num_groups = min(int(np.argmin(miss)) + 1, len(present) - 1)
    return np.isin(groups, present[order[:num_groups]])


def _apportioned(counts: np.ndarray, share: float, wanted: int) -> np.ndarray:
    """Rows to take of each class: `wanted` in sum, by largest remainders, and never all of a class."""
    exact = counts * share
    taken = np.floor(exact).astype(np.int64)
    most = np.maximum(counts - 1, 0)
    taken = np.minimum(taken, most)
    for label in np.argsort(taken - exact, kind="stable"):
        if taken.sum() >= wanted:
            break
        if taken[label] < most[label]:
            taken[label] += 1
    return taken
