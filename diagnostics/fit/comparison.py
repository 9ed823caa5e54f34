"""The model against baselines, on the same held-out rows."""

import numpy as np

from data.pool import Pool
from diagnostics.finding import Finding, Measure, Question, Table
from diagnostics.fit.baselines import Baselines
from diagnostics.fit.scale import Scale
from diagnostics.fit.verdict import Figures
from diagnostics.severity import Severity
from diagnostics.statistics import Interval, bonferroni, clustered_interval, negate
from diagnostics.thresholds import THRESHOLDS

QUESTION = Question("baselines", "fit")


class Comparison:
    """Compares the model with baselines."""

    def __init__(self, pool: Pool, scale: Scale, baselines: Baselines, rows: np.ndarray, values: np.ndarray):
        """Compares the model with baselines.

        Args:
          pool: of the rows.
          scale: of the scores.
          baselines: that were fitted.
          rows: (n,) positions of the held-out rows of the model.
          values: (n,) whether the model is right on each, or its squared error.
        """
        place = np.full(len(pool.rows), -1)
        place[rows] = np.arange(len(rows))
        self._own, self._scale, self._baselines = values[place[baselines.held_out]], scale, baselines
        self._train_weights = pool.weights[baselines.train]
        self._weights = pool.weights[baselines.held_out]
        self._groups = None if pool.groups is None else pool.groups[baselines.held_out]
        means = [np.average(each.held_out, weights=self._weights) for each in baselines.found]
        candidates = list(range(1, len(means))) or [0]
        best = max(candidates, key=lambda n: means[n] if scale.is_share else -means[n])
        self._best, self._constant = baselines.found[best], baselines.found[0]

    def figures(self, **others: object) -> Figures:
        """Returns the figures that a verdict needs.

        Args:
          **others: fields of `Figures` that do not concern baselines.
        """
        return Figures(
            score=self._scale.name,
            chance=self._mean(self._constant.held_out)[0],
            baseline=self._best.name,
            baseline_score=self._mean(self._best.held_out),
            behind=self._lead(self._best.held_out),
            **others,
        )

    def report(self) -> Finding:
        """Says whether the model is better than the baselines."""
        best, scale = self._best, self._scale
        lead, model, score = self._lead(best.held_out), self._mean(self._own), self._mean(best.held_out)
        both = (
            f"Held out, the model has {scale.name} {scale.format(model)}; the best baseline, a {best.name}, has "
            f"{scale.format(score)}"
        )
        severity: Severity
        if not np.isfinite(lead).all():
            severity = "unknown"
            message = (
                "Cannot tell: there is no interval for held-out scores, as the rows that count are of fewer than three "
                f"groups, or there are too few. {both}."
            )
        elif lead[1] > THRESHOLDS.point:
            severity = THRESHOLDS.baseline_lead.grade(lead[0])
            message = f"{both}: the baseline is better by {scale.format(lead)} on the same rows."
        elif lead[2] < 0:
            severity, message = "none", f"{both}: the model is better by {scale.format(negate(lead))} on the same rows."
        else:
            severity = "low"
            message = f"{both}: on these rows the model is not clearly better, at a higher cost."
        rows = [("the model", "", "", "", *model)]
        for each in self._baselines.found:
            rows.append((each.name, *scale.mean(each.train, self._train_weights), *self._mean(each.held_out)))
        num_train, num_held_out = len(self._baselines.train), len(self._baselines.held_out)
        table = Table(
            title=f"Baselines, fitted to {num_train:,} rows, judged on {num_held_out:,}",
            header=("model", f"{scale.name}, training", "from", "to", f"{scale.name}, held out", "from", "to"),
            rows=tuple(rows),
        )
        return QUESTION.found(
            severity,
            message,
            measures=(
                Measure.of(f"{scale.name} by which the best baseline is ahead", lead),
                Measure.of(f"{scale.name} of the model", model, scale.kind),
                Measure.of(f"{scale.name} of a {best.name}", score, scale.kind),
            ),
            evidence=(table,),
        )

    def _mean(self, values: np.ndarray) -> Interval:
        return self._scale.mean(values, self._weights, self._groups)

    def _lead(self, values: np.ndarray) -> Interval:
        """How much better than the model a baseline is, row by row; wider, as it is the best of several."""
        difference = values - self._own if self._scale.is_share else (self._own - values) / self._scale.variance
        clusters = np.arange(len(values)) if self._groups is None else self._groups
        confidence = bonferroni(len(self._baselines.found))
        return tuple(map(float, clustered_interval(difference, clusters, self._weights, confidence)))
