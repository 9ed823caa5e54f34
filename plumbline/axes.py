"""How a batch and its activations lie over devices, as far as data and models have to know.

Under `jit` a program sees whole arrays, and `constrain` says how they are cut. Under `pmap` each device sees its own
examples only: what concerns the whole batch (a sum, a partner to mix with, a random draw) goes through the functions
below, which do nothing where a program sees the whole batch.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

# The axes of a mesh. Examples are split over the first two; `fsdp` splits parameters as well, `tensor` only those.
DATA, FSDP, TENSOR = AXES = ("data", "fsdp", "tensor")
BATCH = (DATA, FSDP)

_mapped: contextvars.ContextVar[str | None] = contextvars.ContextVar("mapped", default=None)


def constrain(values: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Says over which mesh axes each dimension is split; without a mesh of several devices that has them, nothing.

    Args:
      values: an activation.
      axes: for each dimension `BATCH`, "tensor" or None.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if DATA not in mesh.axis_names or mesh.size == 1 or mapped_axis() is not None:
        return values
    return jax.lax.with_sharding_constraint(values, PartitionSpec(*axes))


@contextlib.contextmanager
def mapped(axis: str) -> Iterator[None]:
    """While a program is traced in this block, the batch is split over this mapped axis."""
    token = _mapped.set(axis)
    try:
        yield
    finally:
        _mapped.reset(token)


def mapped_axis() -> str | None:
    """The mapped axis that the batch is split over; None where a program sees the whole batch."""
    return _mapped.get()


def over_batch(tree: Any) -> Any:
    """The sum over all parts of the batch, of sums over this part; a tree of float32 arrays travels as one.

    Every array that is summed for itself is a round trip of its own where XLA does not join them (on CPUs).
    """
    axis = mapped_axis()
    if axis is None:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(flat, axis))


def mirrored(values: jax.Array) -> jax.Array:
    """The values (B, ...) in the reverse order of the whole batch: each device gets those of one other, no more."""
    reverse, axis = values[::-1], mapped_axis()
    if axis is None:
        return reverse
    size = jax.lax.axis_size(axis)
    return jax.lax.ppermute(reverse, axis, [(device, size - 1 - device) for device in range(size)])


def draw(make: Callable[[int], jax.Array], num_examples: int, *, dim: int = 0) -> jax.Array:
    """A random draw for each example: what `make` draws for the whole batch, cut to the examples of this part.

    So an example gets the same draw however many devices share the batch.

    Args:
      make: draws for so many examples.
      num_examples: of this part.
      dim: the dimension of the examples in what is drawn.
    """
    axis = mapped_axis()
    if axis is None:
        return make(num_examples)
    whole = make(num_examples * jax.lax.axis_size(axis))
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(axis) * num_examples, num_examples, dim)
