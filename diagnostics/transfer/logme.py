"""LogME: how well a linear model on features explains the labels, with all of its weights integrated out.

You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", section 4: targets are taken
to be `y ~ N(F w, 1 / beta)` with `w ~ N(0, 1 / alpha)`; LogME is the logarithm of the density of `y`, maximised over
alpha and beta, an example. Classes are scored by their 0-or-1 indicators, and averaged. Features are taken as they are,
with no intercept, as in the paper.

Maximised by the fixed point of You et al. 2022, "Ranking and Tuning Pre-trained Models: A New Paradigm for Exploiting
Model Hubs", algorithm 3, which takes one decomposition for all targets. Only the ratio of alpha and beta has to be
sought, since the best beta for a ratio is known; the search begins at the best of a grid, so that it does not end at a
lesser maximum.
"""

import dataclasses

import numpy as np
from scipy import stats

from diagnostics.statistics import Interval

# Ratios of alpha to beta that are tried, in units of the largest eigenvalue of the features' moments.
_RATIOS = np.logspace(-12, 6, 73)
_MOST_STEPS, _TOLERANCE = 100, 1e-8
# Directions of less than this share of the largest eigenvalue are rounding of features in float32, and no more of the
# targets than this can be left unexplained without being rounding.
_ROUNDING = 1e-12


def log_maximum_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """LogME of features.

    Args:
      features: (n, d).
      targets: (n,) or (n, t) of real numbers; of classes their indicators, as `indicators` gives them.

    Returns:
      In nats an example, averaged over the targets; higher is better. Targets that are 0 everywhere are left out.
    """
    return _Moments.of(features, targets).evidence()


def interval(features: np.ndarray, targets: np.ndarray, held_out: list[np.ndarray]) -> Interval:
    """LogME with a 95 % interval by the jackknife, leaving out one fold after the other (Shao & Wu 1989).

    Drawing rows with replacement, as the bootstrap does, would show the linear model some of them twice.

    Args:
      features: (n, d).
      targets: as in `log_maximum_evidence`.
      held_out: for each fold the rows that it holds out, each row once; of groups whole ones.

    Returns:
      Estimate, low, high, by Student's t with one degree of freedom fewer than there are folds.
    """
    targets = targets.reshape(len(targets), -1)
    parts = [_Moments.of(features[rows], targets[rows]) for rows in held_out]
    whole = _Moments(*(sum(getattr(part, field.name) for part in parts) for field in dataclasses.fields(_Moments)))
    without = np.array([whole.less(part).evidence() for part in parts])
    count = len(parts)
    error = np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    half, estimate = float(stats.t.ppf(0.975, count - 1) * error), whole.evidence()
    return (estimate, estimate - half, estimate + half)


def indicators(labels: np.ndarray) -> np.ndarray:
    """Classes (n,) as 0-or-1 indicators (n, c) float64 of those that occur."""
    return (labels[:, None] == np.unique(labels)[None, :]).astype(np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class _Moments:
    """All of some rows that the evidence depends on; those of other rows add up with them.

    Attributes:
      count: n.
      gram: (d, d) F^T F.
      cross: (d, t) F^T y.
      squares: (t,) y^T y.
    """

    count: int
    gram: np.ndarray
    cross: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, targets: np.ndarray) -> "_Moments":
        features = features.astype(np.float64)
        targets = targets.astype(np.float64).reshape(len(targets), -1)
        return cls(len(targets), features.T @ features, features.T @ targets, np.square(targets).sum(axis=0))

    def less(self, part: "_Moments") -> "_Moments":
        """Without some of the rows."""
        names = [field.name for field in dataclasses.fields(self)]
        return _Moments(*(getattr(self, name) - getattr(part, name) for name in names))

    def evidence(self) -> float:
        """Maximised, an example, averaged over the targets."""
        eigenvalues, vectors = np.linalg.eigh(self.gram)
        kept = eigenvalues > _ROUNDING * max(eigenvalues[-1], np.finfo(np.float64).tiny)
        eigenvalues = eigenvalues[kept][:, None]
        present = self.squares > _ROUNDING * self.squares.max(initial=0.0)
        if not present.any():
            return np.nan
        # What of each target lies along each direction of the features, squared, and what lies along none of them.
        along = np.square(vectors[:, kept].T @ self.cross[:, present]) / eigenvalues
        squares = self.squares[present]
        beside = np.maximum(squares - along.sum(axis=0), _ROUNDING * squares)
        return float(np.mean(_maximum(self.count, eigenvalues, along, beside)) / self.count)


def _maximum(count: int, eigenvalues: np.ndarray, along: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """The logarithm of the evidence (t,), maximised.

    Args:
      count: rows.
      eigenvalues: (r, 1) of F^T F.
      along: (r, t) squares of what of the targets lies along each direction.
      beside: (t,) sum of squares of what lies along none.
    """
    ratios = _RATIOS * eigenvalues.max(initial=np.finfo(np.float64).tiny)
    on_grid = np.stack([_profile(ratio, count, eigenvalues, along, beside) for ratio in ratios])
    ratio, best = ratios[on_grid.argmax(axis=0)], on_grid.max(axis=0)
    for _ in range(_MOST_STEPS):
        before, shrunk = ratio, eigenvalues + ratio
        # gamma = sum(eigenvalue / shrunk) numbers are determined by the targets; alpha = gamma / |m|^2 and
        # beta = (n - gamma) / |y - F m|^2, of which the ratio needs neither alone.
        determined = (eigenvalues / shrunk).sum(axis=0)
        left = count - len(eigenvalues) + (ratio / shrunk).sum(axis=0)
        residual = (np.square(ratio / shrunk) * along).sum(axis=0) + beside
        weights = (eigenvalues * along / np.square(shrunk)).sum(axis=0)
        ratio = np.clip(determined * residual / np.maximum(weights * left, 1e-300), ratios[0], ratios[-1])
        best = np.maximum(best, _profile(ratio, count, eigenvalues, along, beside))
        if np.abs(np.log(ratio / before)).max() < _TOLERANCE:
            break
    return best


def _profile(
    ratio: np.ndarray | float, count: int, eigenvalues: np.ndarray, along: np.ndarray, beside: np.ndarray
) -> np.ndarray:
    """The logarithm of the evidence (t,) at this ratio of alpha to beta, with the beta that is best there.

    The covariance of y is (I + F F^T / ratio) / beta; so beta is n over y^T (I + F F^T / ratio)^-1 y.
    """
    shares = ratio / (eigenvalues + ratio)
    energy = (shares * along).sum(axis=0) + beside
    return 0.5 * (np.log(shares).sum(axis=0) + count * (np.log(count / energy) - 1 - np.log(2 * np.pi)))
