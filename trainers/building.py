"""From a config to what a training is made of: its clock and its program."""

import dataclasses

import ml_collections

import data
from plumbline import UserError
from trainers import settings
from trainers.durations import Clock
from trainers.step import hyperparameters, objectives, pruning_schedule, schedules
from trainers.step.state import Init, Program, make_program


def make_clock(config: ml_collections.ConfigDict, num_examples: int) -> Clock:
    """The clock of a training over `num_examples` examples.

    Raises:
      UserError: the duration is none, or shorter than a step, or pruning does not fit into it.
    """
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size)
    total_steps = clock.steps(config.train.duration, "train.duration")
    if total_steps < 1:
        raise UserError(f"train.duration: '{config.train.duration}' is less than one step")
    clock = dataclasses.replace(clock, total_steps=total_steps)
    pruning_schedule.check(config, clock)
    return clock


def build_program(
    config: ml_collections.ConfigDict, features: data.Features, *, used: frozenset[str] = frozenset()
) -> tuple[Program, Init]:
    """The program of a config on such features, and the function that makes its first state.

    Args:
      config: the whole config.
      features: what an example is.
      used: hyperparameters that are in the program besides those the config uses.

    Raises:
      UserError: objective, schedule, model or optimizer do not fit.
    """
    objective = objectives.build(config.objective.name, features, calibration_bins=config.evaluation.calibration_bins)
    settings.check_task(config, features)
    schedule = schedules.build(config.schedule)
    return make_program(config, features, objective, used | hyperparameters.used([config]), schedule)
