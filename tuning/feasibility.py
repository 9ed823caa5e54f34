"""Checks the values of a search space against the config, the data and the model, before anything is trained."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from data.pool import Pool
from plumbline import UserError
from trainers.building import build_program
from trainers.populations.members import program_key
from trainers.settings import check as check_config
from trainers.settings import check_task, override
from trainers.step import hyperparameters
from tuning.space import Space


def check_values(space: Space, config: ml_collections.ConfigDict, pool: Pool) -> None:
    """Checks each choice and both ends of each range.

    A value that is valid only together with another one, such as a width with its number of heads, passes.

    Args:
      space: of the search.
      config: common to all trials.
      pool: of the data.

    Raises:
      UserError: a value is invalid, alone and with every single value of the other dimensions.
    """
    values = {
        each.path: each.choices or [int(end) if each.integer else end for end in (each.low, each.high)]
        for each in space.dimensions
    }
    for path, value in ((path, value) for path, options in values.items() for value in options):
        if problem := _find_problem({path: value}, config, pool):
            others = ((other, its) for other, options in values.items() for its in options if other != path)
            if all(_find_problem({path: value, other: its}, config, pool) for other, its in others):
                raise UserError(f"sweep(): with '{path}' at {value!r}, {problem}")


def used_hyperparameters(space: Space, config: ml_collections.ConfigDict) -> frozenset[str]:
    """Returns the hyperparameters that some trial may use.

    Args:
      space: of the search.
      config: common to all trials.
    """
    extremes = ((each.path, value) for each in space.dimensions for value in each.choices or (each.high,))
    return hyperparameters.used(override(config, {path: value}) for path, value in extremes)


def _find_problem(overrides: Mapping[str, Any], config: ml_collections.ConfigDict, pool: Pool) -> str:
    """Returns why no training can have these overrides; "" if one can."""
    try:
        changed = override(config, overrides)
        check_config(changed)
        check_task(changed, pool.features)
        if program_key(changed) != program_key(config):
            build_program(changed, pool.features)
    except UserError as error:
        return str(error)
    return ""
