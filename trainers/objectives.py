"""What is minimised and what is measured.

An objective turns model outputs into a loss for each example, and into totals: (sum, weight) pairs that add up over
batches, devices and processes, whatever way the examples were dealt out. `metrics` turns the totals of a whole split
into figures.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Shaped

from data import Features
from plumbline import UserError, unknown_name

Totals = dict[str, tuple[jax.Array, jax.Array]]
Pair = tuple[np.ndarray | np.floating, np.ndarray | np.floating]
Sums = Mapping[str, Pair]
"""Totals added up over a whole split, on the host."""
Scaling = Mapping[str, jax.Array]
"""The fitted preprocessing; regression reads `label_mean` and `label_std` from it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """A loss and its metrics, for one kind of task.

    Attributes:
      features: what an example of the task is.
      calibration_bins: equal-width bins of the calibration error.
    """

    features: Features
    calibration_bins: int = 15

    task: ClassVar[str]
    best_metric: ClassVar[str]
    """The metric that chooses the best checkpoint, unless the config names another."""
    scores: ClassVar[tuple[str, ...]]
    """The names of what `score` returns."""
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """The least and the greatest value of each metric; those of a class or group are bounded as the metric is."""

    @abc.abstractmethod
    def targets(self, labels: Shaped[Array, " batch"], scaling: Scaling) -> Float[Array, "batch outputs"]:
        """What the outputs should be, in the units of the loss."""

    @abc.abstractmethod
    def loss(
        self, outputs: Float[Array, "batch outputs"], targets: Float[Array, "batch outputs"]
    ) -> Float[Array, " batch"]:
        """The loss of each example."""

    @abc.abstractmethod
    def score(
        self, outputs: Float[Array, "batch outputs"], targets: Float[Array, "batch outputs"]
    ) -> dict[str, Float[Array, " batch"]]:
        """The cheap metrics that are followed during training, for each example."""

    @abc.abstractmethod
    def predictions(self, outputs: Float[Array, "batch outputs"], scaling: Scaling) -> Float[Array, "batch outputs"]:
        """What a user reads: probabilities of the classes, or the value in the units of the label."""

    @abc.abstractmethod
    def totals(
        self,
        outputs: Float[Array, "batch outputs"],
        labels: Shaped[Array, " batch"],
        weight: Float[Array, " batch"],
        group: Int[Array, " batch"] | None,
        scaling: Scaling,
    ) -> Totals:
        """What `metrics` needs of one batch: (sum, weight) pairs, each a scalar or a vector over classes or groups."""

    @abc.abstractmethod
    def metrics(self, totals: Sums, scaling: Scaling) -> dict[str, float]:
        """Figures by name from the summed totals of a split; those of a class are named `metric/class/NAME`."""

    def followed(self, name: str) -> tuple[str, int]:
        """The metric that `config.train.best_metric` names, and its direction: 1 where higher is better, else -1.

        Raises:
          UserError: it is none of this objective's.
        """
        metric = self.best_metric if name == "auto" else name
        return metric, 1 if self.higher_is_better(metric) else -1

    @abc.abstractmethod
    def higher_is_better(self, metric: str) -> bool:
        """The direction of a metric.

        Raises:
          UserError: the metric is none of this objective's.
        """


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
        """Whether the likeliest class is the (largest) target."""
        return {"accuracy": (outputs.argmax(-1) == targets.argmax(-1)).astype(jnp.float32)}

    def predictions(self, outputs, scaling):
        """Probabilities of the classes."""
        return jax.nn.softmax(outputs)

    def totals(self, outputs, labels, weight, group, scaling):
        """Loss, accuracy (also by class and group) and, by bin of confidence, how far confidence exceeds accuracy."""
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
            "accuracy": _mean(totals["accuracy"]),
            "loss": _mean(totals["loss"]),
            "calibration_error": _mean((np.abs(error).sum(), weight.sum())),
            **_named("accuracy/class", totals, self.features.class_names),
            **_named("accuracy/group", totals, self.features.group_names),
        }

    def higher_is_better(self, metric):
        """Accuracy is; loss and calibration error are not."""
        return _direction(metric, {"accuracy": True, "loss": False, "calibration_error": False})


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
        """Nothing that the loss does not say."""
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
        """Mean squared and absolute error, and R2, the explained share of the label's variance in this split."""
        std = float(scaling["label_std"])
        squared, label = _mean(totals["squared"]), _mean(totals["label"])
        variance = _mean(totals["label_squared"]) - label**2
        metrics = {
            "mse": squared * std**2,
            "mae": _mean(totals["absolute"]) * std,
            "r2": 1 - squared / variance if variance > 0 else float("nan"),
            "loss": squared,
        }
        groups = _named("absolute/group", totals, self.features.group_names)
        return metrics | {name.replace("absolute", "mae", 1): value * std for name, value in groups.items()}

    def higher_is_better(self, metric):
        """R2 is; errors are not."""
        return _direction(metric, {"mse": False, "mae": False, "r2": True, "loss": False})


OBJECTIVES: dict[str, type[Objective]] = {"cross_entropy": CrossEntropy, "squared_error": SquaredError}


def build(name: str, features: Features, *, calibration_bins: int) -> Objective:
    """The objective called `name`, or with "auto" the one for the task of the features.

    Raises:
      UserError: the name is unknown, or the objective is for another task than the data's.
    """
    if name == "auto":
        name = next(known for known, kind in OBJECTIVES.items() if kind.task == features.task)
    if name not in OBJECTIVES:
        raise unknown_name("objective.name", name, ["auto", *OBJECTIVES])
    objective = OBJECTIVES[name](features=features, calibration_bins=calibration_bins)
    if objective.task != features.task:
        raise UserError(f"objective.name: '{name}' is for {objective.task}, but the data are for {features.task}")
    return objective


def bounds(metric: str) -> tuple[float, float]:
    """The least and the greatest value of a metric, whatever objective has it; infinite where none says."""
    name = metric.partition("/")[0]
    known = [kind.bounds[name] for kind in OBJECTIVES.values() if name in kind.bounds]
    return min((low for low, _ in known), default=-math.inf), max((high for _, high in known), default=math.inf)


def _by(index: jax.Array, value: jax.Array, weight: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    zeros = jnp.zeros(length, jnp.float32)
    return zeros.at[index].add(weight * value), zeros.at[index].add(weight)


def _mean(pair: Pair) -> float:
    total, weight = pair
    return float(total / weight) if weight > 0 else float("nan")


def _named(metric: str, totals: Sums, names: tuple[str, ...]) -> dict[str, float]:
    # Classes and groups of which the split has no example have no figure.
    sums, weights = totals.get(metric, ((), ()))
    return {f"{metric}/{n}": float(s / w) for n, s, w in zip(names, sums, weights, strict=False) if w > 0}


def _direction(metric: str, known: dict[str, bool]) -> bool:
    if metric not in known:
        raise unknown_name("train.best_metric", metric, ["auto", *known])
    return known[metric]
