"""Scores of a model on rows: accuracy, or the share of the label's variance that is explained (R2)."""

import dataclasses

import numpy as np

from data.pool import Pool
from diagnostics import scores
from diagnostics.statistics import Interval, within


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Turns figures of rows, right or not, or squared errors, into scores.

    Attributes:
      is_share: whether scores are accuracies; otherwise they are R2.
      variance: of the training labels.
    """

    is_share: bool
    variance: float

    @classmethod
    def of(cls, pool: Pool) -> "Scale":
        """Returns the scale of a pool's task."""
        labels = pool.labels[pool.splits["train"]].astype(np.float64)
        return cls(is_share=pool.features.task == "classification", variance=float(max(labels.var(), 1e-30)))

    @property
    def name(self) -> str:
        """Of the score."""
        return "accuracy" if self.is_share else "R2"

    @property
    def kind(self) -> str:
        """Of a `Measure` of the score."""
        return "share" if self.is_share else "number"

    def mean(self, values: np.ndarray, weights: np.ndarray, groups: np.ndarray | None = None) -> Interval:
        """Averages rows' values (n,) into a score with its interval; groups (n,) make rows dependent."""
        mean, low, high = scores.mean_of_rows(values, weights, groups, are_shares=self.is_share)
        if self.is_share:
            return (float(mean), float(low), float(high))
        # No squared error is below 0, though the interval of a few groups may be.
        return tuple(float(1 - value / self.variance) for value in within((mean, high, low), 0.0, np.inf))

    def difference(self, interval: Interval) -> Interval:
        """Turns a difference of errors into one of scores."""
        return tuple(float(value if self.is_share else value / self.variance) for value in interval)

    def format(self, interval: Interval) -> str:
        """Formats a score with its interval, if it has one."""
        mean, low, high = interval
        if not np.isfinite([low, high]).all():
            return f"{mean:.1%}" if self.is_share else f"{mean:.3f}"
        if self.is_share:
            return f"{mean:.1%} ({low:.1%} to {high:.1%})"
        return f"{mean:.3f} ({low:.3f} to {high:.3f})"
