"""The model against baselines, on the same held-out rows."""

import numpy as np

from data.pool import Pool
from diagnostics.crossed import interval_of_trainings
from diagnostics.finding import Finding, Measure, Question, Table
from diagnostics.fit.baselines import Baselines
from diagnostics.fit.scale import Scale
from diagnostics.fit.verdict import Figures
from diagnostics.severity import Severity
from diagnostics.statistics import Interval, bonferroni, negate
from diagnostics.thresholds import THRESHOLDS

QUESTION = Question("baselines", "fit")


class Comparison:
    """Compares the model with baselines."""

    def __init__(self, pool: Pool, scale: Scale, baselines: Baselines, values: np.ndarray, name: str):
        """Compares the model with baselines.

        Args:
          pool: of the rows.
          scale: of the scores.
          baselines: that were fitted.
          values: (S, N) whether each training of the model is right on each row of the pool, or its squared error, for
            the rows that baselines were fitted to and judged on; the others are not read.
          name: of the rows they are judged on, such as "on the test split".
        """
        self._own, self._scale, self._baselines = values[:, baselines.held_out], scale, baselines
        self._own_train, self._name = values[:, baselines.train], name
        self._train_weights = pool.weights[baselines.train]
        self._weights = pool.weights[baselines.held_out]
        self._groups = None if pool.groups is None else pool.groups[baselines.held_out]
        means = [np.average(each.held_out, weights=self._weights) for each in baselines.found]
        candidates = list(range(1, len(means))) or [0]
        best = max(candidates, key=lambda n: means[n] if scale.is_share else -means[n])
        self._best, self._constant = baselines.found[best], baselines.found[0]
        unseen = [np.average(each.out_of_fold, weights=self._train_weights) for each in baselines.found]
        known = [n for n in candidates if np.isfinite(unseen[n])] or [0]
        self._closest = baselines.found[max(known, key=lambda n: unseen[n] if scale.is_share else -unseen[n])]

    def figures(self, **others: object) -> Figures:
        """Returns the figures that a verdict needs.

        Args:
          **others: fields of `Figures` that do not concern baselines.
        """
        return Figures(
            score=self._scale.name,
            chance=self._mean(self._constant.held_out)[0],
            baseline=self._best.name,
            behind=self._lead(self._best.held_out),
            behind_name=self._name,
            missed_by=self._closest.name,
            missed_score=self._scale.mean(self._closest.out_of_fold, self._train_weights),
            missed=self._missed(),
            **others,
        )

    def report(self) -> Finding:
        """Says whether the model is better than the baselines."""
        best, scale = self._best, self._scale
        lead, model, score = self._lead(best.held_out), self._mean(self._own.mean(axis=0)), self._mean(best.held_out)
        both = (
            f"{self._name[0].upper()}{self._name[1:]}, the model has {scale.name} {scale.format(model)}; the best "
            f"baseline, a {best.name}, has {scale.format(score)}"
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

    def _missed(self) -> Interval:
        """How much better than the model a baseline predicts training rows that it, but not the model, has not seen.

        Training groups are not a sample of groups, so rows count.
        """
        values, own = self._closest.out_of_fold, self._own_train
        difference = values - own if self._scale.is_share else (own - values) / self._scale.variance
        confidence = bonferroni(len(self._baselines.found))
        return interval_of_trainings(difference, self._train_weights, None, confidence)

    def _lead(self, values: np.ndarray) -> Interval:
        """How much better than the model a baseline is, row by row; wider, as it is the best of several."""
        difference = values - self._own if self._scale.is_share else (self._own - values) / self._scale.variance
        confidence = bonferroni(len(self._baselines.found))
        return interval_of_trainings(difference, self._weights, self._groups, confidence)
