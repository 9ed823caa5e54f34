"""Synchronous pruning: the rungs at which trials are compared, and the trials that continue after each.

All running trials train up to a rung and are compared there, and the trials that are kept continue.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

PRUNERS = ("none", "halving", "hyperband", "median")
# One trial in three continues to the next rung, which is three times as long.
FACTOR = 3


@dataclasses.dataclass(frozen=True)
class Rung:
    """A step of the training at which trials are compared.

    Attributes:
      candidates: trials that train up to this rung; None: all that were kept.
      resources: steps of the training up to this rung.
    """

    candidates: int | None
    resources: int


@dataclasses.dataclass(frozen=True)
class Bracket:
    """Trials that are compared with each other.

    Attributes:
      trials: their number.
      rungs: in order; the last is the end of the training.
    """

    trials: int
    rungs: tuple[Rung, ...]


def make_brackets(pruner: str, trials: int, steps: int, evaluate_every: int) -> list[Bracket]:
    """Returns the brackets of a batch of trials.

    Args:
      pruner: one of `PRUNERS`.
      trials: in the batch.
      steps: of a whole training.
      evaluate_every: steps between evaluations, which are the rungs of "median".
    """
    if pruner == "halving":
        return [Bracket(trials, tuple(halving(trials, steps)))]
    if pruner == "hyperband":
        return hyperband(trials, steps)
    rungs = range(evaluate_every, steps, evaluate_every) if pruner == "median" else ()
    return [Bracket(trials, tuple(Rung(None, step) for step in (*rungs, steps)))]


def halving(candidates: int, max_resources: int, factor: int = FACTOR) -> list[Rung]:
    """Returns the rungs of successive halving (Jamieson & Talwalkar 2016), as scikit-learn's `HalvingRandomSearchCV`.

    The first rung is as long as possible if the last one is to reach `max_resources` (`min_resources="exhaust"`), up to
    rounding.

    Args:
      candidates: trials at the start, at least 1.
      max_resources: steps of a whole training.
      factor: one trial in `factor` continues.
    """
    # The same floating-point logarithms as scikit-learn's, which lose a rung just below a power of the factor.
    required = 1 + math.floor(math.log(candidates, factor))
    shortest = max(1, max_resources // factor ** (required - 1))
    possible = 1 + math.floor(math.log(max_resources // shortest, factor))
    rungs = []
    for power in range(min(required, possible)):
        rungs.append(Rung(candidates, min(factor**power * shortest, max_resources)))
        candidates = math.ceil(candidates / factor)
    return rungs


def hyperband(trials: int, max_resources: int, factor: int = FACTOR) -> list[Bracket]:
    """Returns the brackets of Hyperband (Li et al. 2018, algorithm 1), from the shortest first rung to whole trainings.

    There are as many brackets as the trials fill in the proportions of the paper. Additional trials are distributed in
    the same proportions.

    Args:
      trials: in all brackets together, at least 1.
      max_resources: steps of a whole training.
      factor: eta in the paper.
    """
    most = 0
    while factor ** (most + 1) <= max_resources and sum(bracket_sizes(most + 1, factor)) <= trials:
        most += 1
    sizes = _distribute(trials, bracket_sizes(most, factor))
    found = []
    for size, halvings in zip(sizes, range(most, -1, -1), strict=True):
        rungs = [
            Rung(max(1, size // factor**index), max(1, max_resources // factor ** (halvings - index)))
            for index in range(halvings + 1)
        ]
        found.append(Bracket(size, tuple(rungs)))
    return [bracket for bracket in found if bracket.trials]


def bracket_sizes(most: int, factor: int = FACTOR) -> list[int]:
    """Returns the trials of each bracket in the paper, starting with the bracket of `most` halvings."""
    return [math.ceil((most + 1) / (s + 1) * factor**s) for s in range(most, -1, -1)]


def select_best(values: Mapping[int, float], count: int, *, higher_is_better: bool) -> set[int]:
    """Returns the `count` best trials; among equal trials, those with lower numbers.

    Args:
      values: by number of the trial.
      count: maximal number of trials.
      higher_is_better: direction of the values.
    """
    sign = -1 if higher_is_better else 1
    return set(sorted(values, key=lambda number: (sign * values[number], number))[:count])


def select_not_below_median(
    values: Mapping[int, float], others: Sequence[float], *, higher_is_better: bool
) -> set[int]:
    """Returns the trials that are not worse than the median of all trials that reached this step.

    This is the rule of Golovin et al. (2017), section 3.2.2, with all trials at the same step.

    Args:
      values: of the compared trials, by number.
      others: values of trials that reached this step before.
      higher_is_better: direction of the values.
    """
    middle = statistics.median([*values.values(), *others])
    return {number for number, value in values.items() if (value >= middle if higher_is_better else value <= middle)}


def _distribute(count: int, sizes: Sequence[int]) -> list[int]:
    """Splits `count` in the proportions of `sizes`, with remainders given to the largest fractions."""
    exact = [count * size / sum(sizes) for size in sizes]
    shared = [math.floor(share) for share in exact]
    order = sorted(range(len(sizes)), key=lambda index: (shared[index] - exact[index], index))
    for index in order[: count - sum(shared)]:
        shared[index] += 1
    return shared
