"""Devices, and how states and batches lie over them."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from plumbline import UserError


def make_mesh(num_devices: int) -> Mesh:
    """A mesh with one axis, `data`, over which batches are split; parameters are held whole on every device.

    Args:
      num_devices: how many of the devices to take; -1 means all.

    Raises:
      UserError: there are fewer devices.
    """
    available = jax.devices()
    if num_devices < -1 or num_devices == 0 or num_devices > len(available):
        raise UserError(f"execution.devices: {num_devices} asked, {len(available)} there; give 1 to that, or -1")
    devices = available if num_devices == -1 else available[:num_devices]
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def check_batch(mesh: Mesh, batch_size: int, accumulation_steps: int) -> None:
    """Checks that a training batch can be shared out evenly.

    Raises:
      UserError: it cannot.
    """
    shares = mesh.size * accumulation_steps
    if batch_size % shares:
        raise UserError(
            f"train.batch_size: {batch_size} is not divisible over {mesh.size} devices times {accumulation_steps} "
            f"accumulation steps; take a multiple of {shares}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded_batch(mesh: Mesh, *, stacked: bool = False) -> NamedSharding:
    """Split over the devices along the axis of examples: the first, or the second of several stacked batches."""
    return NamedSharding(mesh, PartitionSpec(None, "data") if stacked else PartitionSpec("data"))
