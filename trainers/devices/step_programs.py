"""A step as compiled programs over devices: one step or several, by `jit` over a mesh or by `pmap`.

Beside the batch, each process passes a request (to save, to stop). The highest of all requests comes back with the
token of the dispatch, so all processes learn of it at the same step without further communication.
"""

import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from plumbline import UserError, axes, unknown_name
from trainers.devices.mesh import global_batch, on_mesh, replicated, sharded_batch
from trainers.step.state import TrainState
from trainers.step.train_step import Batch, Metrics, TrainStep

PARALLEL_MODES = ("jit", "pmap")
# The arrays of a batch that a step reads. The others need not be moved to the device.
READ_BY_STEPS = ("inputs", "labels", "weight")

_MAPPED_AXIS = "batch"


class Request(enum.IntEnum):
    """What a process asks all processes to do. The highest request is granted."""

    NONE = 0
    SAVE = 1
    STOP = 2


Token = tuple[jax.Array, jax.Array | None]
"""Of a dispatch: the most updates skipped in a row, and the highest request (None with one process)."""
_Function = Callable[[TrainState, Metrics, Batch, jax.Array | None], tuple[TrainState, Metrics, Token]]


def check_parallel_mode(mode: str, mesh: Mesh) -> None:
    """Checks that steps can be run in this way.

    Args:
      mode: `config.parallel.mode`.
      mesh: devices.

    Raises:
      UserError: the mode is unknown, or is "pmap" on a mesh that splits parameters.
    """
    if mode not in PARALLEL_MODES:
        raise unknown_name("parallel.mode", mode, PARALLEL_MODES)
    if mode == "pmap" and (mesh.shape[axes.FSDP] > 1 or mesh.shape[axes.TENSOR] > 1):
        raise UserError(
            f"parallel.mode: 'pmap' holds parameters whole on every device, but mesh.fsdp is {mesh.shape[axes.FSDP]} "
            f"and mesh.tensor {mesh.shape[axes.TENSOR]}; make both 1, or take 'jit'"
        )


class StepPrograms:
    """The programs of a step: "loop" takes one step, "scan" several.

    Attributes:
      mesh: devices.
      compiled: by mode, `(state, running, batch, requests) -> (state, running, token)`. The buffers of the first two
        arguments are donated. Compiled at the first call.
      requests: by request, the array that passes it to a program. Empty with one process, which passes None.
    """

    modes = ("loop", "scan")

    def __init__(self, train_step: TrainStep, mesh: Mesh, shardings: TrainState, *, batch_size: int, mode: str):
        """Nothing is compiled yet.

        Args:
          train_step: `(state, batch) -> (state, metrics)`.
          mesh: devices.
          shardings: of the state.
          batch_size: rows of a global batch.
          mode: "jit" or "pmap".
        """
        self.mesh, self._batch_size, self._is_pmap = mesh, batch_size, mode == "pmap"
        functions = {"loop": _one_step(train_step), "scan": _many_steps(train_step)}
        make = self._pmapped if self._is_pmap else functools.partial(self._jitted, shardings)
        self.compiled = {name: make(function, stacked=name == "scan") for name, function in functions.items()}
        many = jax.process_count() > 1
        self.requests = {request: self._on_each_device(request) for request in Request} if many else {}

    def place(self, mode: str, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Arranges this process's rows of a batch as a program reads them.

        Args:
          mode: "loop" or "scan".
          batch: leaves (B_local, ...) or, for "scan", (count, B_local, ...).
        """
        if not self._is_pmap:
            return global_batch(self.mesh, batch, self._batch_size, stacked=mode == "scan")
        dim, devices = int(mode == "scan"), len(self.mesh.local_devices)
        return {
            name: leaf.reshape(*leaf.shape[:dim], devices, -1, *leaf.shape[dim + 1 :]) for name, leaf in batch.items()
        }

    def unify(self, result: tuple[TrainState, Metrics, Token]) -> tuple[TrainState, Metrics, Token]:
        """The result of a program as arrays over the devices of all processes."""
        # With `pmap` each process has the result on its own devices only, though it is the same for all.
        return jax.tree.map(self._whole, result) if self._is_pmap and jax.process_count() > 1 else result

    def _jitted(self, shardings: TrainState, function: _Function, *, stacked: bool) -> Any:
        whole, everywhere = replicated(self.mesh), NamedSharding(self.mesh, PartitionSpec(axes.AXES))
        batch = sharded_batch(self.mesh, stacked=stacked)
        if self._sums_arrays_apart():
            function = self._on_parts(function, batch.spec)
        return jax.jit(
            on_mesh(self.mesh, function),
            in_shardings=(shardings, whole, batch, everywhere),
            out_shardings=(shardings, whole, whole),
            donate_argnums=(0, 1),
        )

    def _sums_arrays_apart(self) -> bool:
        """Whether XLA would send each array of a sum over processes in a message of its own."""
        on_cpus = self.mesh.devices.flat[0].platform == "cpu" and jax.process_count() > 1
        return on_cpus and self.mesh.shape[axes.DATA] == self.mesh.size

    def _on_parts(self, function: _Function, batch: PartitionSpec) -> _Function:
        """The function, traced for the examples of one device. It sums all arrays over the devices in one message."""

        def on_part(*arguments: Any) -> tuple[TrainState, Metrics, Token]:
            with axes.split_over(axes.DATA):
                return function(*arguments)

        whole = PartitionSpec()
        in_specs = (whole, whole, batch, PartitionSpec(axes.AXES))
        return jax.shard_map(on_part, mesh=self.mesh, in_specs=in_specs, out_specs=whole, check_vma=False)

    def _pmapped(self, function: _Function, *, stacked: bool) -> Any:
        def on_part(*arguments: Any) -> tuple[TrainState, Metrics, Token]:
            with axes.split_over(_MAPPED_AXIS):
                return function(*arguments)

        return jax.pmap(
            on_part,
            axis_name=_MAPPED_AXIS,
            in_axes=(None, None, int(stacked), 0),
            out_axes=None,
            devices=list(self.mesh.devices.flat),
            donate_argnums=(0, 1),
        )

    def _whole(self, leaf: jax.Array) -> jax.Array:
        copies = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, replicated(self.mesh), copies)

    def _on_each_device(self, request: Request) -> jax.Array | np.ndarray:
        """The request of this process once for each of its devices, in an array over all devices."""
        if self._is_pmap:
            return np.full(len(self.mesh.local_devices), request, np.int32)
        everywhere = NamedSharding(self.mesh, PartitionSpec(axes.AXES))
        return jax.make_array_from_callback((self.mesh.size,), everywhere, lambda _: np.full(1, request, np.int32))


def _one_step(train_step: TrainStep) -> _Function:
    def one_step(state: TrainState, running: Metrics, batch: Batch, requests: jax.Array | None) -> Any:
        state, metrics = train_step(state, batch)
        return state, jax.tree.map(jnp.add, running, metrics), (state.skipped, _highest(requests))

    return one_step


def _many_steps(train_step: TrainStep) -> _Function:
    one_step = _one_step(train_step)

    def many_steps(state: TrainState, running: Metrics, batches: Batch, requests: jax.Array | None) -> Any:
        def body(carry: tuple[TrainState, Metrics], batch: Batch) -> tuple[tuple[TrainState, Metrics], jax.Array]:
            state, running, (skipped, _) = one_step(*carry, batch, None)
            return (state, running), skipped

        (state, running), skipped = jax.lax.scan(body, (state, running), batches)
        return state, running, (jnp.max(skipped), _highest(requests))

    return many_steps


def _highest(requests: jax.Array | None) -> jax.Array | None:
    if requests is None:
        return None
    highest, axis = jnp.max(requests), axes.mapped_axis()
    return highest if axis is None else jax.lax.pmax(highest, axis)
