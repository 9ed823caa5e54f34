"""Random keys on the device."""

import jax
from jax.typing import ArrayLike

_IMPLEMENTATION = "threefry2x32"


def make_key(seed: ArrayLike) -> jax.Array:
    """The typed random key of a seed, which may be traced.

    The generator is named: JAX_DEFAULT_PRNG_IMPL can change JAX's default from outside, and with it every number.
    """
    return jax.random.key(seed, impl=_IMPLEMENTATION)
