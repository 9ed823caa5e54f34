"""Whether a model is as often right as it says: the expected calibration error, and what chance would make of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from data.features import Features
from diagnostics.statistics import Interval
from trainers.step import objectives

_DRAWS = 200


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Of the probabilities of one or several trainings.

    Attributes:
      error: expected calibration error (Guo et al. 2017, section 2), with the bounds of a bootstrap over rows.
      by_chance: the error that a model which is right just as often as it says would not exceed in 97.5 % of cases;
        over bins the error is never 0 (Vaicenavicius et al. 2019, section 4).
      bins: (b, 3) of each bin that has rows: their mean confidence, their accuracy, and how many.
    """

    error: Interval
    by_chance: float
    bins: np.ndarray


def measure(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, features: Features, *, bins: int, seed: int
) -> Calibration:
    """The calibration on rows held out, in the mean over trainings.

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
        # The objective reads logits, of which logarithms of probabilities are some.
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
    honest = []
    for _ in range(_DRAWS):
        training = random.integers(len(probabilities))
        right = random.random(count) < confidence[training]
        # Any other class will do for wrong.
        drawn = np.where(right, chosen[training], (chosen[training] + 1) % probabilities.shape[-1])
        totals = jax.device_get(
            sums(probabilities[training].astype(np.float32), drawn.astype(np.int32), weights.astype(np.float32))
        )
        honest.append(objective.metrics(totals, {})["calibration_error"])
    value = error(labels, weights)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Calibration(
        error=(value, float(min(low, value)), float(max(high, value))),
        by_chance=float(np.quantile(honest, 0.975)),
        bins=_bins(confidence, chosen == labels, weights, bins),
    )


def _bins(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Over all trainings: rows of a bin count once for each of them, and are told in the mean."""
    index = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, None).ravel()
    weights = np.broadcast_to(weights, confidence.shape).ravel().astype(np.float64)
    total = np.bincount(index, weights, count)
    there = total > 0
    sums = [np.bincount(index, weights * values.ravel(), count)[there] for values in (confidence, right)]
    return np.stack([*(values / total[there] for values in sums), total[there] / len(confidence)], axis=1)
