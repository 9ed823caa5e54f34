"""A learned factor on each channel of a residual branch.

Touvron et al. 2021, "Going deeper with Image Transformers", section 2.1.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class LayerScale(nnx.Module):
    """Multiplies channels, which are the last axis, by factors that start small, or at 1."""

    # Called like the factors of norms, so that the default rule keeps weight decay off them.
    scale: nnx.Param

    def __init__(self, channels: int, initial: float):
        """Takes the number of channels and the value that all factors start from."""
        self.scale = nnx.Param(jnp.full((channels,), initial, jnp.float32))

    def __call__(self, branch: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Scales the branch, in its own type."""
        scale = self.scale[...].astype(branch.dtype)
        return branch * scale.reshape((1,) * (branch.ndim - 1) + scale.shape)
