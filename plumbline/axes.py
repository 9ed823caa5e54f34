"""The layout of a batch and its activations over devices, as far as data and models need to know it.

Under `jit` a program sees whole arrays, and `constrain` sets their sharding. Under `pmap` each device sees only its own
examples. Operations on the whole batch (a sum, a mixing partner, a random draw) use the functions below, which do
nothing where a program sees the whole batch.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

# The axes of a mesh. Examples are split over the first two; `fsdp` also splits parameters, `tensor` only parameters.
DATA, FSDP, TENSOR = AXES = ("data", "fsdp", "tensor")
BATCH = (DATA, FSDP)

_mapped: contextvars.ContextVar[str | None] = contextvars.ContextVar("mapped", default=None)


def constrain(values: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Constrains the sharding of each dimension; does nothing without a mesh of several devices.

    Args:
      values: an activation.
      axes: `BATCH`, "tensor" or None for each dimension.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if DATA not in mesh.axis_names or mesh.size == 1 or mapped_axis() is not None:
        return values
    return jax.lax.with_sharding_constraint(values, PartitionSpec(*axes))


@contextlib.contextmanager
def split_over(axis: str) -> Iterator[None]:
    """Declares that programs traced in this block split the batch over a mapped axis."""
    token = _mapped.set(axis)
    try:
        yield
    finally:
        _mapped.reset(token)


def mapped_axis() -> str | None:
    """Returns the mapped axis that the batch is split over; None where a program sees the whole batch."""
    return _mapped.get()


def sum_over_batch(tree: Any) -> Any:
    """Adds sums over this part of the batch to those of all other parts. The arrays, float32, are sent as one.

    On CPUs, XLA does not combine the sums of several arrays, and each would be a round trip.
    """
    axis = mapped_axis()
    if axis is None:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(flat, axis))


def reverse_batch(values: jax.Array) -> jax.Array:
    """Reverses the whole batch (B, ...). Each device receives the examples of one other device only."""
    reverse, axis = values[::-1], mapped_axis()
    if axis is None:
        return reverse
    size = jax.lax.axis_size(axis)
    return jax.lax.ppermute(reverse, axis, [(device, size - 1 - device) for device in range(size)])


def draw(make: Callable[[int], jax.Array], num_examples: int, *, dim: int = 0) -> jax.Array:
    """Draws at random for the whole batch and takes the part of these examples.

    An example gets the same draw on any number of devices.

    Args:
      make: draws for a number of examples.
      num_examples: examples in this part.
      dim: the dimension of the examples in the draw.
    """
    axis = mapped_axis()
    if axis is None:
        return make(num_examples)
    whole = make(num_examples * jax.lax.axis_size(axis))
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(axis) * num_examples, num_examples, dim)
