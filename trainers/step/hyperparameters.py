"""Hyperparameters as data: traced scalars in the train state, never constants of a compiled program.

One compiled program so serves runs that differ in them. What a run leaves at zero is left out of its program; runs that
share a program leave in whatever any of them uses.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter

import ml_collections
import numpy as np
from jax.typing import ArrayLike

from configs.fields import Role
from plumbline import UserError
from trainers import settings
from trainers.durations import Clock
from trainers.step import pruning_schedule, schedules

FIELDS = {path.rpartition(".")[2]: path for path, field in settings.FIELDS.items() if field.role is Role.HYPERPARAMETER}
"""The config field of each hyperparameter, by its name in the train state."""

Hyperparameters = dict[str, ArrayLike]


def from_config(config: ml_collections.ConfigDict, clock: Clock) -> Hyperparameters:
    """The config's hyperparameters as float32 scalars, by name, the lengths of its schedules, and those of pruning.

    Args:
      config: the whole config.
      clock: of the training.

    Raises:
      UserError: a schedule does not fit the training.
    """
    values = {name: np.float32(attrgetter(field)(config)) for name, field in FIELDS.items()}
    times = _unfreezing(config.transfer.unfreeze, clock)
    times |= pruning_schedule.lengths(config, clock)
    return values | schedules.lengths(config.schedule, clock, [config.transfer.head_schedule]) | times


def used(configs: Iterable[ml_collections.ConfigDict]) -> frozenset[str]:
    """Names of the hyperparameters that are not zero in at least one of `configs`."""
    return frozenset(name for config in configs for name, field in FIELDS.items() if attrgetter(field)(config) != 0)


def _unfreezing(pairs: Sequence[tuple[str, str]], clock: Clock) -> dict[str, np.ndarray]:
    """`unfreeze_at` (n,), the steps from which on parameters are trained; nothing, where all are from the beginning."""
    steps = [clock.steps(duration, "transfer.unfreeze") for _, duration in pairs]
    for (_, duration), step in zip(pairs, steps, strict=True):
        if step >= clock.total_steps:
            raise UserError(
                f"transfer.unfreeze: '{duration}' is {step} steps, but the whole training has {clock.total_steps}; put "
                "what is never trained into transfer.freeze"
            )
    return {"unfreeze_at": np.asarray(steps, np.float32)} if steps else {}
