"""The objectives of classification and regression, and the table of all objectives."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data import Features
from plumbline import UserError, unknown_name
from trainers.step.language_objectives import MaskedToken, NextToken
from trainers.step.objective import Objective, Sums, direction, mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Objective):
    """Classification by softmax cross-entropy, in nats."""

    task = "classification"
    best_metric = "accuracy"
    scores = ("accuracy",)
    bounds = {"accuracy": (0.0, 1.0), "loss": (0.0, math.inf), "calibration_error": (0.0, 1.0)}

    def targets(self, labels, scaling):
        """One-hot labels."""
        return jax.nn.one_hot(labels, self.features.num_outputs, dtype=jnp.float32)

    def loss(self, outputs, targets):
        """Cross-entropy of each example."""
        return optax.losses.softmax_cross_entropy(outputs, targets)

    def score(self, outputs, targets):
        """Whether the most likely class is that of the (largest) target."""
        return {"accuracy": (outputs.argmax(-1) == targets.argmax(-1)).astype(jnp.float32)}

    def predictions(self, outputs, scaling):
        """Probabilities of the classes."""
        return jax.nn.softmax(outputs)

    def totals(self, outputs, labels, weight, group, scaling):
        """Loss, accuracy (also by class and group) and, by confidence bin, the excess of confidence over accuracy."""
        targets = self.targets(labels, scaling)
        correct = self.score(outputs, targets)["accuracy"]
        confidence = jax.nn.softmax(outputs).max(-1)
        bins = jnp.clip(jnp.ceil(confidence * self.calibration_bins).astype(jnp.int32) - 1, 0)
        totals = {
            "loss": (jnp.sum(weight * self.loss(outputs, targets)), jnp.sum(weight)),
            "accuracy": (jnp.sum(weight * correct), jnp.sum(weight)),
            "accuracy/class": _by(labels, correct, weight, self.features.num_outputs),
            "calibration_error": _by(bins, confidence - correct, weight, self.calibration_bins),
        }
        if group is not None:
            totals["accuracy/group"] = _by(group, correct, weight, len(self.features.group_names))
        return totals

    def metrics(self, totals, scaling):
        """Loss, accuracy and the expected calibration error of Guo et al. 2017, section 2."""
        error, weight = totals["calibration_error"]
        return {
            "accuracy": mean(totals["accuracy"]),
            "loss": mean(totals["loss"]),
            "calibration_error": mean((np.abs(error).sum(), weight.sum())),
            **_named("accuracy/class", totals, self.features.class_names),
            **_named("accuracy/group", totals, self.features.group_names),
        }

    def higher_is_better(self, metric):
        """True for accuracy; False for loss and calibration error."""
        return direction(metric, {"accuracy": True, "loss": False, "calibration_error": False})


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquaredError(Objective):
    """Regression by squared error on labels scaled to unit deviation; metrics in the label's own units."""

    task = "regression"
    best_metric = "mse"
    scores = ()
    bounds = dict.fromkeys(("mse", "mae", "loss"), (0.0, math.inf)) | {"r2": (-math.inf, 1.0)}

    def targets(self, labels, scaling):
        """Labels, scaled."""
        return ((labels - scaling["label_mean"]) / scaling["label_std"])[:, None]

    def loss(self, outputs, targets):
        """Squared error of each example, in squared deviations of the label."""
        return jnp.square(outputs - targets)[:, 0]

    def score(self, outputs, targets):
        """No metrics besides the loss."""
        return {}

    def predictions(self, outputs, scaling):
        """Values in the units of the label."""
        return outputs * scaling["label_std"] + scaling["label_mean"]

    def totals(self, outputs, labels, weight, group, scaling):
        """Squared and absolute errors and the label's first two moments, all on the scaled label."""
        target = self.targets(labels, scaling)[:, 0]
        error = outputs[:, 0] - target
        sums = {
            "squared": jnp.square(error),
            "absolute": jnp.abs(error),
            "label": target,
            "label_squared": jnp.square(target),
        }
        totals = {name: (jnp.sum(weight * value), jnp.sum(weight)) for name, value in sums.items()}
        if group is not None:
            totals["absolute/group"] = _by(group, jnp.abs(error), weight, len(self.features.group_names))
        return totals

    def metrics(self, totals, scaling):
        """Mean squared and absolute error, and R2, the explained share of the variance of labels in this split."""
        std = float(scaling["label_std"])
        squared, label = mean(totals["squared"]), mean(totals["label"])
        variance = mean(totals["label_squared"]) - label**2
        metrics = {
            "mse": squared * std**2,
            "mae": mean(totals["absolute"]) * std,
            "r2": 1 - squared / variance if variance > 0 else float("nan"),
            "loss": squared,
        }
        groups = _named("absolute/group", totals, self.features.group_names)
        return metrics | {name.replace("absolute", "mae", 1): value * std for name, value in groups.items()}

    def higher_is_better(self, metric):
        """True for R2; False for errors."""
        return direction(metric, {"mse": False, "mae": False, "r2": True, "loss": False})


OBJECTIVES: dict[str, type[Objective]] = {
    "cross_entropy": CrossEntropy,
    "squared_error": SquaredError,
    "next_token": NextToken,
    "masked_token": MaskedToken,
}


def build(name: str, features: Features, *, calibration_bins: int) -> Objective:
    """Builds the objective called `name`; "auto" means the default one for the task of the features.

    Raises:
      UserError: the name is unknown, or the objective is for another task than that of the data.
    """
    if name == "auto":
        name = next(known for known, kind in OBJECTIVES.items() if kind.task == features.task)
    if name not in OBJECTIVES:
        raise unknown_name("objective.name", name, ["auto", *OBJECTIVES])
    kind = OBJECTIVES[name]
    if kind.task != features.task:
        raise UserError(f"objective.name: '{name}' is for {kind.task}, but the data are for {features.task}")
    return kind(features=features, calibration_bins=calibration_bins)


def bounds(metric: str) -> tuple[float, float]:
    """The least and the greatest value of a metric over all objectives that have it; infinite if unknown."""
    name = metric.partition("/")[0]
    known = [kind.bounds[name] for kind in OBJECTIVES.values() if name in kind.bounds]
    return min((low for low, _ in known), default=-math.inf), max((high for _, high in known), default=math.inf)


def _by(index: jax.Array, value: jax.Array, weight: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    zeros = jnp.zeros(length, jnp.float32)
    return zeros.at[index].add(weight * value), zeros.at[index].add(weight)


def _named(metric: str, totals: Sums, names: tuple[str, ...]) -> dict[str, float]:
    # Classes and groups without examples in the split have no metric.
    sums, weights = totals.get(metric, ((), ()))
    return {f"{metric}/{n}": float(s / w) for n, s, w in zip(names, sums, weights, strict=False) if w > 0}
