"""Magnitude pruning: on a schedule, the smallest weights become zero, and stay so for the rest of the training.

Which weights are kept is part of the optimizer's state, so that it is saved, split over devices and stacked in
populations as moments are. Where nothing is pruned there is none of it.
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
# The rank of what is never pruned: above that of any number.
_NEVER = np.uint32(2**_BITS - 1)


class PruningState(NamedTuple):
    """The state of an optimizer that prunes.

    Attributes:
      kept: nested dict of those parameters of which some are pruned; bool, False where a weight is zero for good.
      share: float32 scalar, the share of the schedule up to which weights have been pruned.
      inner: state of the optimizer that makes the updates.
    """

    kept: Tree
    share: jax.Array
    inner: Any


@dataclasses.dataclass(frozen=True)
class Weights:
    """A parameter of which weights are pruned, as far as it is trained.

    Attributes:
      paths: of it; of one in stacked blocks that of each trained block.
      chosen: whether its weights may be pruned, bool (); of one in stacked blocks (trained blocks, 1, ...).
      layer_size: weights in it, or in a block of it.
    """

    paths: tuple[str, ...]
    chosen: np.ndarray
    layer_size: int

    @property
    def size(self) -> int:
        """Weights that may be pruned."""
        return int(self.chosen.sum()) * self.layer_size

    @property
    def within_layer(self) -> tuple[int, ...] | None:
        """The axes along which one layer lies; None: all."""
        return tuple(range(1, self.chosen.ndim)) or None


@dataclasses.dataclass(frozen=True, eq=False)
class Pruning:
    """What is pruned.

    Attributes:
      weights: nested dict, those of the parameters that have trained weights which may be pruned.
      by_layer: each layer has the sparsity, not all of them together.
    """

    weights: Mapping[Any, Any]
    by_layer: bool

    def pruned(
        self, optimizer: optax.GradientTransformation, hyperparameters: Hyperparameters, step: jax.Array
    ) -> optax.GradientTransformation:
        """The optimizer, made to prune after its update, where the schedule asks for it.

        Gradients of pruned weights are taken for zero, so that they count neither in the norm that gradients are
        clipped to nor in later moments; what momentum and weight decay would still move is put back to zero.

        Args:
          optimizer: which makes the updates.
          hyperparameters: with the times of pruning.
          step: steps taken before.
        """

        def init(params: Tree) -> PruningState:
            kept = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), _within(params, self.weights))
            return PruningState(kept, jnp.float32(0), optimizer.init(params))

        def update(gradient: Tree, state: PruningState, params: Tree) -> tuple[Tree, PruningState]:
            updates, inner = optimizer.update(_zeroed(gradient, state.kept), state.inner, params)
            moved = jax.tree.map(jnp.add, _within(params, self.weights), _within(updates, self.weights))
            # More than before also where updates that were skipped have made a time of the schedule pass.
            share = jnp.maximum(state.share, pruning_schedule.share(step + 1, hyperparameters))
            is_due = share > state.share
            kept = jax.lax.cond(
                is_due,
                lambda: self._kept(moved, state.kept, share, is_due, hyperparameters),
                lambda: state.kept,
            )
            return _cancelled(updates, params, kept), PruningState(kept, share, inner)

        return optax.GradientTransformation(init, update)

    def zeroed(self, tree: Tree, state: PruningState) -> Tree:
        """A tree like the trained part of the parameters, with zeros where weights are pruned."""
        return _zeroed(tree, state.kept)

    def is_over(self, state: PruningState) -> np.ndarray:
        """Whether the final sparsity is reached; bool (), of stacked states one for each. Waits for the state."""
        return np.asarray(jax.device_get(state.share) >= 1)

    def zeros(self, trained: Tree) -> Tree:
        """How many of the weights that may be pruned are zero, by parameter: uint32, as `Weights.chosen` is shaped.

        Args:
          trained: trained part of the parameters.
        """

        def of_layers(weights: Weights, leaf: jax.Array) -> jax.Array:
            return _count(leaf == 0, weights.within_layer) * weights.chosen.astype(np.uint32)

        return jax.tree.map(of_layers, self.weights, _within(trained, self.weights))

    def reached(self, zeros: Tree) -> dict[str, Any]:
        """What `zeros` found, for a summary: `weights`, `zeros` and `sparsity` of all, and `layers`, that of each."""
        layers: dict[str, float] = {}
        for weights, found in zip(self._leaves(), jax.tree.leaves(zeros), strict=True):
            pairs = zip(weights.paths, weights.chosen.ravel(), np.ravel(found), strict=True)
            layers |= {path: int(n) / weights.layer_size for path, is_chosen, n in pairs if is_chosen}
        size = sum(weights.size for weights in self._leaves())
        total = sum(int(np.sum(found)) for found in jax.tree.leaves(zeros))
        return {"weights": size, "zeros": total, "sparsity": total / size, "layers": layers}

    def _kept(
        self, moved: Tree, kept: Tree, share: jax.Array, is_due: jax.Array, hyperparameters: Hyperparameters
    ) -> Tree:
        """Which weights are kept from here on, of those that were; anything, unless it is due."""
        ranks = jax.tree.leaves(jax.tree.map(_rank, self.weights, moved, kept))
        # Lest XLA compute them anew for another use, with other last bits: then counts would not be exact.
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
    """What the config says of pruning a model's parameters; None, if it says that nothing is pruned.

    Args:
      config: the whole config.
      model: whose blocks may be stacked.
      params: its parameters, or their shapes.
      partition: their trained part; only that is pruned.

    Raises:
      UserError: a pattern is found in nothing trained, there is none, or there are too many weights.
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
        _without_none(partition.mapped(lambda leaf, rows: chosen(leaf.pair, rows), pairs)),
        by_layer=config.prune.scope == "layer",
    )
    sizes = [weights.size for weights in jax.tree.leaves(pruning.weights)]
    if not sizes:
        raise UserError(f"{_FIELD}: no pattern is given; name what is pruned, as ('(^|/)kernel$',) does")
    together = max(sizes) if pruning.by_layer else sum(sizes)
    if together > pruning_schedule.MOST_WEIGHTS:
        raise UserError(
            f"prune.scope: {together:,} weights are too many to be pruned together; at most "
            f"{pruning_schedule.MOST_WEIGHTS:,} are: take 'layer', or fewer in {_FIELD}"
        )
    return pruning


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """What JAX's trees would take apart."""

    pair: tuple[str, Any]


def _rank(weights: Weights, leaf: jax.Array, kept: jax.Array) -> jax.Array:
    """Numbers in the order in which weights are pruned, uint32: first those that are, then by magnitude."""
    # The bits of numbers that are not negative are in the order of the numbers.
    magnitude = jax.lax.bitcast_convert_type(jnp.abs(leaf), jnp.uint32) + 1
    return jnp.where(weights.chosen, jnp.where(kept, magnitude, 0), _NEVER)


def _smallest(
    ranks: Sequence[jax.Array], count: jax.Array, axes: tuple[int, ...] | None, is_due: jax.Array
) -> list[jax.Array]:
    """Where the `count` lowest ranks are, of equal ones the first; anything, unless it is due.

    By bisection: no sort, which is slow, and would gather arrays that are split over devices. Each turn is a count.
    Stacked trainings take both sides of a branch at every step: there, loops without turns spare the work.

    Args:
      ranks: of one parameter or several, uint32.
      count: how many, uint32; as the sums over `axes` are shaped.
      axes: along which ranks are compared; None: all, and over all of `ranks`.
      is_due: bool.
    """

    def below(arrays: Sequence[jax.Array], bound: jax.Array) -> jax.Array:
        return sum(_count(array < bound, axes) for array in arrays)

    def bound(arrays: Sequence[jax.Array], count: jax.Array) -> jax.Array:
        """The highest number that no more than `count` are below, found bit by bit."""

        def add(turn: jax.Array, found: jax.Array) -> jax.Array:
            more = found | jnp.uint32(1) << (_BITS - 1 - turn).astype(jnp.uint32)
            return jnp.where(below(arrays, more) <= count, more, found)

        return jax.lax.fori_loop(0, jnp.where(is_due, _BITS, 0), add, jnp.zeros_like(count))

    limit = bound(ranks, count)
    # Of those at the limit, the ones that come first; all others come last of all.
    places = [jnp.where(r == limit, place, _NEVER) for r, place in zip(ranks, _places(ranks, axes), strict=True)]
    last = bound(places, count - below(ranks, limit))
    return [(rank < limit) | (place < last) for rank, place in zip(ranks, places, strict=True)]


def _places(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> list[jax.Array]:
    """The place of each number among those along the axes, over all arrays: uint32."""
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
    """Those leaves of a nested dict that another one has too."""
    return {
        name: _within(tree[name], inner) if isinstance(inner, Mapping) else tree[name] for name, inner in part.items()
    }


def _zeroed(tree: Tree, kept: Mapping[Any, Any]) -> Tree:
    """The nested dict with zeros where something is not kept."""
    changed = {
        name: _zeroed(tree[name], part) if isinstance(part, Mapping) else jnp.where(part, tree[name], 0.0)
        for name, part in kept.items()
    }
    return {**tree, **changed}


def _cancelled(updates: Tree, params: Tree, kept: Mapping[Any, Any]) -> Tree:
    """The updates, but those to zero where something is not kept."""

    def own(name: Any, part: Any) -> Any:
        if isinstance(part, Mapping):
            return _cancelled(updates[name], params[name], part)
        return jnp.where(part, updates[name], -params[name])

    return {**updates, **{name: own(name, part) for name, part in kept.items()}}


def _without_none(tree: Mapping[Any, Any]) -> dict[Any, Any]:
    """The nested dict without leaves that are None, and without dicts that are left empty."""
    parts = {name: _without_none(part) if isinstance(part, Mapping) else part for name, part in tree.items()}
    return {name: part for name, part in parts.items() if part is not None and part != {}}
