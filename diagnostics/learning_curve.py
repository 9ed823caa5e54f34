"""Learning curves: a power law of error against data with departures from it, its uncertainty, and predictions.

The law is error(n) = floor + factor * n**-exponent (Hestness et al. 2017, section 2; Viering & Loog 2022, section 4).
A few sizes rarely determine its parameters, and real curves keep to no law exactly. So the mean error is the law plus
a Brownian motion in the logarithm of the size, proportional to the error. The error of one training also depends on
the rows that were drawn for it: errors of trainings that share rows are correlated, as the leading term of their
Hoeffding decomposition is (Hoeffding 1948, section 5), and all trainings on the whole set share theirs. A curve is a
set of draws from the posterior of this model on a grid, and every answer is quantiles over the draws. Nothing is
truncated: a draw may rise with data.

The constants of the departures and the shared noise were chosen on 216 curves of 18 tables; docs/populations.md has the
coverage on others.
"""

import dataclasses

import numpy as np
from scipy import linalg, optimize, stats

from diagnostics.statistics import Interval

LEAST_SIZES = 4
"""Number of sizes that a power law needs."""

# Priors: the floor is 0 with probability one half, else uniform up to a bit more than the smallest error; the exponent
# is uniform in its logarithm, as is the noise of a training.
_NO_FLOOR, _FLOORS = 0.5, 25
_EXPONENTS = np.geomspace(0.05, 2.0, 25)
_NOISES = 9
# Deviations of the departures from the law over a factor of two, relative to the error; equally probable.
_DEPARTURES = (0.05, 0.1, 0.2, 0.4)
# Share of the variance of a training's error that is due to its rows; the rest is due to its seed.
_ROWS = 0.9
# Answers further than this many times the largest measured size are not given.
_FARTHEST = 10
# Factor between sizes at which the mean error is drawn, beyond the measured ones; and the farthest of these.
_STEP, _END = np.sqrt(2), 16
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
      nodes: (g,) sizes at which the mean error is drawn, ascending; between them it is linear in the logarithm.
      paths: (d, g) the mean error there.
      floor: (d,) error that no data remove, by the law.
      exponent: (d,) of the law.
      noise: (d,) standard deviation of one training where the error is `scale`; the variance is proportional to the
        error.
      scale: a typical error of the curve.
      falling: probability that the error falls with data.
      misfit: p-value of the test for lack of fit (means of the sizes against the variance of their seeds); nan if no
        size was trained on several sets of rows.
    """

    sizes: np.ndarray
    errors: np.ndarray
    nodes: np.ndarray
    paths: np.ndarray
    floor: np.ndarray
    exponent: np.ndarray
    noise: np.ndarray
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
        noise = self.noise * np.sqrt(np.maximum(errors, 0.0) / self.scale)
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
        """Estimates the number of examples at which the mean error first has a value.

        Args:
          error: at least 0.
        """
        below = self.paths <= error
        first = below.argmax(axis=1)
        before = np.maximum(first - 1, 0)
        rows, logs = np.arange(len(below)), np.log(self.nodes)
        fall = self.paths[rows, before] - self.paths[rows, first]
        part = np.divide(self.paths[rows, before] - error, fall, out=np.ones(len(rows)), where=first > 0)
        sizes = np.exp(logs[before] + part * (logs[first] - logs[before]))
        sizes[~below.any(axis=1)] = np.inf
        low, estimate, high = map(float, np.quantile(sizes, (0.025, 0.5, 0.975), method="higher"))
        reason = self._why_not(estimate, float((self.floor < error).mean()))
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
        place = float(np.interp(np.log(size), np.log(self.nodes), np.arange(len(self.nodes))))
        left = min(int(place), len(self.nodes) - 2)
        return self.paths[:, left] + (place - left) * (self.paths[:, left + 1] - self.paths[:, left])


def fit(
    sizes: np.ndarray, errors: np.ndarray, overlaps: np.ndarray | None = None, *, draws: int = 4000, seed: int = 0
) -> LearningCurve:
    """Fits the law to the errors of trainings of several sizes, preferably with several seeds of each.

    Args:
      sizes: (n,) examples that each was trained on.
      errors: (n,) at least 0: one less accuracy, or a mean squared error.
      overlaps: (n, n) examples that each two trainings share, with the sizes on the diagonal; None if they share none.
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
    shared = np.diag(sizes) if overlaps is None else np.asarray(overlaps, np.float64)
    posterior = _Posterior(sizes, errors, shared)
    paths, floor, exponent, noise = posterior.draw(draws, np.random.default_rng(seed))
    ends = np.searchsorted(posterior.nodes, (sizes.min(), sizes.max()))
    return LearningCurve(
        sizes=sizes,
        errors=errors,
        nodes=posterior.nodes,
        paths=paths,
        floor=floor,
        exponent=exponent,
        noise=noise,
        scale=posterior.scale,
        falling=float((paths[:, ends[0]] > paths[:, ends[1]]).mean()),
        misfit=_misfit(sizes, errors, shared, posterior.noise_shape),
    )


class _Posterior:
    """The posterior over floors (f), exponents (e), noises and departures.

    Given those, errors are normal and linear in the factor, which has a uniform prior and is integrated out.
    """

    def __init__(self, sizes: np.ndarray, errors: np.ndarray, shared: np.ndarray):
        self._sizes, self._errors = sizes, errors
        largest, smallest = sizes.max(), sizes.min()
        beyond = largest * _STEP ** np.arange(1, 1 + round(np.log(_END) / np.log(_STEP)))
        # The law holds exactly at the first node, where the departures begin.
        self.nodes = np.concatenate([[smallest / 2], np.unique(sizes), beyond])
        self._at = np.searchsorted(self.nodes, sizes)
        # Errors near zero count as one tenth of the smallest positive error, so that weights are bounded.
        positive = errors[errors > 0]
        self._least = float(positive.min() if len(positive) else 1.0) / 10
        slope = np.polyfit(np.log(sizes), np.log(np.maximum(errors, self._least)), 1)
        typical = np.maximum(np.exp(np.polyval(slope, np.log(self.nodes))), self._least)
        own = typical[self._at]
        self.scale = float(np.exp(np.log(own).mean()))
        self.noise_shape = _correlate(shared) * np.sqrt(np.outer(own, own)) / self.scale
        since = np.log(self.nodes / self.nodes[0])
        self._departures = np.minimum.outer(since, since) / np.log(2) * np.outer(typical, typical)
        most = max(float(np.std(errors - own)), 1e-3 * self.scale)
        _, index = np.unique(sizes, return_inverse=True)
        within = errors - (np.bincount(index, errors) / np.bincount(index))[index]
        least = np.clip(float(np.std(within)), 0.1 * most, most)
        self._noises = np.geomspace(least / 3, 3 * most, _NOISES)
        self._floors = np.linspace(0, 1.2 * max(errors[sizes == largest].mean(), self._least), _FLOORS)
        self._prior = np.full(_FLOORS, np.log((1 - _NO_FLOOR) / (_FLOORS - 1)))
        self._prior[0] = np.log(_NO_FLOOR)

    def draw(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Draws paths (count, g), and floor, exponent and noise, each (count,)."""
        cells = [(noise, departure) for noise in self._noises for departure in _DEPARTURES]
        solved = [self._solve(*cell) for cell in cells]
        density = np.array([each[0] for each in solved])
        chances = np.exp(density - density.max()).ravel()
        chosen = random.choice(chances.size, count, p=chances / chances.sum())
        cell, f, e = np.unravel_index(chosen, density.shape)
        floor, exponent = self._floors[f], _EXPONENTS[e]
        paths = np.empty((count, len(self.nodes)))
        for number in np.unique(cell):
            own = np.flatnonzero(cell == number)
            _, best, square = solved[number]
            factor = best[f[own], e[own]] + random.normal(size=len(own)) / np.sqrt(square[e[own]])
            powers = self._relative(self.nodes)[None, :] ** -exponent[own, None]
            law = floor[own, None] + factor[:, None] * powers
            paths[own] = law + self._depart(*cells[number], self._errors - law[:, self._at], random)
        return paths, floor, exponent, np.array([noise for noise, _ in cells])[cell]

    def _covariance(self, noise: float, departure: float) -> np.ndarray:
        return noise**2 * self.noise_shape + departure**2 * self._departures[np.ix_(self._at, self._at)]

    def _solve(self, noise: float, departure: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the log density (f, e), the best factor (f, e), and its precision (e,)."""
        root = np.linalg.cholesky(self._covariance(noise, departure))
        shape = self._relative(self._sizes)[:, None] ** -_EXPONENTS
        columns = np.column_stack([self._errors, np.ones(len(self._sizes)), shape])
        errors, ones, *shapes = linalg.solve_triangular(root, columns, lower=True).T
        shapes = np.array(shapes)
        square = np.square(shapes).sum(axis=1)
        best = (shapes @ errors - self._floors[:, None] * (shapes @ ones)) / square
        total = np.square(errors - self._floors[:, None] * ones).sum(axis=1)
        rest = total[:, None] - best**2 * square
        density = self._prior[:, None] - rest / 2 - np.log(square) / 2 - np.log(np.diag(root)).sum()
        return density, best, square

    def _depart(self, noise: float, departure: float, rest: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draws departures from the law at all nodes (d, g), given what the law leaves of the errors (d, n)."""
        prior = departure**2 * self._departures
        gain = np.linalg.solve(self._covariance(noise, departure), prior[self._at])
        spread, vectors = np.linalg.eigh(prior - prior[:, self._at] @ gain)
        draws = random.normal(size=(len(rest), len(spread))) * np.sqrt(np.maximum(spread, 0.0))
        return rest @ gain + draws @ vectors.T

    def _relative(self, sizes: np.ndarray) -> np.ndarray:
        return sizes / self._sizes.max()


def _correlate(shared: np.ndarray) -> np.ndarray:
    """Returns the correlations (n, n) of errors of trainings that share rows."""
    sizes = np.diag(shared)
    return _ROWS * shared / np.sqrt(np.outer(sizes, sizes)) + (1 - _ROWS) * np.eye(len(sizes))


def _misfit(sizes: np.ndarray, errors: np.ndarray, shared: np.ndarray, covariance: np.ndarray) -> float:
    """Computes the p-value of the F-test for lack of fit, by generalised least squares."""
    # Trainings on the same rows count once, with their mean: they say nothing of the variance between sets of rows.
    same = shared >= np.maximum.outer(sizes, sizes)
    _, first = np.unique(same, axis=0, return_index=True)
    average = same[first] / same[first].sum(axis=1, keepdims=True)
    sizes, errors, covariance = sizes[first], average @ errors, average @ covariance @ average.T
    distinct, index = np.unique(sizes, return_inverse=True)
    repeats, surplus = len(sizes) - len(distinct), len(distinct) - 3
    if not repeats:
        return float("nan")
    root = np.linalg.cholesky(covariance)

    def whiten(values: np.ndarray) -> np.ndarray:
        return linalg.solve_triangular(root, values, lower=True)

    target, means = whiten(errors), whiten(np.eye(len(distinct))[index])
    pure = float(np.square(target - means @ np.linalg.lstsq(means, target)[0]).sum())
    # If seeds differ by rounding only, their variance is unknown.
    if pure <= 1e-12 * np.square(target).sum():
        return float("nan")

    def rest(parameters: np.ndarray) -> np.ndarray:
        floor, factor, exponent = parameters
        return target - whiten(floor + factor * (sizes / sizes.max()) ** -exponent)

    start = (errors.min() / 2, errors.mean() / 2, 0.5)
    bounds = ((0, 0, _EXPONENTS[0]), (np.inf, np.inf, _EXPONENTS[-1]))
    law = 2 * optimize.least_squares(rest, start, bounds=bounds).cost
    return float(stats.f.sf((law - pure) / surplus / (pure / repeats), surplus, repeats))


def _quantiles(draws: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(draws, _tails(confidence))
    return (float(np.median(draws)), float(low), float(high))


def _tails(confidence: float) -> tuple[float, float]:
    return ((1 - confidence) / 2, (1 + confidence) / 2)
