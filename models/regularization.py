"""Dropout and stochastic depth as functions of a rate, which may be traced."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from models.interface import Scalar
from plumbline import axes


@dataclasses.dataclass(frozen=True)
class Regularization:
    """The regularisers of one forward pass.

    Each regulariser has its own key, and each layer folds its number into that key. So adding or removing a regulariser
    or a layer does not change the random draws of others.
    """

    dropout: Scalar | None
    dropout_key: PRNGKeyArray | None
    stochastic_depth: Scalar | None
    stochastic_depth_key: PRNGKeyArray | None

    @classmethod
    def from_arguments(
        cls,
        *,
        training: bool,
        key: PRNGKeyArray | None,
        dropout: Scalar | None = None,
        stochastic_depth: Scalar | None = None,
    ) -> "Regularization":
        """Returns the regularisers for the arguments of a model's call; none outside training.

        Raises:
          ValueError: a regulariser needs a key and `key` is None.
        """
        if not training or (dropout is None and stochastic_depth is None):
            return cls(None, None, None, None)
        if key is None:
            raise ValueError("dropout and stochastic depth need a key in training; pass `key=`, or None for both rates")
        # These numbers determine the random draws of runs. A new regulariser must take the next number.
        return cls(dropout, jax.random.fold_in(key, 0), stochastic_depth, jax.random.fold_in(key, 1))

    def drop_units(self, values: Float[Array, "..."], layer: int | Int[Array, ""]) -> Float[Array, "..."]:
        """Applies dropout with the random key of a layer; see `dropout`."""
        if self.dropout is None:
            return values
        return dropout(values, self.dropout, jax.random.fold_in(self.dropout_key, layer))

    def drop_branch(
        self, branch: Float[Array, "batch ..."], layer: int | Int[Array, ""], share: Scalar
    ) -> Float[Array, "batch ..."]:
        """Applies stochastic depth at a share of the full rate, with the random key of a layer; see `drop_path`."""
        if self.stochastic_depth is None:
            return branch
        rate = self.stochastic_depth * share
        return drop_path(branch, rate, jax.random.fold_in(self.stochastic_depth_key, layer))


def dropout(values: Float[Array, "..."], rate: Scalar, key: PRNGKeyArray) -> Float[Array, "..."]:
    """Sets each value to zero with probability `rate` and scales the others to keep the expectation.

    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 10 (inverted).
    A rate of 0 returns the values unchanged, a rate of 1 returns zeros.
    """
    return _keep_share(values, rate, key, values.shape)


def drop_path(branch: Float[Array, "batch ..."], rate: Scalar, key: PRNGKeyArray) -> Float[Array, "batch ..."]:
    """Sets the branch of an example to zero with probability `rate` and scales the others to keep the expectation.

    Huang et al. 2016, "Deep Networks with Stochastic Depth", section 3, drawn per example, and scaled in training
    instead of in inference.
    """
    return _keep_share(branch, rate, key, (branch.shape[0],) + (1,) * (branch.ndim - 1))


def _keep_share(
    values: Float[Array, "..."], rate: Scalar, key: PRNGKeyArray, mask_shape: tuple[int, ...]
) -> Float[Array, "..."]:
    keep_rate = 1.0 - jnp.asarray(rate, jnp.float32)
    keep = axes.draw(lambda size: jax.random.bernoulli(key, keep_rate, (size, *mask_shape[1:])), mask_shape[0])
    # The lower bound avoids 0 / 0 at a rate of 1. Scaling in bfloat16 would shift the expectation by up to 0.4 percent.
    kept = jnp.where(keep, values, jnp.zeros_like(values)).astype(jnp.float32)
    return (kept / jnp.maximum(keep_rate, jnp.finfo(jnp.float32).tiny)).astype(values.dtype)


def depth_share(block: int | Int[Array, ""], num_blocks: int) -> Scalar:
    """Returns the share of the full rate of stochastic depth in a block: (block + 1) / num_blocks.

    Huang et al. 2016, equation 4 (the linear rule): the last block has the full rate.
    """
    return (jnp.asarray(block, jnp.float32) + 1.0) / num_blocks
