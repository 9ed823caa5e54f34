"""Learning curves: a power law of error against data, with its uncertainty, and predictions for other sizes.

The law is error(n) = floor + factor * n**-exponent (Hestness et al. 2017, section 2; Viering & Loog 2022, section 4).
A few sizes rarely determine its parameters, least of all the floor. So a curve is a set of draws from the posterior of
the parameters and of the noise of a training, on a grid, and every answer is quantiles over the draws. Refits to
bootstrapped errors, the usual method, gave intervals that were too narrow: with three seeds, nominal 95 % intervals
contained the truth in 84 to 92 of 100 cases.
"""

import dataclasses

import numpy as np
from scipy import optimize, stats

from diagnostics.statistics import Interval

LEAST_SIZES = 4
"""Number of sizes that a power law needs."""

# Priors: the floor is 0 with probability one half, else uniform up to a bit more than the smallest error; the exponent
# is uniform in its logarithm. The variance of a training's error is proportional to a power of the error, uniform on a
# grid (1 for counts of errors in a test set, 0 for equal noise at all sizes).
_NO_FLOOR, _EXPONENTS = 0.5, (0.05, 2.0)
_NOISE_POWERS = np.linspace(0.0, 2.0, 5)
# Floors and exponents of the grid. It is refined around points within these distances of the best log density, until it
# is fine enough for errors that hardly differ between seeds.
_GRID, _WITHIN = 40, (60.0, 30.0, 15.0)
# Answers further than this many times the largest measured size are not given.
_FARTHEST = 10
# Share of draws that is certain enough, and p-value of a test that raises doubt.
_SURE, _UNLIKELY = 0.95, 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needed:
    """The number of examples that an error needs.

    Attributes:
      examples: the estimate, or None if there is none.
      low: lower bound of the 95 % interval.
      high: upper bound; inf if the error may never be reached.
      reason: why there is no estimate; "" otherwise.
    """

    examples: float | None
    low: float
    high: float
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LearningCurve:
    """A fitted curve, as draws from its posterior.

    Attributes:
      sizes: (n,) examples of each training.
      errors: (n,) their errors.
      floor: (d,) error that no data remove.
      excess: (d,) error above the floor at the smallest size.
      exponent: (d,).
      noise: (d,) standard deviation of one training where the error is `scale`.
      noise_power: (d,) the variance is proportional to this power of the error.
      scale: the largest error of the curve.
      falling: probability that the error falls with data.
      misfit: p-value of the test for lack of fit (means of the sizes against the variance of their seeds); nan if no
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
        """Estimates the mean error of trainings of a size: (estimate, low, high)."""
        return _quantiles(self._draws(size), confidence)

    def gain(self, size: float, larger: float, confidence: float = 0.95) -> Interval:
        """Estimates how much smaller the mean error is with a larger size: (estimate, low, high)."""
        return _quantiles(self._draws(size) - self._draws(larger), confidence)

    def prediction(self, size: float, confidence: float = 0.95) -> Interval:
        """Predicts the measured error of one more training of a size: (estimate, low, high)."""
        errors = self._draws(size)
        noise = self.noise * (errors / self.scale) ** (self.noise_power / 2)
        # A fixed seed makes the answer a function of the curve alone.
        measured = errors + noise * np.random.default_rng(0).normal(size=len(errors))
        low, high = np.quantile(np.maximum(measured, 0.0), _tails(confidence))
        return (float(np.median(errors)), float(low), float(high))

    def parameters(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Returns the law's floor and exponent, each (estimate, low, high)."""
        return {name: _quantiles(getattr(self, name), confidence) for name in ("floor", "exponent")}

    def doubts(self) -> list[str]:
        """Returns reasons to distrust the curve; empty if there are none."""
        found = []
        if self.falling < _SURE:
            found.append(f"the error does not clearly fall with data (probability {self.falling:.0%} that it does)")
        if self.misfit < _UNLIKELY:
            found.append(f"the sizes measured do not lie on one power law (lack of fit, p = {self.misfit:.2g})")
        return found

    def needed(self, error: float) -> Needed:
        """Estimates the number of examples at which the mean error has a value.

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
            return f"out of reach: with more data the error levels off at {np.median(self.floor):.4g}"
        if reached < 0.5:
            return f"the error may level off above it (probability {1 - reached:.0%})"
        if estimate > _FARTHEST * largest:
            return f"more than {_FARTHEST} times the {largest:,} examples of the largest training"
        if estimate < smallest:
            return f"fewer than the {smallest:,} examples of the smallest training"
        return ""

    def _draws(self, size: float) -> np.ndarray:
        return self.floor + self.excess * (size / self.sizes.min()) ** -self.exponent


def fit(sizes: np.ndarray, errors: np.ndarray, *, draws: int = 4000, seed: int = 0) -> LearningCurve:
    """Fits the law to the errors of trainings of several sizes, preferably with several seeds of each.

    Args:
      sizes: (n,) examples that each was trained on.
      errors: (n,) at least 0: one less accuracy, or a mean squared error.
      draws: number of draws from the posterior.
      seed: of the draws.

    Raises:
      ValueError: there are fewer than four sizes, or an error that is negative or not finite.
    """
    sizes, errors = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    if len(np.unique(sizes)) < LEAST_SIZES:
        raise ValueError(f"a power law needs at least {LEAST_SIZES} sizes, not {len(np.unique(sizes))}")
    if not (np.isfinite(errors) & (errors >= 0)).all():
        raise ValueError("an error is negative or not finite")
    # Errors near zero count as one tenth of the smallest positive error, so that weights are bounded.
    least = errors[errors > 0].min(initial=1.0) / 10
    rough = np.maximum(_least_squares(sizes, errors, least), least)
    scale = float(rough.max())
    random = np.random.default_rng(seed)
    floor, excess, exponent, variance, power = _posterior(sizes, errors, rough / scale, least, draws, random)
    falls = excess > 0
    falling = float(falls.mean())
    # If no draw falls, the curve is level.
    falls, excess = (falls, excess) if falls.any() else (~falls, np.zeros_like(excess))
    return LearningCurve(
        sizes=sizes,
        errors=errors,
        floor=floor[falls],
        excess=excess[falls],
        exponent=exponent[falls],
        noise=np.sqrt(variance[falls]),
        noise_power=power[falls],
        scale=scale,
        falling=falling,
        misfit=_misfit(sizes, errors, rough),
    )


def _least_squares(sizes: np.ndarray, errors: np.ndarray, least: float) -> np.ndarray:
    """Fits the law's errors (n,) by least squares, with variances proportional to the errors."""
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
    """Draws floor, excess at the smallest size (may be negative), exponent, variance of the noise and its power."""
    highest = 1.2 * max(errors[sizes == sizes.max()].mean(), least)
    floors, exponents = np.linspace(0, highest, _GRID), np.geomspace(*_EXPONENTS, _GRID)
    for within in _WITHIN:
        grid = _Grid(sizes, errors, rough, least, floors, exponents, highest)
        near = grid.density > grid.density.max() - within
        floors = np.linspace(*_around(floors, near.any(axis=(1, 2))), _GRID)
        exponents = np.geomspace(*_around(exponents, near.any(axis=(0, 2))), _GRID)
    return _Grid(sizes, errors, rough, least, floors, exponents, highest).draw(draws, random)


def _around(values: np.ndarray, near: np.ndarray) -> tuple[float, float]:
    """Returns the range of the chosen values, with one more on either side."""
    chosen = np.flatnonzero(near)
    return values[max(chosen[0] - 1, 0)], values[min(chosen[-1] + 1, len(values) - 1)]


class _Grid:
    """The posterior density over floors (f), exponents (e) and powers of the noise (p).

    Given those, the law is linear in the excess. With uniform priors on it and on the logarithm of the variance, both
    are integrated out in closed form.
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
        """Draws floor, excess, exponent, variance and power, each (count,)."""
        chances = np.exp(self.density - self.density.max()).ravel()
        chosen = random.choice(chances.size, count, p=chances / chances.sum())
        f, e, p = np.unravel_index(chosen, self.density.shape)
        variance = self._rest[f, e, p] / random.chisquare(self._degrees, count)
        excess = self._best[f, e, p] + np.sqrt(variance / self._square[e, p]) * random.normal(size=count)
        return self._floors[f], excess, self._exponents[e], variance, _NOISE_POWERS[p]


def _misfit(sizes: np.ndarray, errors: np.ndarray, rough: np.ndarray) -> float:
    """Computes the p-value of the F-test for lack of fit, with the weights of the least squares."""
    distinct, index, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    repeats, surplus = len(sizes) - len(distinct), len(distinct) - 3
    if not repeats:
        return float("nan")
    means = (np.bincount(index, errors) / counts)[index]
    pure = (np.square(errors - means) / rough).sum() / repeats
    lack = (np.square(means - rough) / rough).sum() / surplus
    # If seeds differ by rounding only, their variance is unknown.
    return float(stats.f.sf(lack / pure, surplus, repeats)) if pure > 1e-12 * rough.mean() else float("nan")


def _quantiles(draws: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(draws, _tails(confidence))
    return (float(np.median(draws)), float(low), float(high))


def _tails(confidence: float) -> tuple[float, float]:
    return ((1 - confidence) / 2, (1 + confidence) / 2)
