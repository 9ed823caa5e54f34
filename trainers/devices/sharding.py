"""The sharding of a train state over a mesh: which parameter is split along which axis.

The first of the config's `parallel.rules` that matches the path of a parameter applies. Otherwise the rules of the
model say what the `tensor` axis splits, and the `fsdp` axis splits the largest remaining dimension that it divides,
unless the parameter is small (ZeRO stage 3; Rajbhandari et al. 2020, section 5). Optimizer state and moving average are
sharded like their parameters.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from plumbline import UserError, unknown_name
from plumbline.axes import AXES, FSDP, TENSOR
from trainers.devices.mesh import replicated
from trainers.step.optimizers import compile_patterns, paths_and_leaves
from trainers.step.state import Program, TrainState

Tree = Any
Entry = str | tuple[str, ...] | None
# A dimension that is never split: that of stacked blocks, which a loop runs over.
_LAYERS = "layers"
_FIELD = "parallel.rules"


def state_shardings(program: Program, mesh: Mesh, state: TrainState) -> TrainState:
    """The sharding of every leaf of a train state.

    Args:
      program: whose config holds the rules.
      mesh: devices.
      state: the state, or shapes in its form.

    Raises:
      UserError: a rule is wrong or matches no parameter, or an axis does not divide the dimension that it splits.
    """
    specs = parameter_specs(program, mesh, state.params)

    def shardings(tree: Tree) -> Tree:
        chosen = [
            NamedSharding(mesh, _spec_of(path, leaf, specs, program, mesh)) for path, leaf in paths_and_leaves(tree)
        ]
        return jax.tree.unflatten(jax.tree.structure(tree), chosen)

    whole = jax.tree.map(lambda _: replicated(mesh), state)
    return dataclasses.replace(
        whole, params=shardings(state.params), ema=shardings(state.ema), opt_state=shardings(state.opt_state)
    )


def abstract(tree: Tree, shardings: Tree) -> Tree:
    """The tree with shapes, types and shardings in place of arrays: what a restore needs.

    Args:
      tree: of arrays, or of their shapes and types.
      shardings: one for all, or a tree of them of which `tree` is an extension.
    """
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        jax.tree.broadcast(shardings, tree),
    )


def parameter_specs(program: Program, mesh: Mesh, params: Tree) -> dict[str, PartitionSpec]:
    """How each parameter is split, by its path; raises as `state_shardings` does."""
    rules = program.config.parallel.rules
    leaves = paths_and_leaves(params)
    own = compile_patterns([pattern for pattern, _ in rules], [path for path, _ in leaves], _FIELD)
    _check_tensor(program, mesh, [entries for _, entries in rules])
    specs = {}
    for path, leaf in leaves:
        rule = next((entries for pattern, (_, entries) in zip(own, rules, strict=True) if pattern.search(path)), None)
        if rule is not None:
            specs[path] = _explicit_spec(rule, path, leaf, mesh)
        else:
            specs[path] = _automatic_spec(_model_rule(program, path), leaf, mesh, program.config.parallel.fsdp_min_size)
            if not _is_divisible(specs[path], leaf.shape, mesh):
                raise UserError(
                    f"mesh.tensor: {mesh.shape[TENSOR]} does not divide '{path}' of shape {leaf.shape}; choose a "
                    f"number that does, or write {_FIELD}"
                )
    return specs


@dataclasses.dataclass(frozen=True)
class Placement:
    """An array of a state on a mesh: path, shape, sharding, and bytes in total and on each device."""

    path: str
    shape: tuple[int, ...]
    spec: PartitionSpec
    total_bytes: int
    device_bytes: int


def placements(tree: Tree, shardings: Tree) -> list[Placement]:
    """The placement of each array of a tree.

    Args:
      tree: of arrays or their shapes.
      shardings: a `NamedSharding` for each.
    """
    leaves = zip(paths_and_leaves(tree), jax.tree.leaves(shardings), strict=True)
    return [_place(path, leaf, sharding) for (path, leaf), sharding in leaves]


def table(mesh: Mesh, state: TrainState, shardings: TrainState) -> str:
    """A table of parameter, shape, sharding and bytes per device, with sums for parameters and optimizer state."""
    parameters = placements(state.params, shardings.params)
    optimizer = placements(state.opt_state, shardings.opt_state)
    rows = [(p.path, "x".join(map(str, p.shape)) or "-", _text(p.spec), f"{p.device_bytes:,}") for p in parameters]
    heads = ("parameter", "shape", "split over", "bytes a device")
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [heads, *rows]
    ]
    sums = [
        f"{name}: {sum(p.device_bytes for p in group):,} of {sum(p.total_bytes for p in group):,} bytes a device"
        for name, group in (("parameters", parameters), ("optimizer", optimizer))
    ]
    mesh_text = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    return "\n".join([f"mesh: {mesh_text}", *lines, *sums]) + "\n"


def _spec_of(path: str, leaf: Any, specs: dict[str, PartitionSpec], program: Program, mesh: Mesh) -> PartitionSpec:
    """The spec of the parameter that the path ends with, if the leaf has its shape; else an automatic one."""
    parts = path.split("/")
    for start in range(len(parts)):
        spec = specs.get("/".join(parts[start:]))
        if spec is not None and len(spec) == leaf.ndim and _is_divisible(spec, leaf.shape, mesh):
            return spec
    # Leaves of other shapes: counts, and the rows and columns of factored moments.
    return _automatic_spec((), leaf, mesh, program.config.parallel.fsdp_min_size)


def _model_rule(program: Program, path: str) -> tuple[Entry, ...]:
    return next((entries for pattern, entries in program.partition_rules if re.search(pattern, path)), ())


def _automatic_spec(entries: Sequence[Entry], leaf: Any, mesh: Mesh, min_size: int) -> PartitionSpec:
    entries = [*entries, *[None] * (leaf.ndim - len(entries))]
    free = [dim for dim in range(leaf.ndim) if entries[dim] is None and leaf.shape[dim] % mesh.shape[FSDP] == 0]
    chosen = [TENSOR if entry == TENSOR and mesh.shape[TENSOR] > 1 else None for entry in entries]
    layers = math.prod(dim for dim, entry in zip(leaf.shape, entries, strict=True) if entry == _LAYERS)
    if free and mesh.shape[FSDP] > 1 and leaf.size >= min_size * layers:
        chosen[max(free, key=lambda dim: leaf.shape[dim])] = FSDP
    return PartitionSpec(*chosen)


def _explicit_spec(entries: Sequence[Entry], path: str, leaf: Any, mesh: Mesh) -> PartitionSpec:
    for axis in _axes(entries):
        if axis not in AXES:
            raise unknown_name(_FIELD, axis, AXES)
    if len(entries) > leaf.ndim or len(set(_axes(entries))) < len(list(_axes(entries))):
        raise UserError(
            f"{_FIELD}: {tuple(entries)} does not fit '{path}' of shape {leaf.shape}; "
            "give one entry a dimension, and each axis once"
        )
    spec = PartitionSpec(*entries, *[None] * (leaf.ndim - len(entries)))
    if not _is_divisible(spec, leaf.shape, mesh):
        raise UserError(f"{_FIELD}: {tuple(entries)} does not divide '{path}' of shape {leaf.shape} evenly")
    return spec


def _check_tensor(program: Program, mesh: Mesh, config_rules: Sequence[Sequence[Entry]]) -> None:
    size = mesh.shape[TENSOR]
    if size == 1:
        return
    model = program.config.model.name
    rules = [*config_rules, *(entries for _, entries in program.partition_rules)]
    if not any(TENSOR in _axes(entries) for entries in rules):
        raise UserError(f"mesh.tensor: no parameter of '{model}' is split over it; make it 1, or write {_FIELD}")
    for field, units in program.tensor_units.items():
        if units % size:
            raise UserError(f"mesh.tensor: {size} does not divide {field} ({units}); choose a number that does")


def _is_divisible(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> bool:
    return all(
        dim % math.prod(mesh.shape[axis] for axis in _axes([entry])) == 0
        for dim, entry in zip(shape, spec, strict=True)
    )


def _axes(entries: Iterable[Entry]) -> list[str]:
    """The mesh axes that entries name; "layers" is not one."""
    named = [(entry,) if isinstance(entry, str) else entry or () for entry in entries]
    return [axis for axes in named for axis in axes if axis != _LAYERS]


def _place(path: str, leaf: Any, sharding: NamedSharding) -> Placement:
    itemsize = 8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.dtype(leaf.dtype).itemsize
    device_bytes = math.prod(sharding.shard_shape(leaf.shape)) * itemsize
    return Placement(path, tuple(leaf.shape), sharding.spec, math.prod(leaf.shape) * itemsize, device_bytes)


def _text(spec: PartitionSpec) -> str:
    entries = ["+".join(_axes([entry])) or "-" for entry in spec]
    return ", ".join(entries) if any(entry != "-" for entry in entries) else "whole"
