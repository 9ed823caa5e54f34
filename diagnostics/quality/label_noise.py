"""The rate of wrong labels, apart from the errors that overlapping classes explain.

Models that were not trained on a row contradict its label for one of two reasons: classes overlap where the row lies,
or the label is wrong. Overlap makes errors rare where the models are sure, and wrong labels do not: they are a floor
that the errors keep among the surest rows (anchor points: Liu & Tao 2016, section 4; Patrini et al. 2017, section 4.1).
So the error is modelled by how sure the models are, as a calibrated curve that falls to zero, above a floor. The floor
is taken as zero unless labels drawn from the curve alone (a parametric bootstrap) rarely look as if they had one.

Inputs that leave the label open to the same degree everywhere look like wrong labels, and no method can tell the two
apart.
"""

import dataclasses

import numpy as np
from scipy import special, stats

from diagnostics.statistics import Interval

# How sure the models are is known by rank only. The log odds of a right answer are linear in one of these functions of
# the rank: the quantiles of the distance to the boundary between two normal classes at these distances from each other,
# those of an exponential distribution, and those of a uniform one, for log odds that are bounded.
_DISTANCES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
# Log odds at the boundary, as a share of those of the median row, are at most this. Without a bound, errors that are
# equally frequent everywhere would be explained without wrong labels.
_AT_BOUNDARY = 0.5
_BINS, _ROWS_OF_A_BIN = 64, 8
_RATES, _COARSE = 30, 3
_FIRST_STEPS, _STEPS, _FEW_STEPS = 25, 10, 6
_DRAWS = 99
# Curves of a smaller weight are left out.
_LEAST_WEIGHT = 1e-3
# Half the 95 % quantile of chi-squared with one degree of freedom.
_DROP = float(stats.chi2.ppf(0.95, 1)) / 2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelNoise:
    """The floor of the errors, and the curve above it.

    Attributes:
      rate: share of wrong labels, with its interval by profile likelihood.
      p_value: share of bootstrap draws without wrong labels whose likelihood ratio is as large.
      possible: curves that the errors allow: the weight of each by its likelihood (they add up to 1), its rate of wrong
        labels, and (n,) the probability that the true class is not the predicted one.
    """

    rate: Interval
    p_value: float
    possible: tuple[tuple[float, float, np.ndarray], ...]


def estimate(contradicted: np.ndarray, surest: np.ndarray, num_classes: int, *, seed: int = 0) -> LabelNoise:
    """Estimates the rate of wrong labels.

    Args:
      contradicted: (n,) bool, whether the predicted class is not the label.
      surest: (n,) how sure the models are of the predicted class; only the order matters.
      num_classes: at least 2.
      seed: of the bootstrap.
    """
    count = len(contradicted)
    # Ties are broken at random: in the order of the rows, errors that stand together would look like overlap.
    order = np.lexsort((np.random.default_rng([seed, 1]).permutation(count), surest))
    shapes = _shapes(count)
    edges = np.linspace(0, count, min(_BINS, max(4, count // _ROWS_OF_A_BIN)) + 1).astype(int)
    rows = np.diff(edges).astype(np.float64)
    errors = np.add.reduceat(contradicted[order].astype(np.float64), edges[:-1])
    curves = _Curves(rows, np.add.reduceat(shapes, edges[:-1], axis=1) / rows, num_classes / (num_classes - 1))
    # A rate above that of all errors, or of labels drawn at random, is not possible.
    highest = min(stats.beta.ppf(0.999, errors.sum() + 1, count - errors.sum()), 0.95 * (1 - 1 / num_classes))
    rates = np.linspace(0, 1, _RATES) ** 2 * highest
    density, parameters = curves.fit(errors[None], rates, _STEPS)
    profile = density[0].max(axis=0)
    best = int(profile.argmax())
    shape = int(density[0, :, 0].argmax())
    drawn = np.random.default_rng(seed).binomial(
        rows.astype(int), curves.overlap(parameters[0, shape, 0], curves.shapes[shape]), size=(_DRAWS, len(rows))
    )
    found = curves.fit(drawn.astype(np.float64), rates[::_COARSE], _FEW_STEPS)[0].max(axis=1)
    as_large = found.max(axis=1) - found[:, 0] >= profile[best] - profile[0] - 1e-9
    # Rates are even on the scale of their square roots; a uniform prior weighs them by their distances.
    weights = np.exp(density[0] - density.max()) * np.gradient(rates)
    weights /= weights.sum()
    place = np.argsort(order, kind="stable")
    possible = tuple(
        (float(weights[each]), float(rates[each[1]]), curves.overlap(parameters[(0, *each)], shapes[each[0]])[place])
        for each in map(tuple, np.argwhere(weights > _LEAST_WEIGHT))
    )
    weight = sum(each[0] for each in possible)
    return LabelNoise(
        rate=_profile_interval(rates, profile),
        p_value=float((1 + as_large.sum()) / (1 + _DRAWS)),
        possible=tuple((own / weight, rate, overlap) for own, rate, overlap in possible),
    )


def _shapes(count: int) -> np.ndarray:
    """Returns (shapes, n) quantiles of n ranks, each 1 at the median."""
    ranks, grid = (np.arange(count) + 0.5) / count, np.linspace(0, 12, 4001)
    folded = [stats.norm.cdf(grid - half) - stats.norm.cdf(-grid - half) for half in np.array(_DISTANCES) / 2]
    found = np.stack([*(np.interp(ranks, each, grid) for each in folded), -np.log1p(-ranks), ranks])
    return found / np.median(found, axis=1, keepdims=True)


def _profile_interval(rates: np.ndarray, profile: np.ndarray) -> Interval:
    """Returns the likeliest of the rates (r,) and the interval within which the likelihood (r,) is near the largest."""
    best, least = int(profile.argmax()), profile.max() - _DROP
    inside = np.flatnonzero(profile >= least)
    bounds = []
    for end, beyond in ((inside[0], inside[0] - 1), (inside[-1], inside[-1] + 1)):
        if 0 <= beyond < len(rates):
            part = (profile[end] - least) / (profile[end] - profile[beyond])
            bounds.append(float(rates[end] + part * (rates[beyond] - rates[end])))
        else:
            bounds.append(float(rates[end]))
    return (float(rates[best]), *bounds)


class _Curves:
    """Curves of the error by rank: `rate + (1 - odds * rate) * overlap`, where log odds are linear in a shape.

    The parameters are the log odds of the median row, and how far those at the boundary are below their bound.
    """

    def __init__(self, rows: np.ndarray, shapes: np.ndarray, odds: float):
        """Prepares curves.

        Args:
          rows: (b,) in each bin.
          shapes: (shapes, b) means over the bins.
          odds: classes over other classes: a wrong label is right for the predicted class as often.
        """
        self._rows, self.shapes, self._odds = rows, shapes, odds

    def overlap(self, parameters: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Returns the error (..., n) without wrong labels, for parameters (..., 2) and values of a shape (..., n)."""
        features = _AT_BOUNDARY + (1 - _AT_BOUNDARY) * shape
        return special.expit(-(parameters[..., :1] * features + parameters[..., 1:] * (shape - 1)))

    def fit(self, errors: np.ndarray, rates: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Fits all shapes to each row of errors, for each rate, by damped Fisher scoring.

        Args:
          errors: (d, b) contradicted rows of each bin.
          rates: (r,) increasing from 0.
          steps: of each rate but the first; each starts from the rate before.

        Returns:
          The log likelihood (d, shapes, r), and the parameters (d, shapes, r, 2).
        """
        errors = errors[:, None]
        share = np.clip(errors.sum(axis=-1) / self._rows.sum(), 0.5 / self._rows.sum(), 0.9)
        now = np.broadcast_to(np.stack([0.5 - special.logit(share), np.ones_like(share)], axis=-1), self._size(errors))
        density, found = [], []
        for number, rate in enumerate(rates):
            now, value = self._maximise(errors, rate, now, steps if number else _FIRST_STEPS)
            density.append(value)
            found.append(now)
        return np.stack(density, axis=-1), np.stack(found, axis=2)

    def _size(self, errors: np.ndarray) -> tuple[int, int, int]:
        return (len(errors), len(self.shapes), 2)

    def _likelihood(self, errors: np.ndarray, rate: float, now: np.ndarray) -> tuple[np.ndarray, ...]:
        overlap = self.overlap(now, self.shapes)
        chance = np.clip(rate + (1 - self._odds * rate) * overlap, 1e-9, 1 - 1e-9)
        value = (errors * np.log(chance) + (self._rows - errors) * np.log1p(-chance)).sum(axis=-1)
        return value, overlap, chance

    def _maximise(self, errors: np.ndarray, rate: float, now: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        damping = np.full(now.shape[:2], 1e-3)
        value, overlap, chance = self._likelihood(errors, rate, now)
        for _ in range(steps):
            after = self._step(errors, rate, now, overlap, chance, damping)
            new = self._likelihood(errors, rate, after)
            better = new[0] >= value
            now, value = np.where(better[..., None], after, now), np.where(better, new[0], value)
            overlap = np.where(better[..., None], new[1], overlap)
            chance = np.where(better[..., None], new[2], chance)
            damping = np.where(better, damping / 5, damping * 10)
        return now, value

    def _step(
        self,
        errors: np.ndarray,
        rate: float,
        now: np.ndarray,
        overlap: np.ndarray,
        chance: np.ndarray,
        damping: np.ndarray,
    ) -> np.ndarray:
        """Returns the parameters after one step, within their bounds."""
        features = np.stack([_AT_BOUNDARY + (1 - _AT_BOUNDARY) * self.shapes, self.shapes - 1])
        slope = -(1 - self._odds * rate) * overlap * (1 - overlap)
        score = (errors - self._rows * chance) / (chance * (1 - chance)) * slope
        information = self._rows * slope**2 / (chance * (1 - chance))
        first, second = ((score * each).sum(axis=-1) for each in features)
        own = [(information * each**2).sum(axis=-1) * (1 + damping) + 1e-6 for each in features]
        mixed = (information * features[0] * features[1]).sum(axis=-1)
        determinant = own[0] * own[1] - mixed**2
        moves = (own[1] * first - mixed * second) / determinant, (own[0] * second - mixed * first) / determinant
        median, below = now[..., 0], now[..., 1]
        bound = np.maximum(0, -(median + moves[0]) * (1 - _AT_BOUNDARY))
        stuck = below + moves[1] < bound
        median = np.clip(median + np.where(stuck, (first - mixed * (bound - below)) / own[0], moves[0]), -4, 60)
        below = np.minimum(np.where(stuck, bound, below + moves[1]), 60)
        return np.stack([median, np.maximum(below, np.maximum(0, -median * (1 - _AT_BOUNDARY)))], axis=-1)
