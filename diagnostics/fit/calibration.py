"""Calibration: whether a model is right as often as its probabilities say."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from data.features import Features
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.fit import remedies
from diagnostics.severity import Severity
from diagnostics.statistics import Interval
from diagnostics.thresholds import THRESHOLDS
from trainers.step import objectives

QUESTION = Question("calibration", "fit")

# Draws of the bootstrap, and of labels by a calibrated model.
_DRAWS = 200


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Calibration of one or several trainings.

    Attributes:
      error: expected calibration error (Guo et al. 2017, section 2), with the interval of a bootstrap over rows.
      by_chance: 97.5 % quantile of the error of a calibrated model; over bins the error is never 0 (Vaicenavicius et
        al. 2019, section 4).
      bins: (b, 3) mean confidence, accuracy and number of rows of each bin that has rows.
    """

    error: Interval
    by_chance: float
    bins: np.ndarray


def judge(
    config: ml_collections.ConfigDict,
    features: Features,
    probabilities: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
) -> Finding:
    """Reports whether a model is calibrated on held-out rows.

    Args:
      config: of the training.
      features: of the examples.
      probabilities: (S, n, classes) of S trainings; not read for a regression.
      labels: (n,).
      weights: (n,).
    """
    if features.task != "classification":
        return QUESTION.cannot_tell("a regression gives no probabilities")
    found = measure(probabilities, labels, weights, features, bins=config.evaluation.calibration_bins, seed=config.seed)
    error, low, high = found.error
    confidence, right, count = found.bins.T
    excess = float(np.average(confidence - right, weights=count))
    severity: Severity = "none"
    message = f"The expected calibration error on held-out rows is {error:.3f} ({low:.3f} to {high:.3f})"
    if error <= found.by_chance:
        message += f"; with this many rows, a calibrated model may have {found.by_chance:.3f}."
    else:
        if low > THRESHOLDS.calibration_bound:
            severity = "medium"
        elif error > THRESHOLDS.calibration_error:
            severity = "low"
        way = "overconfident" if excess > 0 else "underconfident"
        message += f", where chance explains {found.by_chance:.3f}: on average it is {way} by {abs(excess):.1%}."
    table = Table(
        title="Confidence against accuracy, by bin of confidence",
        header=("confidence", "accuracy", "rows"),
        rows=tuple((float(sure), float(own), round(float(rows), 1)) for sure, own, rows in found.bins),
    )
    return QUESTION.found(
        severity,
        message,
        measures=(
            Measure.of("expected calibration error", found.error),
            Measure(name="calibration error that chance explains", value=found.by_chance),
        ),
        evidence=(table,),
        remedies=_remedies(config, excess) if severity != "none" else (),
    )


def measure(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, features: Features, *, bins: int, seed: int
) -> Calibration:
    """Measures calibration on held-out rows, averaged over trainings.

    Args:
      probabilities: (S, n, classes).
      labels: (n,).
      weights: (n,).
      features: of the examples.
      bins: of confidence, `evaluation.calibration_bins`.
      seed: of the draws.
    """
    objective = objectives.build("cross_entropy", features, calibration_bins=bins)

    @jax.jit
    def sums(probabilities: jax.Array, labels: jax.Array, weights: jax.Array) -> dict:
        # The objective reads logits; log probabilities are such.
        logits = jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))
        return objective.totals(logits, labels, weights, None, {})

    def error(labels: np.ndarray, weights: np.ndarray) -> float:
        found = []
        for own in probabilities:
            totals = jax.device_get(sums(own.astype(np.float32), labels.astype(np.int32), weights.astype(np.float32)))
            found.append(objective.metrics(totals, {})["calibration_error"])
        return float(np.mean(found))

    random, count = np.random.default_rng(seed), len(labels)
    resampled = [error(labels, weights * random.multinomial(count, np.full(count, 1 / count))) for _ in range(_DRAWS)]
    confidence, chosen = probabilities.max(axis=-1), probabilities.argmax(axis=-1)
    calibrated = []
    for _ in range(_DRAWS):
        training = random.integers(len(probabilities))
        right = random.random(count) < confidence[training]
        # Any other class will do for a wrong label.
        drawn = np.where(right, chosen[training], (chosen[training] + 1) % probabilities.shape[-1])
        totals = jax.device_get(
            sums(probabilities[training].astype(np.float32), drawn.astype(np.int32), weights.astype(np.float32))
        )
        calibrated.append(objective.metrics(totals, {})["calibration_error"])
    value = error(labels, weights)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Calibration(
        error=(value, float(min(low, value)), float(max(high, value))),
        by_chance=float(np.quantile(calibrated, 0.975)),
        bins=_bin(confidence, chosen == labels, weights, bins),
    )


def _bin(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Averages confidence and accuracy by bin; a row counts once for each training, and counts are means over these."""
    index = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, None).ravel()
    weights = np.broadcast_to(weights, confidence.shape).ravel().astype(np.float64)
    total = np.bincount(index, weights, count)
    there = total > 0
    sums = [np.bincount(index, weights * values.ravel(), count)[there] for values in (confidence, right)]
    return np.stack([*(values / total[there] for values in sums), total[there] / len(confidence)], axis=1)


def _remedies(config: ml_collections.ConfigDict, excess: float) -> tuple[Remedy, ...]:
    """Changes against confidence that is too high (`excess` > 0) or too low."""
    found: list[Remedy] = []
    smoothing = config.objective.label_smoothing
    if excess > 0:
        if not smoothing:
            found.append(Remedy(text="Smooth the labels.", overrides={"objective.label_smoothing": 0.05}))
        if config.train.best_metric != "loss" and config.data.validation != "none":
            text = "Choose the checkpoint by its validation loss."
            found.append(Remedy(text=text, overrides={"train.best_metric": "loss"}))
    if excess < 0:
        if smoothing:
            found.append(Remedy(text="Do not smooth the labels.", overrides={"objective.label_smoothing": 0.0}))
        found += remedies.longer(config)
    return tuple(found)
