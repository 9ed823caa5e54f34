"""A step as compiled programs over devices: one step or several, by `jit` over a mesh or by `pmap`.

Beside the batch, each process can hand in a wish (to save, to stop); the greatest of all processes' comes back with the
token of the dispatch, so that all learn of it at the same step without another word between them.
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
from trainers.devices.mesh import global_batch, replicated, sharded_batch
from trainers.step.state import TrainState
from trainers.step.train_step import Batch, Metrics, TrainStep

PARALLEL_MODES = ("jit", "pmap")
# What a step reads of a batch; the rest need not be moved to the device.
READ_BY_STEPS = ("inputs", "labels", "weight")

_MAPPED_AXIS = "batch"


class Wish(enum.IntEnum):
    """What a process asks of all; the greatest is granted."""

    NONE = 0
    SAVE = 1
    STOP = 2


Token = tuple[jax.Array, jax.Array | None]
"""Of a dispatch: the most updates skipped in a row, and the greatest wish; None with one process."""
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


class Dispatch:
    """The programs of a step: "loop" takes one step a dispatch, "scan" several.

    Attributes:
      mesh: devices.
      programs: by mode, `(state, running, batch, wishes) -> (state, running, token)`; the first two are used up.
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
        self.programs = {name: make(function, stacked=name == "scan") for name, function in functions.items()}
        self._wishes = {wish: self._spread(wish) for wish in Wish} if jax.process_count() > 1 else {}

    def __call__(
        self, mode: str, state: TrainState, running: Metrics, batch: dict[str, np.ndarray], wish: Wish
    ) -> tuple[TrainState, Metrics, Token]:
        """Dispatches one program; `state` and `running` are used up.

        Args:
          mode: "loop" or "scan".
          state: the train state.
          running: sums of metrics, which those of the new steps are added to.
          batch: this process's rows: leaves (B_local, ...) or, for "scan", (count, B_local, ...).
          wish: of this process; not looked at where it is the only one.
        """
        done = self.programs[mode](state, running, self._placed(batch, mode), self._wishes.get(wish))
        # Of several processes, each gets what `pmap` gives back on its own devices only, though all have the same.
        return jax.tree.map(self._whole, done) if self._is_pmap and jax.process_count() > 1 else done

    def _jitted(self, shardings: TrainState, function: _Function, *, stacked: bool) -> Any:
        whole, everywhere = replicated(self.mesh), NamedSharding(self.mesh, PartitionSpec(axes.AXES))
        batch = sharded_batch(self.mesh, stacked=stacked)
        if self._sums_are_dear():
            function = self._on_parts(function, batch.spec)
        return jax.jit(
            on_mesh(self.mesh, function),
            in_shardings=(shardings, whole, batch, everywhere),
            out_shardings=(shardings, whole, whole),
            donate_argnums=(0, 1),
        )

    def _sums_are_dear(self) -> bool:
        """Whether XLA would send each array of a sum over processes by itself, though one would do for all."""
        on_cpus = self.mesh.devices.flat[0].platform == "cpu" and jax.process_count() > 1
        return on_cpus and self.mesh.shape[axes.DATA] == self.mesh.size

    def _on_parts(self, function: _Function, batch: PartitionSpec) -> _Function:
        """The function, traced for the examples of one device, which sums over all of them at once."""

        def on_part(*arguments: Any) -> tuple[TrainState, Metrics, Token]:
            with axes.mapped(axes.DATA):
                return function(*arguments)

        whole = PartitionSpec()
        in_specs = (whole, whole, batch, PartitionSpec(axes.AXES))
        return jax.shard_map(on_part, mesh=self.mesh, in_specs=in_specs, out_specs=whole, check_vma=False)

    def _pmapped(self, function: _Function, *, stacked: bool) -> Any:
        def on_part(*arguments: Any) -> tuple[TrainState, Metrics, Token]:
            with axes.mapped(_MAPPED_AXIS):
                return function(*arguments)

        return jax.pmap(
            on_part,
            axis_name=_MAPPED_AXIS,
            in_axes=(None, None, int(stacked), 0),
            out_axes=None,
            devices=list(self.mesh.devices.flat),
            donate_argnums=(0, 1),
        )

    def _placed(self, batch: dict[str, np.ndarray], mode: str) -> dict[str, Any]:
        if not self._is_pmap:
            return global_batch(self.mesh, batch, self._batch_size, stacked=mode == "scan")
        dim, devices = int(mode == "scan"), len(self.mesh.local_devices)
        return {
            name: leaf.reshape(*leaf.shape[:dim], devices, -1, *leaf.shape[dim + 1 :]) for name, leaf in batch.items()
        }

    def _whole(self, leaf: jax.Array) -> jax.Array:
        copies = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(leaf.shape, replicated(self.mesh), copies)

    def _spread(self, wish: Wish) -> jax.Array | np.ndarray:
        """The wish once for each device: those of this process, in an array over all."""
        if self._is_pmap:
            return np.full(len(self.mesh.local_devices), wish, np.int32)
        everywhere = NamedSharding(self.mesh, PartitionSpec(axes.AXES))
        return jax.make_array_from_callback((self.mesh.size,), everywhere, lambda _: np.full(1, wish, np.int32))


def on_mesh(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced with the mesh in force that `axes.constrain` looks for."""

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def _one_step(train_step: TrainStep) -> _Function:
    def one_step(state: TrainState, running: Metrics, batch: Batch, wishes: jax.Array | None) -> Any:
        state, metrics = train_step(state, batch)
        return state, jax.tree.map(jnp.add, running, metrics), (state.skipped, _greatest(wishes))

    return one_step


def _many_steps(train_step: TrainStep) -> _Function:
    one_step = _one_step(train_step)

    def many_steps(state: TrainState, running: Metrics, batches: Batch, wishes: jax.Array | None) -> Any:
        def body(carry: tuple[TrainState, Metrics], batch: Batch) -> tuple[tuple[TrainState, Metrics], jax.Array]:
            state, running, (skipped, _) = one_step(*carry, batch, None)
            return (state, running), skipped

        (state, running), skipped = jax.lax.scan(body, (state, running), batches)
        return state, running, (jnp.max(skipped), _greatest(wishes))

    return many_steps


def _greatest(wishes: jax.Array | None) -> jax.Array | None:
    if wishes is None:
        return None
    greatest, axis = jnp.max(wishes), axes.mapped_axis()
    return greatest if axis is None else jax.lax.pmax(greatest, axis)
