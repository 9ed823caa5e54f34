"""What every objective is: what is minimised and what is measured.

An objective turns model outputs into a loss for each example, and into totals: (sum, weight) pairs that add up over
batches, devices and processes, whatever way the examples were dealt out. `metrics` turns the totals of a whole split
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
    """The least and the greatest value of each metric; those of a class or group are bounded as the metric is."""
    hides: ClassVar[bool] = False
    """Whether the model is shown something else than the inputs, by `shown`."""

    def shown(
        self, keys: PRNGKeyArray, inputs: Num[Array, "batch ..."], labels: Shaped[Array, "batch ..."]
    ) -> tuple[Num[Array, "batch ..."], Shaped[Array, "batch ..."]]:
        """What the model is shown of the raw inputs, and what it is asked, where an objective hides something.

        Args:
          keys: (B,) randomness of each example: in training of the step, in evaluation always the same.
          inputs: raw, as the data have them.
          labels: as the data have them.
        """
        return inputs, labels

    @abc.abstractmethod
    def targets(self, labels: Shaped[Array, "batch ..."], scaling: Scaling) -> Num[Array, "batch ..."]:
        """What the outputs should be, in the units of the loss."""

    def weights(self, weight: Float[Array, " batch"], targets: Num[Array, "batch ..."]) -> Float[Array, " batch"]:
        """How much the loss of each example counts: its own weight, times its answers where it asks for several."""
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
        """The cheap metrics that are followed during training, for each example."""

    @abc.abstractmethod
    def predictions(
        self, outputs: Float[Array, "batch ... outputs"], scaling: Scaling
    ) -> Float[Array, "batch ... outputs"]:
        """What a user reads: probabilities of the classes or tokens, or the value in the units of the label."""

    @abc.abstractmethod
    def totals(
        self,
        outputs: Float[Array, "batch ... outputs"],
        labels: Shaped[Array, "batch ..."],
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


def mean(pair: Pair) -> float:
    """The mean that a (sum, weight) pair stands for; NaN of nothing."""
    total, weight = pair
    return float(total / weight) if weight > 0 else float("nan")


def direction(metric: str, known: dict[str, bool]) -> bool:
    """Whether more of a metric is better.

    Args:
      metric: its name.
      known: the answer by name, for all metrics of an objective.

    Raises:
      UserError: it is none of them.
    """
    if metric not in known:
        raise unknown_name("train.best_metric", metric, ["auto", *known])
    return known[metric]
