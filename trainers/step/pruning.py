"""Magnitude pruning: on a schedule, the smallest weights become zero and stay zero for the rest of the training.

The mask of kept weights is part of the optimizer state, so it is saved, sharded and stacked in populations in the same
way as moments. Without pruning there is no such state.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from models.interface import Model
from plumbline import UserError
from trainers.step import pruning_schedule
from trainers.step.freezing import Partition, Rows, block_paths
from trainers.step.hyperparameters import Hyperparameters
from trainers.step.optimizers import compile_patterns, paths_and_leaves

Tree = Any

_FIELD = "prune.parameters"
_BITS = 32
# The rank of weights that are never pruned: above that of any number.
_NEVER = np.uint32(2**_BITS - 1)


class PruningState(NamedTuple):
    """The state of an optimizer that prunes.

    Attributes:
      kept: nested dict of the parameters that are pruned; bool, False where a weight is zero for good.
      share: float32 scalar, the share of the schedule up to which weights are pruned.
      inner: state of the wrapped optimizer.
    """

    kept: Tree
    share: jax.Array
    inner: Any


@dataclasses.dataclass(frozen=True)
class Weights:
    """The trained weights of a parameter that is pruned.

    Attributes:
      paths: path of the parameter; in stacked blocks one for each trained block.
      chosen: whether its weights may be pruned, bool (); in stacked blocks (trained blocks, 1, ...).
      layer_size: number of weights in the parameter, or in one of its blocks.
    """

    paths: tuple[str, ...]
    chosen: np.ndarray
    layer_size: int

    @property
    def size(self) -> int:
        """The number of weights that may be pruned."""
        return int(self.chosen.sum()) * self.layer_size

    @property
    def within_layer(self) -> tuple[int, ...] | None:
        """The axes of one layer; None: all."""
        return tuple(range(1, self.chosen.ndim)) or None


@dataclasses.dataclass(frozen=True, eq=False)
class Pruning:
    """The weights to prune.

    Attributes:
      weights: nested dict of the parameters with trained weights that may be pruned.
      by_layer: the sparsity holds for each layer, not for all together.
    """

    weights: Mapping[Any, Any]
    by_layer: bool

    def wrap(
        self, optimizer: optax.GradientTransformation, hyperparameters: Hyperparameters, step: jax.Array
    ) -> optax.GradientTransformation:
        """Wraps an optimizer so that it prunes after its update when the schedule says so.

        Gradients of pruned weights are set to zero, so they count neither in the norm for clipping nor in later
        moments. Weights that momentum and weight decay would still move are set back to zero.

        Args:
          optimizer: makes the updates.
          hyperparameters: with the times of pruning.
          step: number of steps taken before this one.
        """

        def init(params: Tree) -> PruningState:
            kept = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), _within(params, self.weights))
            return PruningState(kept, jnp.float32(0), optimizer.init(params))

        def update(gradient: Tree, state: PruningState, params: Tree) -> tuple[Tree, PruningState]:
            updates, inner = optimizer.update(_mask(gradient, state.kept), state.inner, params)
            moved = jax.tree.map(jnp.add, _within(params, self.weights), _within(updates, self.weights))
            # Greater than before also if the time of a pruning passed while updates were skipped.
            share = jnp.maximum(state.share, pruning_schedule.share(step + 1, hyperparameters))
            is_due = share > state.share
            kept = jax.lax.cond(
                is_due,
                lambda: self._new_kept(moved, state.kept, share, is_due, hyperparameters),
                lambda: state.kept,
            )
            return _move_to_zero(updates, params, kept), PruningState(kept, share, inner)

        return optax.GradientTransformation(init, update)

    def mask(self, tree: Tree, state: PruningState) -> Tree:
        """A tree like the trained part of the parameters, with zeros where weights are pruned."""
        return _mask(tree, state.kept)

    def is_over(self, state: PruningState) -> np.ndarray:
        """Whether the final sparsity is reached; bool (), or one for each of stacked states. Waits for the state."""
        return np.asarray(jax.device_get(state.share) >= 1)

    def count_zeros(self, trained: Tree) -> Tree:
        """The number of zero weights of each parameter that may be pruned: uint32, with the shape of `Weights.chosen`.

        Args:
          trained: trained part of the parameters.
        """

        def count_layers(weights: Weights, leaf: jax.Array) -> jax.Array:
            return _count(leaf == 0, weights.within_layer) * weights.chosen.astype(np.uint32)

        return jax.tree.map(count_layers, self.weights, _within(trained, self.weights))

    def summarize(self, zeros: Tree) -> dict[str, Any]:
        """Summarises the counts of `count_zeros`: `weights`, `zeros` and `sparsity` in all, and that of each layer."""
        layers: dict[str, float] = {}
        for weights, found in zip(self._leaves(), jax.tree.leaves(zeros), strict=True):
            pairs = zip(weights.paths, weights.chosen.ravel(), np.ravel(found), strict=True)
            layers |= {path: int(n) / weights.layer_size for path, is_chosen, n in pairs if is_chosen}
        size = sum(weights.size for weights in self._leaves())
        total = sum(int(np.sum(found)) for found in jax.tree.leaves(zeros))
        return {"weights": size, "zeros": total, "sparsity": total / size, "layers": layers}

    def _new_kept(
        self, moved: Tree, kept: Tree, share: jax.Array, is_due: jax.Array, hyperparameters: Hyperparameters
    ) -> Tree:
        """The new mask of kept weights; arbitrary values unless a pruning is due."""
        ranks = jax.tree.leaves(jax.tree.map(_rank, self.weights, moved, kept))
        # Otherwise XLA may compute them twice with different last bits, and counts would not be exact.
        ranks = jax.lax.optimization_barrier(ranks)

        def count(size: int) -> jax.Array:
            return pruning_schedule.count(share, pruning_schedule.final_count(hyperparameters, size))

        if self.by_layer:
            smallest = [
                _smallest([rank], count(each.layer_size) * each.chosen.astype(np.uint32), each.within_layer, is_due)[0]
                for each, rank in zip(self._leaves(), ranks, strict=True)
            ]
        else:
            smallest = _smallest(ranks, count(sum(each.size for each in self._leaves())), None, is_due)
        smallest = jax.tree.unflatten(jax.tree.structure(kept), smallest)
        return jax.tree.map(jnp.logical_not, smallest)

    def _leaves(self) -> list[Weights]:
        return jax.tree.leaves(self.weights)


def build(config: ml_collections.ConfigDict, model: Model, params: Tree, partition: Partition) -> Pruning | None:
    """Builds the pruning of a model's parameters; None without pruning.

    Args:
      config: the whole config.
      model: whose blocks may be stacked.
      params: its parameters, or their shapes.
      partition: their trained part; only that is pruned.

    Raises:
      UserError: a pattern matches no trained parameter, there is no pattern, or there are too many weights.
    """
    if config.prune.sparsity == 0:
        return None
    leaves = paths_and_leaves(params)
    trained = [each for path, leaf in leaves for each in block_paths(model, path, leaf) if each not in partition.frozen]
    patterns = compile_patterns(config.prune.parameters, trained, _FIELD)

    def chosen(parameter: tuple[str, Any], rows: Rows) -> Weights | None:
        path, leaf = parameter
        paths = block_paths(model, path, leaf)
        is_stacked = paths != [path]
        own = tuple(paths[row] for row in rows or range(len(paths)))
        matches = np.array([any(pattern.search(path) for pattern in patterns) for path in own])
        if not matches.any():
            return None
        shape = (-1, *[1] * (len(leaf.shape) - 1)) if is_stacked else ()
        return Weights(own, matches.reshape(shape), math.prod(leaf.shape[1:] if is_stacked else leaf.shape))

    pairs = jax.tree.unflatten(jax.tree.structure(params), [_Leaf(pair) for pair in leaves])
    pruning = Pruning(
        _without_none(partition.map(lambda leaf, rows: chosen(leaf.pair, rows), pairs)),
        by_layer=config.prune.scope == "layer",
    )
    sizes = [weights.size for weights in jax.tree.leaves(pruning.weights)]
    if not sizes:
        raise UserError(f"{_FIELD}: no pattern is given; name the parameters to prune, such as ('(^|/)kernel$',)")
    together = max(sizes) if pruning.by_layer else sum(sizes)
    if together > pruning_schedule.MOST_WEIGHTS:
        raise UserError(
            f"prune.scope: {together:,} weights cannot be pruned together, the limit is "
            f"{pruning_schedule.MOST_WEIGHTS:,}; choose 'layer', or fewer parameters in {_FIELD}"
        )
    return pruning


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A pair that JAX's tree functions treat as a leaf."""

    pair: tuple[str, Any]


def _rank(weights: Weights, leaf: jax.Array, kept: jax.Array) -> jax.Array:
    """Ranks in the order of pruning, uint32: first the weights that are already pruned, then by magnitude."""
    # The bits of non-negative floats, read as integers, have the order of the floats.
    magnitude = jax.lax.bitcast_convert_type(jnp.abs(leaf), jnp.uint32) + 1
    return jnp.where(weights.chosen, jnp.where(kept, magnitude, 0), _NEVER)


def _smallest(
    ranks: Sequence[jax.Array], count: jax.Array, axes: tuple[int, ...] | None, is_due: jax.Array
) -> list[jax.Array]:
    """Masks of the `count` lowest ranks, the first of equal ones; arbitrary values unless a pruning is due.

    Uses bisection, as a sort is slow and would gather arrays that are split over devices. Each iteration is a count.
    Stacked trainings run both sides of a branch at every step; there, loops of no iterations save the work.

    Args:
      ranks: of one parameter or several, uint32.
      count: number of ranks to find, uint32, with the shape of sums over `axes`.
      axes: axes along which ranks are compared; None: all of them, and across all arrays.
      is_due: bool scalar, whether a pruning is due.
    """

    def below(arrays: Sequence[jax.Array], bound: jax.Array) -> jax.Array:
        return sum(_count(array < bound, axes) for array in arrays)

    def bound(arrays: Sequence[jax.Array], count: jax.Array) -> jax.Array:
        """The highest number with at most `count` entries below it, found bit by bit."""

        def add_bit(bit: jax.Array, found: jax.Array) -> jax.Array:
            more = found | jnp.uint32(1) << (_BITS - 1 - bit).astype(jnp.uint32)
            return jnp.where(below(arrays, more) <= count, more, found)

        return jax.lax.fori_loop(0, jnp.where(is_due, _BITS, 0), add_bit, jnp.zeros_like(count))

    limit = bound(ranks, count)
    # Ties at the limit are broken by place; all other entries come last.
    places = [jnp.where(r == limit, place, _NEVER) for r, place in zip(ranks, _places(ranks, axes), strict=True)]
    last = bound(places, count - below(ranks, limit))
    return [(rank < limit) | (place < last) for rank, place in zip(ranks, places, strict=True)]


def _places(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> list[jax.Array]:
    """The index of each entry along the axes, counted across all arrays: uint32."""
    places, offset = [], 0
    for array in arrays:
        place, stride = jnp.full(array.shape, offset, jnp.uint32), 1
        for axis in reversed(range(array.ndim) if axes is None else axes):
            place += stride * jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
            stride *= array.shape[axis]
        places.append(place)
        offset += stride
    return places


def _count(mask: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    return jnp.sum(mask, axis=axes, keepdims=axes is not None, dtype=jnp.uint32)


def _within(tree: Tree, part: Mapping[Any, Any]) -> Tree:
    """The leaves of a nested dict that another nested dict has too."""
    return {
        name: _within(tree[name], inner) if isinstance(inner, Mapping) else tree[name] for name, inner in part.items()
    }


def _mask(tree: Tree, kept: Mapping[Any, Any]) -> Tree:
    """The nested dict with zeros where weights are not kept."""
    changed = {
        name: _mask(tree[name], part) if isinstance(part, Mapping) else jnp.where(part, tree[name], 0.0)
        for name, part in kept.items()
    }
    return {**tree, **changed}


def _move_to_zero(updates: Tree, params: Tree, kept: Mapping[Any, Any]) -> Tree:
    """The updates, replaced by updates to zero where weights are not kept."""

    def change(name: Any, part: Any) -> Any:
        if isinstance(part, Mapping):
            return _move_to_zero(updates[name], params[name], part)
        return jnp.where(part, updates[name], -params[name])

    return {**updates, **{name: change(name, part) for name, part in kept.items()}}


def _without_none(tree: Mapping[Any, Any]) -> dict[Any, Any]:
    """The nested dict without leaves that are None and without empty dicts."""
    parts = {name: _without_none(part) if isinstance(part, Mapping) else part for name, part in tree.items()}
    return {name: part for name, part in parts.items() if part is not None and part != {}}
