"""Which trials go on: rungs, at which all live trials stand side by side, and what is kept there.

Everything is synchronous: all trials train until the rung, are compared, and the kept ones go on. Nothing here trains.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

PRUNERS = ("none", "halving", "hyperband", "median")
# Of so many trials one goes on to the next rung, which is so many times as long.
FACTOR = 3


@dataclasses.dataclass(frozen=True)
class Rung:
    """A point of a training at which trials are compared.

    Attributes:
      candidates: trials that train until here; None: as many as were kept.
      resources: steps of the training until here.
    """

    candidates: int | None
    resources: int


@dataclasses.dataclass(frozen=True)
class Bracket:
    """Trials that are compared with each other, rung by rung."""

    trials: int
    rungs: tuple[Rung, ...]


def brackets(pruner: str, trials: int, steps: int, evaluate_every: int) -> list[Bracket]:
    """The brackets of a batch of trials. The last rung of each is the end of the training.

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
    """Successive halving (Jamieson & Talwalkar 2016), with the rungs of scikit-learn's `HalvingRandomSearchCV`.

    The first rung is as long as the last one's reaching `max_resources` allows (`min_resources="exhaust"`), up to
    rounding.

    Args:
      candidates: trials at the start, at least 1.
      max_resources: of a whole training.
      factor: one in so many goes on.
    """
    # Logarithms as scikit-learn takes them: just below a power of the factor, rounding costs a rung there as well.
    required = 1 + math.floor(math.log(candidates, factor))
    shortest = max(1, max_resources // factor ** (required - 1))
    possible = 1 + math.floor(math.log(max_resources // shortest, factor))
    rungs = []
    for power in range(min(required, possible)):
        rungs.append(Rung(candidates, min(factor**power * shortest, max_resources)))
        candidates = math.ceil(candidates / factor)
    return rungs


def hyperband(trials: int, max_resources: int, factor: int = FACTOR) -> list[Bracket]:
    """Hyperband (Li et al. 2018, algorithm 1): brackets of halving, from the shortest first rung to whole trainings.

    It has as many brackets as the trials fill in the paper's proportions; those beyond are shared out in them.

    Args:
      trials: in all brackets together, at least 1.
      max_resources: of a whole training.
      factor: the paper's eta.
    """
    most = 0
    while factor ** (most + 1) <= max_resources and sum(bracket_sizes(most + 1, factor)) <= trials:
        most += 1
    sizes = _shared_out(trials, bracket_sizes(most, factor))
    found = []
    for size, halvings in zip(sizes, range(most, -1, -1), strict=True):
        rungs = [
            Rung(max(1, size // factor**index), max(1, max_resources // factor ** (halvings - index)))
            for index in range(halvings + 1)
        ]
        found.append(Bracket(size, tuple(rungs)))
    return [bracket for bracket in found if bracket.trials]


def bracket_sizes(most: int, factor: int = FACTOR) -> list[int]:
    """Trials of each bracket in the paper, the one with `most` halvings first."""
    return [math.ceil((most + 1) / (s + 1) * factor**s) for s in range(most, -1, -1)]


def best(values: Mapping[int, float], count: int, *, higher_is_better: bool) -> set[int]:
    """The `count` best trials; of equal ones those of lower number.

    Args:
      values: by number of the trial.
      count: at most.
      higher_is_better: the direction.
    """
    sign = -1 if higher_is_better else 1
    return set(sorted(values, key=lambda number: (sign * values[number], number))[:count])


def not_below_median(values: Mapping[int, float], others: Sequence[float], *, higher_is_better: bool) -> set[int]:
    """The trials that are not worse than the median of all that came to this step (Golovin et al. 2017, section 3.2.2,
    with all trials at the same step).

    Args:
      values: of the trials that are compared, by number.
      others: of trials that came to this step before.
      higher_is_better: the direction.
    """
    middle = statistics.median([*values.values(), *others])
    return {number for number, value in values.items() if (value >= middle if higher_is_better else value <= middle)}


def _shared_out(count: int, sizes: Sequence[int]) -> list[int]:
    """`count` in the proportions of `sizes`: rounded down, and the rest to the largest remainders."""
    exact = [count * size / sum(sizes) for size in sizes]
    shared = [math.floor(share) for share in exact]
    order = sorted(range(len(sizes)), key=lambda index: (shared[index] - exact[index], index))
    for index in order[: count - sum(shared)]:
        shared[index] += 1
    return shared
