"""Devices in a mesh, and which examples of a batch each process reads."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from plumbline import UserError, pluralize
from plumbline.axes import AXES, BATCH

# Dispatches in flight at which the host waits, and how many it then leaves. Where host and arithmetic share a few
# cores, dispatching in bursts disturbs the arithmetic less than waking up for every step.
_IN_BURSTS = 16, 2
# Several processes learn of each other's requests from finished dispatches, so few may be in flight.
_OF_MANY_PROCESSES = 2, 1
# Several devices in one CPU process share its threads, which programs that wait for each other could fill.
_OF_MANY_CPU_DEVICES = 1, 0


def make_mesh(config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config.

    Args:
      config: the `mesh` section: the size of each axis, one of which may be -1: the number of devices that remains.
      devices: of the mesh; all devices by default.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = _shape({axis: config[axis] for axis in AXES}, len(devices))
    # On a TPU, neighbours in the mesh are neighbours on the chip's network; elsewhere the order stays.
    on_tpu = devices[0].platform == "tpu" and len(devices) > 1
    grid = (
        mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        if on_tpu
        else np.array(devices).reshape(shape)
    )
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of these devices along the data axis, with every parameter replicated."""
    return make_mesh(ml_collections.ConfigDict(dict.fromkeys(AXES, 1) | {AXES[0]: -1}), devices)


def num_batch_shards(mesh: Mesh) -> int:
    """Number of parts that a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH)


def check_batch(mesh: Mesh, batch_size: int, accumulation_steps: int) -> None:
    """Checks that a training batch can be split evenly.

    Raises:
      UserError: it cannot.
    """
    parts = num_batch_shards(mesh)
    if batch_size % (parts * accumulation_steps):
        steps = f" times {accumulation_steps} accumulation steps" if accumulation_steps > 1 else ""
        raise UserError(
            f"train.batch_size: {batch_size} is not divisible over {parts} parts (mesh.data x mesh.fsdp){steps}; "
            f"take a multiple of {parts * accumulation_steps}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded_batch(mesh: Mesh, *, stacked: bool = False) -> NamedSharding:
    """Split over the devices along the dimension of examples: the first, or the second of several stacked batches."""
    return NamedSharding(mesh, PartitionSpec(None, BATCH) if stacked else PartitionSpec(BATCH))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """(B_local,) int64, rows of a global batch that this process's devices hold, in ascending order."""
    parts = sharded_batch(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts]))


def global_batch(mesh: Mesh, batch: dict[str, np.ndarray], batch_size: int, *, stacked: bool = False) -> dict:
    """Assembles arrays over all processes from the rows that each has read; with one process returns them as they are.

    Args:
      mesh: devices.
      batch: leaves (B_local, ...), or (count, B_local, ...) if stacked.
      batch_size: rows of the global batch.
      stacked: whether there are several batches.
    """
    if jax.process_count() == 1:
        return batch
    sharding, rows = sharded_batch(mesh, stacked=stacked), local_rows(mesh, batch_size)
    dim = int(stacked)

    def distribute(local: np.ndarray) -> jax.Array:
        shape = (*local.shape[:dim], batch_size, *local.shape[dim + 1 :])

        def part(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[dim].indices(batch_size)
            first = int(np.searchsorted(rows, start))
            return local[(*index[:dim], slice(first, first + stop - start))]

        return jax.make_array_from_callback(shape, sharding, part)

    return {name: distribute(leaf) for name, leaf in batch.items()}


def on_mesh(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced with the mesh set that `axes.constrain` uses."""

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def in_flight(mesh: Mesh) -> tuple[int, int]:
    """Dispatches in flight at which the host should wait, and how many to leave."""
    if mesh.devices.flat[0].platform == "cpu" and len(mesh.local_devices) > 1:
        return _OF_MANY_CPU_DEVICES
    return _OF_MANY_PROCESSES if jax.process_count() > 1 else _IN_BURSTS


def _shape(sizes: dict[str, int], num_devices: int) -> tuple[int, ...]:
    text = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
    fixed = math.prod(size for size in sizes.values() if size != -1)
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or any(size == 0 or size < -1 for size in sizes.values()):
        raise UserError(f"mesh: {text} is not a mesh; each size must be at least 1, or -1 for one (what remains)")
    if num_devices % fixed if open_axes else num_devices != fixed:
        raise UserError(
            f"mesh: {text} does not multiply to the {pluralize(num_devices, 'device')} there are; "
            f"change a size{'' if open_axes else ', or make one of them -1'}"
        )
    return tuple(num_devices // fixed if size == -1 else size for size in sizes.values())
