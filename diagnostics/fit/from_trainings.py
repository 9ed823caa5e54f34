"""Judges the fit of the trainings of an audit."""

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics import cross_validation, scores
from diagnostics.cross_validation import OutOfFold
from diagnostics.crossed import interval_of_trainings
from diagnostics.finding import Finding
from diagnostics.fit import (
    baselines,
    calibration,
    comparison,
    control,
    course,
    directions,
    judgement,
    optimisation,
    verdict,
)
from diagnostics.fit.comparison import Comparison
from diagnostics.fit.course import Course
from diagnostics.fit.scale import Scale
from diagnostics.statistics import Interval
from diagnostics.trainings import Trainings


def judge(config: ml_collections.ConfigDict, pool: Pool, trainings: Trainings) -> list[Finding]:
    """Answers the questions on the fit of trainings.

    The gap is that of the training rows: by the trainings on all of them, and out of fold. Baselines are compared with
    the model on the test split, and on training rows that they were not fitted to.

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
    compared = Comparison(pool, scale, known, values.by_training(np.arange(len(pool.rows))), "on the test split")
    unseen = _OutOfFold(pool, trainings.out_of_fold, train)
    memorised = control.score_own_labels(pool, trainings.control)
    figures = compared.figures(
        train=scale.mean(values(unseen.rows), pool.weights[unseen.rows]),
        held_out=scale.mean(unseen.scores, pool.weights[unseen.rows]),
        held_out_name="out of fold",
        paired_gap=_gap(scale, values(unseen.rows), unseen.scores, pool.weights[unseen.rows]),
        **_grouped(pool, trainings, scale),
        memorised=float(memorised.mean()) if len(memorised) else None,
        gain=_gain(trainings, scale),
        risen=course.measure_rise(losses.validation),
    )
    scored = _score_rows(pool, trainings, scale, values, figures)
    labels, weights = pool.labels[test], pool.weights[test]
    findings = [
        judgement.report(config, pool.features, figures, scored, losses),
        controlled,
        compared.report(),
        calibration.judge(config, pool.features, finished[:, test], labels, weights),
        optimised,
    ]
    return directions.settle(findings, verdict.judge(figures).kind, config)


class _OutOfFold:
    """Out-of-fold scores of those of some rows that no training diverged on.

    Attributes:
      rows: (n,) positions in the pool.
      scores: (n,) whether each is predicted right, or its squared error; in the mean over trainings.
    """

    def __init__(self, pool: Pool, found: OutOfFold, rows: np.ndarray):
        everything = np.full(len(pool.rows), np.nan)
        everything[found.rows] = found.scores(pool)
        self.rows = rows[np.isfinite(everything[rows])]
        self.scores = everything[self.rows]


def _gap(scale: Scale, trained: np.ndarray, held_out: np.ndarray, weights: np.ndarray) -> Interval:
    """The score of rows that were trained on, minus that of the same rows out of fold; of these trainings, by row."""
    difference = trained - held_out if scale.is_share else held_out - trained
    return scale.difference(interval_of_trainings(difference[None], weights))


def _grouped(pool: Pool, trainings: Trainings, scale: Scale) -> dict[str, Interval]:
    """The score out of folds of whole groups, and by how much shuffled folds look better; {} without such folds."""
    if trainings.grouped is None:
        return {}
    unseen = _OutOfFold(pool, trainings.grouped, pool.splits["train"])
    difference = cross_validation.optimism(pool, shuffled=trainings.out_of_fold, grouped=trainings.grouped)
    score = scale.mean(unseen.scores, pool.weights[unseen.rows], _groups(pool, unseen.rows))
    return {"grouped": score, "optimism": scale.difference(difference)}


class _ScoredRows:
    """Scores of rows, averaged over the trainings on all training rows."""

    def __init__(self, pool: Pool, predictions: np.ndarray):
        self._pool, self._predictions = pool, predictions

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Whether rows (n,) are predicted right, or their squared errors; in the mean over trainings."""
        return self.by_training(rows).mean(axis=0)

    def by_training(self, rows: np.ndarray) -> np.ndarray:
        """The same of each training: (S, n)."""
        return scores.by_row(self._predictions[:, rows], self._pool.labels[rows], self._pool.features.task)


def _score_rows(
    pool: Pool, trainings: Trainings, scale: Scale, values: _ScoredRows, figures: verdict.Figures
) -> list[judgement.Scored]:
    """Scores on all splits; and on training rows out of fold, and out of folds of whole groups."""
    train = pool.splits["train"]
    scored = [("training rows", len(train), figures.train)]
    if "validation" in pool.splits:
        rows = pool.splits["validation"]
        interval = scale.mean(values(rows), pool.weights[rows], _groups(pool, rows))
        scored.append(("validation split", len(rows), interval))
    unseen = _OutOfFold(pool, trainings.out_of_fold, train)
    scored.append(("training rows out of fold", len(unseen.rows), figures.held_out))
    if figures.grouped is not None and trainings.grouped is not None:
        unseen = _OutOfFold(pool, trainings.grouped, train)
        scored.append(("training rows out of folds of whole groups", len(unseen.rows), figures.grouped))
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


def _groups(pool: Pool, rows: np.ndarray) -> np.ndarray | None:
    return None if pool.groups is None else pool.groups[rows]
