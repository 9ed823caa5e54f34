"""How error falls with data: a power law with what is not known about it, and what it says of sizes not measured.

The law is error(n) = floor + factor * n**-exponent (Hestness et al. 2017, section 2; Viering & Loog 2022, section 4).
A few sizes hardly ever pin its parameters down, least of all the floor. So none is picked: a curve is a set of draws
from the posterior of all of them and of the noise of a training, taken from a grid, and every answer is quantiles over
the draws. Refits to bootstrapped errors, the usual way, gave intervals that were too narrow: of three seeds, those
called 95 % held in 84 to 92 of 100 cases.
"""

import dataclasses

import numpy as np
from scipy import optimize, stats

from diagnostics.statistics import Interval

LEAST_SIZES = 4
"""Sizes that a power law takes."""

# Priors: of the floor, half on none at all, half even up to more than the least error seen; of the exponent even in its
# logarithm; of the variance of a training's error, even in the power of the error it goes with (1 is what counting the
# errors in a test set gives, 0 the same noise at all sizes).
_NO_FLOOR, _EXPONENTS = 0.5, (0.05, 2.0)
_NOISE_POWERS = np.linspace(0.0, 2.0, 5)
# Floors and exponents of the grid. It is laid anew over those that came within so much of the best log density, until
# it is fine enough for errors that hardly differ between seeds.
_GRID, _WITHIN = 40, (60.0, 30.0, 15.0)
# An answer this many times beyond the largest size measured is no answer.
_FARTHEST = 10
# A share of draws like this leaves no doubt; a test's p-value like that does.
_SURE, _UNLIKELY = 0.95, 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needed:
    """The examples that an error would take.

    Attributes:
      examples: the estimate, or None if it cannot be said.
      low: bound of the 95 % interval.
      high: the other bound; inf if no number of examples may be enough.
      reason: why it cannot be said; "" otherwise.
    """

    examples: float | None
    low: float
    high: float
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LearningCurve:
    """A fitted curve: draws of what it may be.

    Attributes:
      sizes: (n,) examples of each training.
      errors: (n,) their errors.
      floor: (d,) error that no data remove.
      excess: (d,) error above the floor at the smallest size.
      exponent: (d,).
      noise: (d,) deviation of one training where the error is `scale`.
      noise_power: (d,) the variance goes with the error to this power.
      scale: the largest error of the curve.
      falling: probability that the error falls with data at all.
      misfit: p-value of the test for lack of fit (the means of the sizes against the spread of their seeds); nan if no
        size was trained twice.
    """

    sizes: np.ndarray
    errors: np.ndarray
    floor: np.ndarray
    excess: np.ndarray
    exponent: np.ndarray
    noise: np.ndarray
    noise_power: np.ndarray
    scale: float
    falling: float
    misfit: float

    def error(self, size: float, confidence: float = 0.95) -> Interval:
        """The error of trainings of that size in the mean over seeds: (estimate, low, high)."""
        return _quantiles(self._draws(size), confidence)

    def gain(self, size: float, larger: float, confidence: float = 0.95) -> Interval:
        """How much less the error is with the larger size, in the mean over seeds: (estimate, low, high)."""
        return _quantiles(self._draws(size) - self._draws(larger), confidence)

    def prediction(self, size: float, confidence: float = 0.95) -> Interval:
        """The error that one more training, of that size, will be measured at: (estimate, low, high)."""
        errors = self._draws(size)
        spread = self.noise * (errors / self.scale) ** (self.noise_power / 2)
        # The same numbers each time: the answer is a function of the curve alone.
        measured = errors + spread * np.random.default_rng(0).normal(size=len(errors))
        low, high = np.quantile(np.maximum(measured, 0.0), _tails(confidence))
        return (float(np.median(errors)), float(low), float(high))

    def parameters(self, confidence: float = 0.95) -> dict[str, Interval]:
        """The law's floor and exponent, each (estimate, low, high)."""
        return {name: _quantiles(getattr(self, name), confidence) for name in ("floor", "exponent")}

    def doubts(self) -> list[str]:
        """Why the curve should not be believed; empty if nothing speaks against it."""
        found = []
        if self.falling < _SURE:
            found.append(f"the error does not clearly fall with data (probability {self.falling:.0%} that it does)")
        if self.misfit < _UNLIKELY:
            found.append(f"the sizes measured do not lie on one power law (lack of fit, p = {self.misfit:.2g})")
        return found

    def needed(self, error: float) -> Needed:
        """The examples at which trainings have that error in the mean.

        Args:
          error: at least 0.
        """
        room = error - self.floor
        reached = room > 0
        with np.errstate(divide="ignore", over="ignore"):
            sizes = np.where(
                reached, self.sizes.min() * (self.excess / np.where(reached, room, 1.0)) ** (1 / self.exponent), np.inf
            )
        low, estimate, high = map(float, np.quantile(sizes, (0.025, 0.5, 0.975), method="higher"))
        reason = self._why_not(estimate, reached.mean())
        return Needed(examples=None if reason else estimate, low=low, high=high, reason=reason)

    def _why_not(self, estimate: float, reached: float) -> str:
        smallest, largest = int(self.sizes.min()), int(self.sizes.max())
        if doubts := self.doubts():
            return "; ".join(doubts)
        if reached < 1 - _SURE:
            return f"out of reach: more data alone level off at an error of {np.median(self.floor):.4g}"
        if reached < 0.5:
            return f"more data may level off above it (probability {1 - reached:.0%})"
        if estimate > _FARTHEST * largest:
            return f"more than {_FARTHEST} times the {largest:,} examples that were measured at most"
        if estimate < smallest:
            return f"fewer than {smallest:,} examples, the least that were measured"
        return ""

    def _draws(self, size: float) -> np.ndarray:
        return self.floor + self.excess * (size / self.sizes.min()) ** -self.exponent


def fit(sizes: np.ndarray, errors: np.ndarray, *, draws: int = 4000, seed: int = 0) -> LearningCurve:
    """Fits the law to the errors of trainings of several sizes and, best, several seeds of each.

    Args:
      sizes: (n,) examples that each was trained on.
      errors: (n,) at least 0: one less accuracy, or a mean squared error.
      draws: from the posterior.
      seed: of the draws.

    Raises:
      ValueError: there are fewer than four sizes, or an error that is negative or not finite.
    """
    sizes, errors = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    if len(np.unique(sizes)) < LEAST_SIZES:
        raise ValueError(f"a power law takes at least {LEAST_SIZES} sizes, not {len(np.unique(sizes))}")
    if not (np.isfinite(errors) & (errors >= 0)).all():
        raise ValueError("an error is negative or not finite")
    # What is nearly zero counts as one tenth of the least error there is, so that no weight is without bound.
    least = errors[errors > 0].min(initial=1.0) / 10
    rough = np.maximum(_least_squares(sizes, errors, least), least)
    scale = float(rough.max())
    random = np.random.default_rng(seed)
    floor, excess, exponent, variance, power = _posterior(sizes, errors, rough / scale, least, draws, random)
    kept = excess > 0
    falling = float(kept.mean())
    # Without a fall, there is nothing to draw a falling curve from: a level one stands for it.
    kept, excess = (kept, excess) if kept.any() else (~kept, np.zeros_like(excess))
    return LearningCurve(
        sizes=sizes,
        errors=errors,
        floor=floor[kept],
        excess=excess[kept],
        exponent=exponent[kept],
        noise=np.sqrt(variance[kept]),
        noise_power=power[kept],
        scale=scale,
        falling=falling,
        misfit=_misfit(sizes, errors, rough),
    )


def _least_squares(sizes: np.ndarray, errors: np.ndarray, least: float) -> np.ndarray:
    """The law's errors (n,) by least squares, each error weighted as if its variance were in proportion to it."""
    relative = sizes / sizes.max()
    weights = 1 / np.sqrt(np.maximum(errors, least))

    def law(parameters: np.ndarray) -> np.ndarray:
        floor, excess, exponent = parameters
        return floor + excess * relative**-exponent

    start = (errors.min() / 2, max(errors.mean() / 2, least), 0.5)
    bounds = ((0, 0, _EXPONENTS[0]), (np.inf, np.inf, _EXPONENTS[1]))
    return law(optimize.least_squares(lambda p: weights * (law(p) - errors), start, bounds=bounds).x)


def _posterior(
    sizes: np.ndarray, errors: np.ndarray, rough: np.ndarray, least: float, draws: int, random: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Draws of floor, excess at the smallest size (may be negative), exponent, variance of the noise and its power."""
    highest = 1.2 * max(errors[sizes == sizes.max()].mean(), least)
    floors, exponents = np.linspace(0, highest, _GRID), np.geomspace(*_EXPONENTS, _GRID)
    for within in _WITHIN:
        grid = _Grid(sizes, errors, rough, least, floors, exponents, highest)
        near = grid.density > grid.density.max() - within
        floors = np.linspace(*_around(floors, near.any(axis=(1, 2))), _GRID)
        exponents = np.geomspace(*_around(exponents, near.any(axis=(0, 2))), _GRID)
    return _Grid(sizes, errors, rough, least, floors, exponents, highest).draw(draws, random)


def _around(values: np.ndarray, near: np.ndarray) -> tuple[float, float]:
    """The range of the chosen values, and one more on either side."""
    chosen = np.flatnonzero(near)
    return values[max(chosen[0] - 1, 0)], values[min(chosen[-1] + 1, len(values) - 1)]


class _Grid:
    """The posterior density over floors (f), exponents (e) and powers of the noise (p).

    Given those, the law is linear in the excess. With a prior even in it and in the logarithm of the variance, both are
    integrated out in closed form.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        errors: np.ndarray,
        rough: np.ndarray,
        least: float,
        floors: np.ndarray,
        exponents: np.ndarray,
        highest: float,
    ):
        self._floors, self._exponents, self._degrees = floors, exponents, len(errors) - 1
        prior = np.full(_GRID, (1 - _NO_FLOOR) * (floors[1] - floors[0]) / highest)
        prior[floors == 0] = _NO_FLOOR
        weights = rough ** -_NOISE_POWERS[:, None]  # (p, n)
        shape = (sizes / sizes.min()) ** -exponents[:, None]  # (e, n)
        above = errors - floors[:, None]  # (f, n)
        self._square = np.einsum("en,pn,en->ep", shape, weights, shape, optimize=True)
        product = np.einsum("epn,fn->fep", shape[:, None] * weights, above, optimize=True)
        total = np.einsum("pn,fn->fp", weights, above**2)[:, None, :]
        self._best = product / self._square
        self._rest = np.maximum(total - product * self._best, len(errors) * least**2 * 1e-6)
        self.density = (
            np.log(prior)[:, None, None]
            + np.log(weights).sum(axis=1) / 2
            - np.log(self._square) / 2
            - np.log(self._rest) * self._degrees / 2
        )

    def draw(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Floor, excess, exponent, variance and power, each (count,)."""
        chances = np.exp(self.density - self.density.max()).ravel()
        chosen = random.choice(chances.size, count, p=chances / chances.sum())
        f, e, p = np.unravel_index(chosen, self.density.shape)
        variance = self._rest[f, e, p] / random.chisquare(self._degrees, count)
        excess = self._best[f, e, p] + np.sqrt(variance / self._square[e, p]) * random.normal(size=count)
        return self._floors[f], excess, self._exponents[e], variance, _NOISE_POWERS[p]


def _misfit(sizes: np.ndarray, errors: np.ndarray, rough: np.ndarray) -> float:
    """The p-value of the F-test for lack of fit, with the weights of the least squares."""
    distinct, index, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    repeats, surplus = len(sizes) - len(distinct), len(distinct) - 3
    if not repeats:
        return float("nan")
    means = (np.bincount(index, errors) / counts)[index]
    pure = (np.square(errors - means) / rough).sum() / repeats
    lack = (np.square(means - rough) / rough).sum() / surplus
    # Seeds that differ by rounding alone say nothing of a spread.
    return float(stats.f.sf(lack / pure, surplus, repeats)) if pure > 1e-12 * rough.mean() else float("nan")


def _quantiles(draws: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(draws, _tails(confidence))
    return (float(np.median(draws)), float(low), float(high))


def _tails(confidence: float) -> tuple[float, float]:
    return ((1 - confidence) / 2, (1 + confidence) / 2)
