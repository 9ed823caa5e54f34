"""The interface of an objective: the loss that is minimised and the metrics that are measured.

An objective turns model outputs into a loss for each example, and into totals: (sum, weight) pairs that add up over
batches, devices and processes, however the examples are distributed. `metrics` turns the totals of a whole split
into figures.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, Shaped

from data import Features
from plumbline import unknown_name

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
    """The least and the greatest value of each metric; they hold for its values by class or group too."""
    masks_inputs: ClassVar[bool] = False
    """Whether the model gets corrupted inputs, which `corrupt` makes."""

    def corrupt(
        self, keys: PRNGKeyArray, inputs: Num[Array, "batch ..."], labels: Shaped[Array, "batch ..."]
    ) -> tuple[Num[Array, "batch ..."], Shaped[Array, "batch ..."]]:
        """The inputs that the model gets and the labels that it predicts, for an objective that masks inputs.

        Args:
          keys: (B,) a key for each example: in training of the step, in evaluation always the same.
          inputs: raw inputs of the batch.
          labels: of the batch.
        """
        return inputs, labels

    @abc.abstractmethod
    def targets(self, labels: Shaped[Array, "batch ..."], scaling: Scaling) -> Num[Array, "batch ..."]:
        """The targets of the outputs, in the units of the loss."""

    def weights(self, weight: Float[Array, " batch"], targets: Num[Array, "batch ..."]) -> Float[Array, " batch"]:
        """The weight of each example's loss: its own weight, times the number of its targets where it has several."""
        return weight

    @abc.abstractmethod
    def loss(
        self, outputs: Float[Array, "batch ... outputs"], targets: Num[Array, "batch ..."]
    ) -> Float[Array, " batch"]:
        """The loss of each example."""

    @abc.abstractmethod
    def score(
        self, outputs: Float[Array, "batch ... outputs"], targets: Num[Array, "batch ..."]
    ) -> dict[str, Float[Array, " batch"]]:
        """The cheap metrics that are logged during training, for each example."""

    @abc.abstractmethod
    def predictions(
        self, outputs: Float[Array, "batch ... outputs"], scaling: Scaling
    ) -> Float[Array, "batch ... outputs"]:
        """Predictions for the user: probabilities of the classes or tokens, or values in the units of the label."""

    @abc.abstractmethod
    def totals(
        self,
        outputs: Float[Array, "batch ... outputs"],
        labels: Shaped[Array, "batch ..."],
        weight: Float[Array, " batch"],
        group: Int[Array, " batch"] | None,
        scaling: Scaling,
    ) -> Totals:
        """Totals of one batch for `metrics`: (sum, weight) pairs, each a scalar or a vector over classes or groups."""

    @abc.abstractmethod
    def metrics(self, totals: Sums, scaling: Scaling) -> dict[str, float]:
        """Metrics by name from the summed totals of a split; those of a class are named `metric/class/NAME`."""

    def monitored_metric(self, name: str) -> tuple[str, int]:
        """The metric that `config.train.best_metric` names, and its direction: 1 where higher is better, else -1.

        Raises:
          UserError: this objective has no such metric.
        """
        metric = self.best_metric if name == "auto" else name
        return metric, 1 if self.higher_is_better(metric) else -1

    @abc.abstractmethod
    def higher_is_better(self, metric: str) -> bool:
        """The direction of a metric.

        Raises:
          UserError: this objective has no such metric.
        """


def mean(pair: Pair) -> float:
    """The mean of a (sum, weight) pair; NaN where the weight is 0."""
    total, weight = pair
    return float(total / weight) if weight > 0 else float("nan")


def direction(metric: str, known: dict[str, bool]) -> bool:
    """Whether higher values of a metric are better.

    Args:
      metric: its name.
      known: the answer by name, for all metrics of an objective.

    Raises:
      UserError: the metric is unknown.
    """
    if metric not in known:
        raise unknown_name("train.best_metric", metric, ["auto", *known])
    return known[metric]
