"""Judges the fit of the trainings of an audit."""

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics import scores
from diagnostics.finding import Finding
from diagnostics.fit import baselines, calibration, comparison, control, course, judgement, optimisation
from diagnostics.fit.comparison import Comparison
from diagnostics.fit.course import Course
from diagnostics.fit.scale import Scale
from diagnostics.statistics import Interval
from diagnostics.trainings import Trainings


def judge(config: ml_collections.ConfigDict, pool: Pool, trainings: Trainings) -> list[Finding]:
    """Answers the questions on the fit of trainings.

    The gap is that between the training rows, by the trainings on all of them, and out-of-fold rows of the same kind.
    Baselines are compared on the test split.

    Args:
      config: of the trainings.
      pool: of their data.
      trainings: their results.
    """
    finished, controlled = trainings.finished, control.judge(pool, trainings.control)
    losses = _read_course(config, pool, trainings)
    optimised = optimisation.judge(config, losses, of_run=False)
    if not len(finished):
        reason = "all trainings on the training split diverged"
        questions = (judgement.QUESTION, comparison.QUESTION, calibration.QUESTION)
        fit, compared, calibrated = (question.cannot_tell(reason) for question in questions)
        return [fit, controlled, compared, calibrated, optimised]
    train, test, scale = pool.splits["train"], pool.splits["test"], Scale.of(pool)
    values = _ScoredRows(pool, finished)
    known = baselines.fit(config, pool, train, test, seed=config.seed)
    compared = Comparison(pool, scale, known, test, values(test))
    folds = trainings.out_of_fold
    memorised = control.score_own_labels(pool, trainings.control)
    figures = compared.figures(
        train=scale.mean(values(train), pool.weights[train]),
        held_out=scale.mean(*_finite(folds.scores(pool), pool.weights[folds.rows])),
        held_out_name="out of fold",
        memorised=float(memorised.mean()) if len(memorised) else None,
        gain=_gain(trainings, scale),
        risen=course.measure_rise(losses.validation),
    )
    scored = _score_rows(pool, trainings, scale, values, figures.train, figures.held_out)
    labels, weights = pool.labels[test], pool.weights[test]
    return [
        judgement.report(config, pool.features, figures, scored, losses),
        controlled,
        compared.report(),
        calibration.judge(config, pool.features, finished[:, test], labels, weights),
        optimised,
    ]


class _ScoredRows:
    """Scores of rows, averaged over the trainings on all training rows."""

    def __init__(self, pool: Pool, predictions: np.ndarray):
        self._pool, self._predictions = pool, predictions

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Whether rows (n,) are predicted right, or their squared errors; in the mean over trainings."""
        pool = self._pool
        return scores.by_row(self._predictions[:, rows], pool.labels[rows], pool.features.task).mean(axis=0)


def _score_rows(
    pool: Pool, trainings: Trainings, scale: Scale, values: _ScoredRows, train: Interval, held_out: Interval
) -> list[judgement.Scored]:
    """Scores on all splits, out of fold, and out of folds of whole groups."""
    scored = [("training rows", len(pool.splits["train"]), train)]
    if "validation" in pool.splits:
        rows = pool.splits["validation"]
        interval = scale.mean(values(rows), pool.weights[rows], _groups(pool, rows))
        scored.append(("validation split", len(rows), interval))
    scored.append(("out of fold", len(trainings.out_of_fold.rows), held_out))
    if (grouped := trainings.grouped) is not None:
        own = _finite(grouped.scores(pool), pool.weights[grouped.rows], _groups(pool, grouped.rows))
        scored.append(("out of folds of whole groups", len(own[0]), scale.mean(*own)))
    rows = pool.splits["test"]
    scored.append(("test split", len(rows), scale.mean(values(rows), pool.weights[rows], _groups(pool, rows))))
    return scored


def _gain(trainings: Trainings, scale: Scale) -> Interval | None:
    """What twice the data would add to the score; None without a learning curve that can be used."""
    curve = trainings.curve
    if curve is None or curve.doubts():
        return None
    size = float(curve.sizes.max())
    return scale.difference(curve.gain(size, 2 * size))


def _read_course(config: ml_collections.ConfigDict, pool: Pool, trainings: Trainings) -> Course:
    return course.from_histories(
        trainings.training_history,
        [history for history in trainings.histories if history],
        config,
        num_rows=len(pool.splits["train"]),
        chance=course.chance_loss(config, pool),
        skipped=trainings.skipped,
        diverged=len(trainings.finished) < len(trainings.seeds),
    )


def _finite(values: np.ndarray, *others: np.ndarray | None) -> list[np.ndarray | None]:
    """Leaves out the rows of trainings that diverged."""
    there = np.isfinite(values)
    return [values[there], *(None if other is None else other[there] for other in others)]


def _groups(pool: Pool, rows: np.ndarray) -> np.ndarray | None:
    return None if pool.groups is None else pool.groups[rows]
