"""Rematerialization: activations that are recomputed in the backward pass instead of stored.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

# By name in a config: which values of a block are stored for the backward pass. The rest is recomputed.
REMAT: dict[str, Callable[..., Any] | None] = {
    # All: nothing is recomputed.
    "none": None,
    # Only the block's input.
    "full": jax.checkpoint_policies.nothing_saveable,
    # Results of matrix products.
    "dots": jax.checkpoint_policies.dots_saveable,
    # As "dots", without products that have a batch dimension: those of attention grow with the square of the tokens.
    "dots_without_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def call_block(block: nnx.Module, inputs: jax.Array, *static: Any, remat: str, update_statistics: bool = False) -> Any:
    """Calls `block(inputs, *static)` and recomputes its activations in the backward pass as `remat` says.

    `nnx.remat` writes to the block's variables in every call. This function does so only if asked to, so a model in
    inference stays a pure function.

    Args:
      block: a module whose variables are `nnx.Param` and `nnx.BatchStat`.
      inputs: the array that the block reads.
      static: further arguments of the block, none of them arrays.
      remat: a key of `REMAT`.
      update_statistics: whether the batch statistics that the call computes are written to the block.
    """
    policy = REMAT[remat]
    if policy is None:
        return block(inputs, *static)
    graphdef, params, statistics = nnx.split(block, nnx.Param, nnx.BatchStat)

    def run(params, statistics, inputs):
        merged = nnx.merge(graphdef, params, statistics)
        outputs = merged(inputs, *static)
        return outputs, nnx.state(merged, nnx.BatchStat)

    outputs, statistics = jax.checkpoint(run, policy=policy)(params, statistics, inputs)
    if update_statistics:
        nnx.update(block, statistics)
    return outputs
