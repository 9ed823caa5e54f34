"""Splitting of rows into training, validation and test."""

import re

import numpy as np

from data.random_streams import Stream, generator
from plumbline import UserError

DEFAULT_TEST_SHARE = 0.2
"""Share of the rows that is held out if a source has no test split."""
VALIDATION_NAMES = ("validation", "val", "valid", "dev")
"""Names, in lower case, of a source's own validation split."""
_DEFAULT_VALIDATION_SHARE = 0.1
_STREAMS = {"data.test": Stream.TEST_SPLIT, "data.validation": Stream.VALIDATION_SPLIT}


def parse_share(text: str, field: str) -> float | None:
    """Parses "N percent" to a share in 0 to 1. Returns None for any other text.

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
        raise UserError(f"{field}: '{text}' is not valid; give more than 0 and less than 100 percent")
    return percent / 100


def parse_validation_share(text: str) -> float | None:
    """Parses `data.validation` as `parse_share` does; "auto" is 10 percent, for a source without a validation split.

    Raises:
      UserError: N is not between 0 and 100.
    """
    return _DEFAULT_VALIDATION_SHARE if text == "auto" else parse_share(text, "data.validation")


def split_name(text: str) -> str | None:
    """Returns NAME of "split:NAME", or None for any other text."""
    return text.removeprefix("split:") if text.startswith("split:") else None


def hold_out(
    share: float, strata: np.ndarray | None, groups: np.ndarray | None, num_rows: int, *, seed: int, field: str
) -> np.ndarray:
    """Draws the rows to hold out.

    Args:
      share: share of the rows, in 0 to 1.
      strata: (n,) classes whose shares are preserved, or None.
      groups: (n,) groups, or None. Whole groups are held out, and strata are ignored.
      num_rows: number n of rows.
      seed: seed of the run.
      field: "data.test" or "data.validation"; selects the random stream and appears in messages.

    Returns:
      (n,) bool, True for rows that are held out.

    Raises:
      UserError: one side would be empty.
    """
    random = generator(seed, _STREAMS[field])
    if groups is not None:
        return _draw_groups(share, groups, random, field)
    wanted = round(share * num_rows)
    if not 0 < wanted < num_rows:
        raise UserError(f"{field}: {share:.1%} of {num_rows} rows leaves one side empty; choose another share")
    if strata is None:
        strata = np.zeros(num_rows, np.int32)
    counts = np.bincount(strata)
    taken = _apportion(counts, share, wanted)
    if not taken.any():
        raise UserError(f"{field}: every class has a single row, so none can be held out; is the target an identifier?")
    # Take the first rows of each class in a random order.
    shuffled = random.permutation(num_rows)
    by_class = shuffled[np.argsort(strata[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank = np.arange(num_rows) - np.repeat(starts, counts)
    mask = np.zeros(num_rows, bool)
    mask[by_class] = rank < np.repeat(taken, counts)
    return mask


def _draw_groups(share: float, groups: np.ndarray, random: np.random.Generator, field: str) -> np.ndarray:
    """Draws groups whose total size is nearest to the share. At least one group remains on each side."""
    present, sizes = np.unique(groups, return_counts=True)
    if len(present) < 2:
        raise UserError(
            f"{field}: whole groups are held out, but there is only one; choose another data.group or {field}"
        )
    order = random.permutation(len(present))
    miss = np.abs(np.cumsum(sizes[order]) - share * len(groups))
    num_groups = min(int(np.argmin(miss)) + 1, len(present) - 1)
    return np.isin(groups, present[order[:num_groups]])


def _apportion(counts: np.ndarray, share: float, wanted: int) -> np.ndarray:
    """Returns how many rows of each class to take: `wanted` in total, by largest remainder, never a whole class."""
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
