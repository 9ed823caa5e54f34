"""The metrics that a search optimizes."""

import dataclasses

import ml_collections

from data.features import Features
from plumbline import UserError, unknown_name
from trainers.step import objectives

# Metrics that need no training, with their units.
_UNTRAINED = {"parameters": "", "latency": "ms"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """An objective of the search.

    Attributes:
      name: such as "accuracy", or "parameters" and "latency".
      higher_is_better: its direction.
      measured: whether it is measured on held-out rows, for each fold and seed.
      unit: of its values; "" for none.
    """

    name: str
    higher_is_better: bool
    measured: bool = True
    unit: str = ""

    @property
    def label(self) -> str:
        """The name with the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def parse_metrics(names: str, config: ml_collections.ConfigDict, features: Features) -> tuple[Metric, ...]:
    """Returns the metrics of a --metric.

    Args:
      names: separated by commas; "" for the metric that selects the best step of the config's objective.
      config: of the search.
      features: of the data.

    Raises:
      UserError: a metric is unknown, or named twice.
    """
    bins = config.evaluation.calibration_bins
    objective = objectives.build(config.objective.name, features, calibration_bins=bins)
    parts = [name.strip() for name in names.split(",")] if names else [objective.best_metric]
    if len(set(parts)) < len(parts):
        raise UserError(f"--metric: '{names}' names one twice; leave it out")
    return tuple(_parse_metric(name, objective) for name in parts)


def _parse_metric(name: str, objective: objectives.Objective) -> Metric:
    if name in _UNTRAINED:
        return Metric(name=name, higher_is_better=False, measured=False, unit=_UNTRAINED[name])
    try:
        return Metric(name=name, higher_is_better=objective.higher_is_better(name))
    except UserError as error:
        known = str(error).rpartition("known: ")[2].split(", ")
        raise unknown_name("--metric", name, {*known, *_UNTRAINED} - {"auto"}) from None
