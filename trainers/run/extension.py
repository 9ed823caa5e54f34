"""A finished run that goes on for longer: which fields of its config may change, and its schedule from there on.

A constant, step or rsqrt schedule goes on as it is. A cosine or linear one starts again at its peak and decays over the
added steps (a warm restart, Loshchilov & Hutter 2017, "SGDR", section 3). Everything else goes on: the optimizer's
state, the order of the examples, the best parameters and the metrics.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from plumbline import UserError

FIELDS = ("optimizer.learning_rate", "schedule.end", "schedule.name", "train.duration", "train.patience")
"""The fields that an extension may change."""
_RESTARTED = ("cosine", "linear")
# The others keep more arrays in the train state.
_INTERCHANGEABLE = ("constant", *_RESTARTED)


def find_fixed(old: Mapping[str, Any], new: Mapping[str, Any], differing: Sequence[str]) -> list[str]:
    """The fields among those that differ which an extension may not change.

    Args:
      old: fields of the finished run, by path.
      new: those of its extension.
      differing: paths of those that differ.
    """
    names = {old.get("schedule.name"), new.get("schedule.name")}
    free = {*FIELDS} if names <= {*_INTERCHANGEABLE} else {*FIELDS} - {"schedule.name"}
    return [path for path in differing if path not in free]


def check_alone(*, overwrite: bool, checks_transfer: bool) -> None:
    """Checks that nothing is asked for that cannot go with an extension.

    Raises:
      UserError: the run would be deleted, or compared with a training from scratch that is not extended.
    """
    if overwrite or checks_transfer:
        other = "--overwrite" if overwrite else "transfer.check"
        raise UserError(f"--extend: cannot be given with {other}; leave one of them out")


def check_length(total_steps: int, taken: int) -> None:
    """Checks that an extension has steps to take.

    Args:
      total_steps: of the extended training.
      taken: steps that the finished run has taken.

    Raises:
      UserError: it has none.
    """
    if total_steps <= taken:
        raise UserError(
            f"--extend: train.duration is {total_steps} steps, and the run has taken {taken}; give a longer one"
        )


def changed_hyperparameters(config: ml_collections.ConfigDict, total_steps: int, step: int) -> dict[str, np.ndarray]:
    """The hyperparameters of the train state that an extension changes, by name.

    Args:
      config: of the extended training.
      total_steps: of it.
      step: steps taken when it begins.
    """
    values = {"learning_rate": config.optimizer.learning_rate}
    if {config.schedule.name, config.transfer.head_schedule} & {*_RESTARTED}:
        # The warmup counts as over, so that the decay begins at its peak.
        values |= {"warmup_steps": step, "decay_steps": total_steps - step}
    return {name: np.asarray(value, np.float32) for name, value in values.items()}
