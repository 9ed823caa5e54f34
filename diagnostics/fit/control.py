"""The control: trained on random labels, a model must not predict the true ones."""

import numpy as np
from scipy import stats

from data.pool import Pool
from diagnostics import scores
from diagnostics.finding import Finding, Measure, Question
from diagnostics.statistics import mean_interval
from diagnostics.thresholds import THRESHOLDS
from diagnostics.trainings import CONTROLS, Control

QUESTION = Question("control", "fit")


def judge(pool: Pool, control: Control) -> Finding:
    """Compares the control's predictions of true labels with chance; if they are better, there is a leak.

    The test is Student's, over trainings: each has labels of its own at random, so by chance one is as likely above as
    below. Rows of one training are not independent, as similar rows share a random label.

    Args:
      pool: of the rows.
      control: trainings on random labels.
    """
    sound = pool.weights[control.rows] > 0
    rows, labels = control.rows[sound], pool.labels[control.rows[sound]]
    there = np.isfinite(control.predictions).all(axis=(1, 2))
    if there.sum() < CONTROLS:
        return QUESTION.cannot_tell(f"it takes {CONTROLS} trainings on random labels that do not diverge")
    predictions, memorised = control.predictions[there][:, sound], score_own_labels(pool, control)
    if pool.features.task == "classification":
        chosen, classes = predictions.argmax(axis=-1), pool.features.num_outputs
        shares = np.bincount(labels, minlength=classes) / len(rows)
        # The accuracy of predictions that are independent of the labels.
        chance = np.array([(np.bincount(each, minlength=classes) / len(rows)) @ shares for each in chosen])
        right = (chosen == labels).mean(axis=1)
        found, least = right - chance, THRESHOLDS.point
        excess = mean_interval(found)
        seen = f"predicts {right.mean():.1%} of the true labels of held-out rows, where chance is {chance.mean():.1%}"
        learned = f"It memorised {memorised.mean():.1%} of the random labels."
        measures = (
            Measure.of("accuracy above chance, trained on random labels", excess),
            Measure(name="random labels that were memorised", value=float(memorised.mean()), kind="share"),
        )
    else:
        values = predictions[..., 0].astype(np.float64)
        found, least = np.array([_correlate(each, labels) for each in values]), THRESHOLDS.control_correlation
        excess = mean_interval(found)
        seen = f"predicts values whose correlation with the true ones is {excess[0]:.3f}, where chance is 0"
        learned = f"It memorised {memorised.mean():.3f} of the variance of the random labels."
        measures = (
            Measure.of("correlation with true values, trained on random labels", excess),
            Measure(name="R2 on the random labels it was trained on", value=float(memorised.mean())),
        )
    message, p_value = f"Trained on random labels, the model {seen}.", p_above_chance(found)
    measures = (*measures, Measure(name="p-value of being above chance", value=p_value, kind="p-value"))
    if p_value <= THRESHOLDS.control and excess[0] > least:
        leak = "That is more than chance: training or evaluation reads labels that it must not see."
        return QUESTION.found("high", f"{message} {leak} {learned}", measures=measures)
    return QUESTION.none(f"{message} That is as expected. {learned}", measures=measures)


def score_own_labels(pool: Pool, control: Control) -> np.ndarray:
    """Scores (s,) each training on the random labels that it was trained on: accuracy or R2."""
    there = np.isfinite(control.own).all(axis=(1, 2))
    found = []
    for own, labels in zip(control.own[there], control.labels[there], strict=True):
        mean = float(scores.by_row(own, labels, pool.features.task).mean())
        is_share = pool.features.task == "classification"
        found.append(mean if is_share else 1 - mean / max(float(labels.var()), 1e-30))
    return np.array(found)


def p_above_chance(values: np.ndarray) -> float:
    """Computes the p-value of Student's test of whether the mean of `values` (n,) is above 0; n is at least 2."""
    error = max(float(values.std(ddof=1)) / np.sqrt(len(values)), 1e-12)
    return float(stats.t.sf(values.mean() / error, len(values) - 1))


def _correlate(values: np.ndarray, labels: np.ndarray) -> float:
    """The correlation; 0 if one of the two does not vary."""
    if values.std() == 0 or labels.std() == 0:
        return 0.0
    return float(np.corrcoef(values, labels)[0, 1])
