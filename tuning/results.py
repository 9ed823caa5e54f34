"""The results of a search: intervals, the margin of the best trial, and its score on folds that did not select it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diagnostics.cross_validation import LEAST_VALUES
from diagnostics.statistics import Interval, mean_interval, paired_difference, within
from trainers.step import objectives
from tuning.metrics import Metric
from tuning.trials import TrialRecord

# Relative differences of scores that are rounding errors.
_ROUNDING = 1e-12
# Trials that were selected without different folds share the folds that selected them, so their scores are correlated.
# The variance of their mean over that of a score is up to 0.3 more than of independent scores (simulated for 3 to 10
# folds and 4 to 256 equal trials); with this much more, the interval covered in at least 0.956 of all of these cases.
_SELECTION = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Margin:
    """The lead of the best trial over the second best at another point.

    Attributes:
      winner, second: numbers of the trials.
      difference: (mean, low, high) over folds and seeds, paired; positive if the winner is better.
      count: number of pairs.
    """

    winner: int
    second: int
    difference: Interval
    count: int

    @property
    def within_noise(self) -> bool:
        """Whether the interval contains 0; also true for a single pair, which has no interval."""
        return not self.difference[1] > 0


class Results:
    """The trials of a study.

    Attributes:
      records: all trials.
      metrics: of the search, the first of which ranks the trials.
      folds: of each trial; 0 without folds.
      seeds: of each trial.
      done: finished trials, the best first.
    """

    def __init__(self, records: Sequence[TrialRecord], metrics: Sequence[Metric], *, folds: int, seeds: int):
        """Sorts the finished trials.

        Args:
          records: all trials.
          metrics: in the order of the objectives of the study.
          folds: of each trial; 0 without folds.
          seeds: of each trial.
        """
        self.records, self.metrics, self.folds, self.seeds = list(records), list(metrics), folds, seeds
        sign = -1 if metrics[0].higher_is_better else 1
        done = [record for record in records if record.status == "done"]
        self.done = sorted(done, key=lambda record: (sign * record.values[0], record.number))

    @property
    def pruned(self) -> int:
        """Number of pruned trials."""
        return sum(record.status == "pruned" for record in self.records)

    @property
    def tried(self) -> int:
        """Number of trials that the best one was selected from."""
        return len(self.done) + self.pruned

    @property
    def failed(self) -> list[TrialRecord]:
        """Trials that diverged, or whose values are not a valid config together."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def points(self) -> list[TrialRecord]:
        """The finished trials without repetitions of a point."""
        found: list[TrialRecord] = []
        for record in self.done:
            if all(record.overrides != other.overrides for other in found):
                found.append(record)
        return found

    @property
    def overlap(self) -> float:
        """Ratio of held-out to training rows, by which intervals over folds are widened."""
        return 1 / (self.folds - 1) if self.folds else 0.0

    def scores(self, record: TrialRecord, metric: Metric) -> list[float]:
        """Returns the values of a trial: the folds of the first seed, then of the next."""
        return list(record.attributes["scores"][metric.name])

    def interval(self, record: TrialRecord, metric: Metric) -> Interval:
        """Returns the mean of a trial and its 95 % interval over folds and seeds; one value has nan as bounds."""
        if not metric.measured:
            return (record.values[self.metrics.index(metric)], np.nan, np.nan)
        interval = mean_interval(self.scores(record, metric), overlap=self.overlap)
        return within(interval, *objectives.bounds(metric.name))

    def margin(self) -> Margin | None:
        """Returns the margin by the first metric; None if that is not measured, or there is no second trial."""
        metric, points = self.metrics[0], self.points
        if not metric.measured or len(points) < 2:
            return None
        winner, second = (np.asarray(self.scores(record, metric)) for record in points[:2])
        sign = 1 if metric.higher_is_better else -1
        difference = paired_difference(sign * winner, sign * second, overlap=self.overlap)
        return Margin(winner=points[0].number, second=points[1].number, difference=difference, count=len(winner))

    def held_out(self) -> Interval | None:
        """Returns the first metric of the selected trial on folds that did not select it, with its 95 % interval.

        For each fold, the best trial on the other folds is selected and scored on this one, and the scores are
        averaged. Unlike the score of the best of many trials, this mean is nearly unbiased. The rest of the bias comes
        from the models of other folds, which were trained on the rows of this one (Varma & Simon 2006; Tibshirani &
        Tibshirani 2009). Of equal trials the first is selected, so that the fold has no say. The interval is over
        folds, widened for what they share: rows in training, and the folds that select.

        Returns:
          The mean over folds and its bounds, which are nan for fewer than three folds; None without folds, or if the
          metric is not measured.
        """
        metric = self.metrics[0]
        if not self.folds or not metric.measured or not self.done:
            return None
        done = sorted(self.done, key=lambda record: record.number)
        shape = (len(done), self.seeds, self.folds)
        scores = np.asarray([self.scores(record, metric) for record in done]).reshape(shape).mean(axis=1)
        sign = 1 if metric.higher_is_better else -1
        chosen = []
        for fold in range(self.folds):
            others = sign * np.delete(scores, fold, axis=1).mean(axis=1)
            # Equal trials may differ by rounding.
            chosen.append(int(np.argmax(others >= others.max() - _ROUNDING * abs(others.max()))))
        scored = scores[chosen, np.arange(self.folds)]
        if len(scored) < LEAST_VALUES:
            return (float(scored.mean()), np.nan, np.nan)
        widths = [self._width_after_selection(each) for each in (scored, *scores[chosen])]
        # A few coarse scores may be equal by chance, which is no certainty.
        width = max(widths[0], float(np.mean(widths[1:])))
        mean = float(scored.mean())
        return within((mean, mean - width / 2, mean + width / 2), *objectives.bounds(metric.name))

    def _width_after_selection(self, scores: np.ndarray) -> float:
        _, low, high = mean_interval(scores, overlap=self.overlap + _SELECTION)
        return high - low

    def front(self) -> list[TrialRecord]:
        """Returns the Pareto front: the trials that no other trial dominates."""
        signs = np.array([-1.0 if metric.higher_is_better else 1.0 for metric in self.metrics])
        costs = {record.number: signs * np.asarray(record.values) for record in self.done}
        return [record for record in self.done if not _is_dominated(record.number, costs)]


def _is_dominated(number: int, costs: Mapping[int, np.ndarray]) -> bool:
    own = costs[number]
    return any((other <= own).all() and (other < own).any() for other in costs.values())
