"""Hyperparameters as data: traced scalars in the train state, never constants of a compiled program.

So runs that differ in them share one compiled program. A program leaves out hyperparameters that are zero in all runs
that share it.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter

import ml_collections
import numpy as np
from jax.typing import ArrayLike

from configs.fields import Role
from plumbline import UserError, pluralize
from trainers import settings
from trainers.durations import Clock
from trainers.step import pruning_schedule, schedules

FIELDS = {path.rpartition(".")[2]: path for path, field in settings.FIELDS.items() if field.role is Role.HYPERPARAMETER}
"""The config field of each hyperparameter, by its name in the train state."""

Hyperparameters = dict[str, ArrayLike]


def from_config(config: ml_collections.ConfigDict, clock: Clock) -> Hyperparameters:
    """The hyperparameters of a config as float32 scalars by name, with the lengths of its schedules and of pruning.

    Args:
      config: the whole config.
      clock: of the training.

    Raises:
      UserError: a schedule does not fit into the training.
    """
    values = {name: np.float32(attrgetter(field)(config)) for name, field in FIELDS.items()}
    times = _unfreezing(config.transfer.unfreeze, clock)
    times |= pruning_schedule.lengths(config, clock)
    return values | schedules.lengths(config.schedule, clock, [config.transfer.head_schedule]) | times


def used(configs: Iterable[ml_collections.ConfigDict]) -> frozenset[str]:
    """Names of the hyperparameters that are not zero in at least one of `configs`."""
    return frozenset(name for config in configs for name, field in FIELDS.items() if attrgetter(field)(config) != 0)


def _unfreezing(pairs: Sequence[tuple[str, str]], clock: Clock) -> dict[str, np.ndarray]:
    """`unfreeze_at` (n,), the steps at which parameters are unfrozen; empty if all are trained from the start."""
    steps = [clock.steps(duration, "transfer.unfreeze") for _, duration in pairs]
    for (_, duration), step in zip(pairs, steps, strict=True):
        if step >= clock.total_steps:
            raise UserError(
                f"transfer.unfreeze: '{duration}' is {pluralize(step, 'step')}, but the whole training has "
                f"{clock.total_steps}; put parameters that are never trained into transfer.freeze"
            )
    return {"unfreeze_at": np.asarray(steps, np.float32)} if steps else {}
