"""Learning-rate schedules: the share of the peak rate at each step."""

import collections
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax

from plumbline import UserError, unknown_name
from trainers.durations import Clock

Schedule = Callable[[jax.Array], jax.Array]
NAMES = ("constant", "cosine", "linear", "step", "rsqrt")


def build(config: ml_collections.ConfigDict, clock: Clock) -> Schedule:
    """A linear warmup from 0, then the schedule that `config.name` says; from the step (as float32) to a share.

    Args:
      config: the `schedule` section.
      clock: turns durations into steps; knows the length of the training.

    Raises:
      UserError: the schedule is unknown, a duration is none, or the warmup is longer than the training.
    """
    warmup = clock.steps(config.warmup, "schedule.warmup") if config.warmup.strip() else 0
    if config.name not in NAMES:
        raise unknown_name("schedule.name", config.name, NAMES)
    if warmup >= clock.total_steps:
        raise UserError(
            f"schedule.warmup: '{config.warmup}' is {warmup} steps, but the whole training has {clock.total_steps}; "
            "shorten the warmup or lengthen train.duration"
        )
    # Only `main` needs the steps of the training that follow the warmup.
    main = _after_warmup(config, clock, warmup)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), main], [warmup])


def _after_warmup(config: ml_collections.ConfigDict, clock: Clock, warmup: int) -> Schedule:
    length = clock.total_steps - warmup
    if config.name == "cosine":
        return optax.cosine_decay_schedule(1.0, length, alpha=config.end)
    if config.name == "linear":
        return optax.linear_schedule(1.0, config.end, length)
    if config.name == "step":
        boundaries = collections.Counter(clock.steps(text, "schedule.step_at") - warmup for text in config.step_at)
        factors = {boundary: config.step_factor**count for boundary, count in boundaries.items()}
        return optax.piecewise_constant_schedule(1.0, factors)
    if config.name == "rsqrt":
        text = config.rsqrt_timescale or config.warmup or "1 step"
        timescale = max(1, clock.steps(text, "schedule.rsqrt_timescale"))
        return lambda step: jax.lax.rsqrt(1.0 + jnp.asarray(step, jnp.float32) / timescale)
    return optax.constant_schedule(1.0)
