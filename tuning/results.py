"""What a search found, in figures: intervals, the winner's margin, and what it is worth on held-out folds."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diagnostics.statistics import Interval, mean_interval, paired_difference, within
from trainers.step import objectives
from tuning.study import Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """An objective of the search.

    Attributes:
      name: such as "accuracy"; "parameters" and "latency" are known besides the objective's own.
      higher_is_better: its direction.
      measured: whether it is measured on held-out rows, for each fold and seed.
      unit: of its values, where it has one.
    """

    name: str
    higher_is_better: bool
    measured: bool = True
    unit: str = ""

    @property
    def label(self) -> str:
        """The name with the unit, as it is written beside values."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Margin:
    """How far the best trial is ahead of the second, which is the next one of another point.

    Attributes:
      winner, second: their numbers.
      difference: (mean, low, high) over folds and seeds, paired; above 0 where the winner is better.
      count: of the pairs.
    """

    winner: int
    second: int
    difference: Interval
    count: int

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0; with one pair nobody can tell."""
        return not self.difference[1] > 0


class Results:
    """The finished trials of a study, best first by its first metric."""

    def __init__(self, records: Sequence[Record], metrics: Sequence[Metric], *, folds: int, seeds: int):
        """Sorts them.

        Args:
          records: all trials.
          metrics: in the order of the study's objectives.
          folds: of each trial; 0 without folds.
          seeds: of each trial.
        """
        self.records, self.metrics, self.folds, self.seeds = list(records), list(metrics), folds, seeds
        sign = -1 if metrics[0].higher_is_better else 1
        done = [record for record in records if record.status == "done"]
        self.done = sorted(done, key=lambda record: (sign * record.values[0], record.number))

    @property
    def pruned(self) -> int:
        """Trials that were stopped as they fell behind."""
        return sum(record.status == "pruned" for record in self.records)

    @property
    def tried(self) -> int:
        """Trials that the best one was chosen from."""
        return len(self.done) + self.pruned

    @property
    def failed(self) -> list[Record]:
        """Trials that diverged, or whose values do not fit together."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def points(self) -> list[Record]:
        """The finished trials, but of those that drew the same point only the first."""
        found: list[Record] = []
        for record in self.done:
            if all(record.overrides != other.overrides for other in found):
                found.append(record)
        return found

    @property
    def overlap(self) -> float:
        """Held-out rows over training rows, by which intervals over folds are widened."""
        return 1 / (self.folds - 1) if self.folds else 0.0

    def scores(self, record: Record, metric: Metric) -> list[float]:
        """A trial's values, one for each seed and fold: folds of the first seed, then of the next."""
        return list(record.attributes["scores"][metric.name])

    def interval(self, record: Record, metric: Metric) -> Interval:
        """A trial's mean with its 95 % interval over folds and seeds; nan bounds where there is one value."""
        if not metric.measured:
            return (record.values[self.metrics.index(metric)], np.nan, np.nan)
        interval = mean_interval(self.scores(record, metric), overlap=self.overlap)
        return within(interval, *objectives.bounds(metric.name))

    def margin(self) -> Margin | None:
        """The winner's margin by the first metric; None where that is not measured, or nothing came second."""
        metric, points = self.metrics[0], self.points
        if not metric.measured or len(points) < 2:
            return None
        winner, second = (np.asarray(self.scores(record, metric)) for record in points[:2])
        sign = 1 if metric.higher_is_better else -1
        difference = paired_difference(sign * winner, sign * second, overlap=self.overlap)
        return Margin(winner=points[0].number, second=points[1].number, difference=difference, count=len(winner))

    def nested(self) -> float | None:
        """What choosing by this search is worth: by the first metric, on folds that had no say in the choice.

        For each fold the best trial on the other folds is chosen and judged on this one; the figures are averaged. The
        best of many trials looks better than it is; this does not, but for the little that models of other folds were
        trained on this one's rows (Varma & Simon 2006; Tibshirani & Tibshirani 2009).

        Returns:
          The mean over folds; None without folds, or where the metric is not measured.
        """
        metric = self.metrics[0]
        if not self.folds or not metric.measured or not self.done:
            return None
        shape = (len(self.done), self.seeds, self.folds)
        scores = np.asarray([self.scores(record, metric) for record in self.done]).reshape(shape).mean(axis=1)
        sign = 1 if metric.higher_is_better else -1
        judged = []
        for fold in range(self.folds):
            chosen = int(np.argmax(sign * np.delete(scores, fold, axis=1).mean(axis=1)))
            judged.append(scores[chosen, fold])
        return float(np.mean(judged))

    def front(self) -> list[Record]:
        """The trials that no other beats in every metric."""
        signs = np.array([-1.0 if metric.higher_is_better else 1.0 for metric in self.metrics])
        costs = {record.number: signs * np.asarray(record.values) for record in self.done}
        return [record for record in self.done if not _beaten(record.number, costs)]


def _beaten(number: int, costs: Mapping[int, np.ndarray]) -> bool:
    own = costs[number]
    return any((other <= own).all() and (other < own).any() for other in costs.values())
