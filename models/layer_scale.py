"""A learned factor on each channel of a residual branch.

Touvron et al. 2021, "Going deeper with Image Transformers", section 2.1.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class LayerScale(nnx.Module):
    """Multiplies channels (the last axis) by learned factors."""

    # Named like the factors of norms, so that the default rule excludes it from weight decay.
    scale: nnx.Param

    def __init__(self, channels: int, initial: float):
        """Takes the number of channels and the initial value of all factors."""
        self.scale = nnx.Param(jnp.full((channels,), initial, jnp.float32))

    def __call__(self, branch: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Scales the branch and keeps its type."""
        scale = self.scale[...].astype(branch.dtype)
        return branch * scale.reshape((1,) * (branch.ndim - 1) + scale.shape)
