"""Hyperparameters as data: traced scalars in the train state, never constants of a compiled program.

One compiled program so serves runs that differ in them. What a run leaves at zero is left out of its program; runs that
share a program leave in whatever any of them uses.
"""

from collections.abc import Iterable
from operator import attrgetter

import ml_collections
import numpy as np
from jax.typing import ArrayLike

from trainers import schedules
from trainers.durations import Clock

# Name in the train state -> config field.
FIELDS = {
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
    "b1": "optimizer.b1",
    "b2": "optimizer.b2",
    "clip_norm": "optimizer.clip_norm",
    "dropout": "model.dropout",
    "stochastic_depth": "model.stochastic_depth",
    "label_smoothing": "objective.label_smoothing",
    "color": "augment.color",
    "mixup": "augment.mixup",
    "cutmix": "augment.cutmix",
    "ema_decay": "train.ema_decay",
}

Hyperparameters = dict[str, ArrayLike]


def from_config(config: ml_collections.ConfigDict, clock: Clock) -> Hyperparameters:
    """The config's hyperparameters as float32 scalars, by name, and the lengths of its schedule.

    Args:
      config: the whole config.
      clock: of the training.

    Raises:
      UserError: the schedule does not fit the training.
    """
    values = {name: np.float32(attrgetter(field)(config)) for name, field in FIELDS.items()}
    return values | schedules.lengths(config.schedule, clock)


def used(configs: Iterable[ml_collections.ConfigDict]) -> frozenset[str]:
    """Names of the hyperparameters that are not zero in at least one of `configs`."""
    return frozenset(name for config in configs for name, field in FIELDS.items() if attrgetter(field)(config) != 0)
