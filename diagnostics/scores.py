"""The score of a training: accuracy, or the mean squared error of a regression; by row, as an error, and as text."""

import dataclasses
import math

import numpy as np

from diagnostics.statistics import Interval, clustered_interval, wilson_interval, within


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of a task.

    Attributes:
      task: "classification" or "regression".
    """

    task: str

    @property
    def is_accuracy(self) -> bool:
        """Whether it is accuracy; otherwise it is the mean squared error."""
        return self.task == "classification"

    @property
    def name(self) -> str:
        """Of the metric."""
        return "accuracy" if self.is_accuracy else "mse"

    @property
    def error_name(self) -> str:
        """Of the error, in words."""
        return "1 - accuracy" if self.is_accuracy else "mean squared error"

    def error(self, value: float) -> float:
        """Converts a score to an error, of which less is better; also the inverse."""
        return 1 - value if self.is_accuracy else value

    def text(self, value: float) -> str:
        """Formats a value."""
        return f"{value:.4f}" if self.is_accuracy else f"{value:,.5g}"

    def range(self, interval: Interval) -> str:
        """Formats an interval of the metric, an accuracy in two digits of the interval's width."""
        width = interval[2] - interval[1]
        if self.is_accuracy and 0 < width < 1:
            digits = min(4, 1 - math.floor(round(math.log10(width), 6)))
            mean, low, high = (f"{value:.{digits}f}" for value in interval)
        else:
            mean, low, high = map(self.text, interval)
        return f"{mean} ({low} to {high})"

    def interval(self, interval: Interval) -> Interval:
        """Converts an interval of errors to one of the metric."""
        mean, low, high = self.errors(interval)
        return (1 - mean, 1 - high, 1 - low) if self.is_accuracy else (mean, low, high)

    def errors(self, interval: Interval) -> Interval:
        """Clips an interval of errors to the possible values."""
        return within(interval, 0.0, 1.0 if self.is_accuracy else np.inf)


def by_row(predictions: np.ndarray, labels: np.ndarray, task: str) -> np.ndarray:
    """Scores each row: whether it is right (0 or 1), or for a regression its squared error; nan without a prediction.

    Args:
      predictions: (..., n, outputs) probabilities or values.
      labels: (n,).
      task: "classification" or "regression".

    Returns:
      (..., n) float64.
    """
    if task == "classification":
        scores = (predictions.argmax(axis=-1) == labels).astype(np.float64)
    else:
        scores = np.square(predictions[..., 0].astype(np.float64) - labels)
    return np.where(np.isfinite(predictions).all(axis=-1), scores, np.nan)


def share_interval(scores: np.ndarray, weights: np.ndarray, confidence: float = 0.95) -> Interval:
    """Computes the weighted mean of scores between 0 and 1 with Wilson's interval; all nan without rows.

    Args:
      scores: (n,).
      weights: (n,), at least 0.
      confidence: of the interval.
    """
    weights = weights.astype(np.float64)
    if not weights.any():
        return (np.nan, np.nan, np.nan)
    # The effective number of rows of unequal weight (Kish 1965).
    count = weights.sum() ** 2 / np.square(weights).sum()
    return wilson_interval(np.average(scores, weights=weights) * count, count, confidence)


def mean_of_rows(
    scores: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None,
    *,
    are_shares: bool,
    confidence: float = 0.95,
) -> Interval:
    """Computes the weighted mean of rows' scores with its interval; from the variance between groups if there are any.

    Args:
      scores: (n,).
      weights: (n,), at least 0.
      groups: (n,) integers, or None if rows are independent.
      are_shares: whether the scores lie between 0 and 1.
      confidence: of the interval.
    """
    if groups is None and are_shares:
        return share_interval(scores, weights, confidence)
    clusters = np.arange(len(scores)) if groups is None else groups
    mean, low, high = clustered_interval(scores, clusters, weights, confidence)
    if not are_shares:
        return (mean, low, high)
    # Groups that all score 0 or 1 vary by nothing, which is no certainty: never narrower than for independent rows.
    _, least, most = share_interval(scores, weights, confidence)
    return within((mean, min(low, least), max(high, most)) if np.isfinite(low) else (mean, low, high), 0.0, 1.0)
