"""The schedule of pruning: its times in steps, and how many weights are zero after each step.

Zhu & Gupta 2017, "To prune, or not to prune: exploring the efficacy of pruning for model compression", section 3: the
sparsity rises fast at first, when many weights can be spared, and more and more slowly towards the end.
"""

from collections.abc import Mapping
from fractions import Fraction

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.typing import ArrayLike

from plumbline import UserError, pluralize
from trainers.durations import Clock

Lengths = Mapping[str, ArrayLike]

# Largest number of weights that are counted together; twice as many still fit into 32 bits.
MOST_WEIGHTS = 2**31 - 1

_BITS = 32


def lengths(config: ml_collections.ConfigDict, clock: Clock) -> dict[str, np.ndarray]:
    """The values that `share` and `final_count` need of a training; empty without pruning.

    `sparsity` is a binary fraction, (2,) uint32 with the lower word first, so that counts are exact; `prune_begin`,
    `prune_end` and `prune_every` are int32 steps.

    Args:
      config: the whole config.
      clock: of the training.

    Raises:
      UserError: a duration is invalid.
    """
    prune = config.prune
    if prune.sparsity == 0:
        return {}
    # Of the decimal number: 0.9 of 45 is 40.5, but the nearest binary number to 0.9 is slightly larger.
    fraction = round(Fraction(str(prune.sparsity)) * 2 ** (2 * _BITS))
    words = [fraction % 2**_BITS, fraction >> _BITS]
    steps = {f"prune_{name}": clock.steps(prune[name], f"prune.{name}") for name in ("begin", "end", "every")}
    return {"sparsity": np.asarray(words, np.uint32)} | {name: np.asarray(n, np.int32) for name, n in steps.items()}


def check(config: ml_collections.ConfigDict, clock: Clock) -> None:
    """Checks that the times of pruning fit into the training.

    Raises:
      UserError: they do not.
    """
    prune, steps = config.prune, lengths(config, clock)
    if not steps:
        return
    begin, end, every = (int(steps[f"prune_{name}"]) for name in ("begin", "end", "every"))
    if every == 0:
        raise UserError(f"prune.every: '{prune.every}' is not an interval; give more than 0")
    if end > clock.total_steps:
        raise UserError(
            f"prune.end: '{prune.end}' is {pluralize(end, 'step')}, but the whole training has {clock.total_steps}; "
            "end earlier, to leave time for fine-tuning"
        )
    if begin > end:
        raise UserError(
            f"prune.begin: '{prune.begin}' is {pluralize(begin, 'step')}, after prune.end at {end}; begin earlier"
        )
    durations = [duration for _, duration in config.transfer.unfreeze]
    frozen_until = max((clock.steps(duration, "transfer.unfreeze") for duration in durations), default=0)
    if begin < frozen_until:
        raise UserError(
            f"prune.begin: '{prune.begin}' is {pluralize(begin, 'step')}, but transfer.unfreeze freezes parameters "
            f"until step {frozen_until}; begin when all are trained"
        )


def share(step: jax.Array, lengths: Lengths) -> jax.Array:
    """The share of the final sparsity that is reached after `step` steps: float32, from 0 before the start to 1.

    Between start t_0 and end it is `1 - (1 - (t - t_0) / (n dt)) ** 3` at t = t_0, t_0 + dt, t_0 + 2 dt, ... and
    constant in between: s_t / s_f of equation (1), with s_i = 0.

    Args:
      step: int32, steps taken.
      lengths: as `lengths` returns them.
    """
    begin, end, every = lengths["prune_begin"], lengths["prune_end"], lengths["prune_every"]
    since = jnp.maximum(step - begin, 0) // every * every
    left = 1 - since.astype(jnp.float32) / jnp.maximum(end - begin, 1).astype(jnp.float32)
    return jnp.where(step >= end, 1.0, 1 - jnp.maximum(left, 0.0) ** 3)


def count(share: jax.Array, final: jax.Array) -> jax.Array:
    """The number of weights that are zero at a share of the schedule; uint32.

    Args:
      share: as `share` returns it.
      final: number of zero weights at the end, uint32.
    """
    some = jnp.round(share * final.astype(jnp.float32)).astype(jnp.uint32)
    return jnp.where(share >= 1, final, jnp.minimum(some, final))


def final_count(lengths: Lengths, size: int) -> jax.Array:
    """The number of zero weights at the end: `sparsity * size`, rounded half to even; uint32.

    Float32 has only seven digits, so this multiplies exactly: long multiplication in base 2, from the last digit on.

    Args:
      lengths: as `lengths` returns them.
      size: number of weights, at most `MOST_WEIGHTS`.
    """
    words = jnp.asarray(lengths["sparsity"])

    def add(digit: jax.Array, product: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        whole, fraction = product
        bit = (words[digit // _BITS] >> (digit % _BITS).astype(jnp.uint32)) & 1
        whole += bit * jnp.uint32(size)
        return whole >> 1, (fraction >> 1) | (whole << (_BITS - 1))

    whole, fraction = jax.lax.fori_loop(0, 2 * _BITS, add, (jnp.uint32(0), jnp.uint32(0)))
    # Lower digits are cut off, so a half may be short of a few units.
    half, some = jnp.uint32(2 ** (_BITS - 1)), jnp.uint32(2)
    is_half = (fraction >= half - some) & (fraction <= half + some)
    return whole + jnp.where(is_half, whole % 2 == 1, fraction > half).astype(jnp.uint32)
