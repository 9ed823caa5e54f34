"""Learning-rate schedules: the share of the peak rate at each step. Their lengths are traced hyperparameters."""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.typing import ArrayLike

from plumbline import UserError, pluralize, unknown_name
from trainers.durations import Clock

Lengths = Mapping[str, ArrayLike]
Schedule = Callable[[jax.Array, Lengths], jax.Array]


def build(config: ml_collections.ConfigDict, name: str = "", field: str = "schedule.name") -> Schedule:
    """Builds a schedule: a linear warmup from 0, then the named one; from step (float32) and lengths to a share.

    Args:
      config: the `schedule` section.
      name: name of the schedule; "": that of the section.
      field: the config field that holds the name, for errors.

    Raises:
      UserError: the schedule is unknown.
    """
    name = name or config.name
    if name not in _AFTER_WARMUP:
        raise unknown_name(field, name, NAMES)
    after_warmup = _AFTER_WARMUP[name]

    def schedule(step: jax.Array, lengths: Lengths) -> jax.Array:
        warmup = lengths["warmup_steps"]
        return jnp.where(step < warmup, step / jnp.maximum(warmup, 1.0), after_warmup(config, step, lengths))

    return schedule


def lengths(config: ml_collections.ConfigDict, clock: Clock, names: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The lengths that a schedule needs: float32 numbers of steps, scalars except `step_at` (n,).

    Args:
      config: the `schedule` section.
      clock: of the training.
      names: names of other schedules in use.

    Raises:
      UserError: a duration is invalid, or the warmup is longer than the training.
    """
    warmup = clock.steps(config.warmup, "schedule.warmup") if config.warmup.strip() else 0
    if warmup >= clock.total_steps:
        raise UserError(
            f"schedule.warmup: '{config.warmup}' is {pluralize(warmup, 'step')}, but the whole training has "
            f"{clock.total_steps}; shorten the warmup or lengthen train.duration"
        )
    steps = {"warmup_steps": warmup, "decay_steps": clock.total_steps - warmup}
    # Checkpoints cannot store empty arrays.
    names = {config.name, *names}
    if "step" in names and config.step_at:
        steps["step_at"] = [clock.steps(text, "schedule.step_at") for text in config.step_at]
    if "rsqrt" in names:
        text = config.rsqrt_timescale or config.warmup or "1 step"
        steps["rsqrt_timescale"] = max(1, clock.steps(text, "schedule.rsqrt_timescale"))
    return {name: np.asarray(value, np.float32) for name, value in steps.items()}


def _progress(step: jax.Array, lengths: Lengths) -> jax.Array:
    """The share of the training after the warmup that is over."""
    return (step - lengths["warmup_steps"]) / lengths["decay_steps"]


# Optax's schedules need lengths that are known at tracing; with a length of 1 they take shares of the training instead.
_AFTER_WARMUP: dict[str, Callable[[ml_collections.ConfigDict, jax.Array, Lengths], jax.Array]] = {
    "constant": lambda config, step, lengths: jnp.ones_like(step),
    "cosine": lambda config, step, lengths: optax.cosine_decay_schedule(1.0, 1, config.end)(_progress(step, lengths)),
    "linear": lambda config, step, lengths: optax.linear_schedule(1.0, config.end, 1)(_progress(step, lengths)),
    "step": lambda config, step, lengths: (
        config.step_factor ** jnp.sum(jnp.float32(step >= lengths["step_at"]))
        if config.step_at
        else jnp.ones_like(step)
    ),
    "rsqrt": lambda config, step, lengths: jax.lax.rsqrt(
        1.0 + jnp.maximum(step - lengths["warmup_steps"], 0.0) / lengths["rsqrt_timescale"]
    ),
}
NAMES = tuple(_AFTER_WARMUP)
