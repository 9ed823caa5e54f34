"""The trained part of the parameters: how to select it and how to merge it back.

Frozen parameters have no gradient and no optimizer state. A parameter of stacked blocks has one path per block, such as
"blocks/3/mlp/out/kernel". If it is frozen in some blocks only, its rows of the other blocks are trained.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from models.interface import Model
from plumbline import UserError
from trainers.step.optimizers import compile_patterns, paths_and_leaves

Tree = Any
# Trained rows of a parameter along its leading axis; None: all of it is trained.
Rows = tuple[int, ...] | None

_FIELD = "transfer.freeze"


@dataclasses.dataclass(frozen=True)
class Partition:
    """The trained part of the parameters: a nested dict of those parameters that are trained, at least in part.

    Attributes:
      rows: nested dict with the trained rows of each of these parameters, in order.
      frozen: paths of the frozen parameters, with the number of the block where blocks are stacked.
    """

    rows: Mapping[Any, Any]
    frozen: frozenset[str]

    def select(self, params: Tree) -> Tree:
        """The trained part of the parameters, or of a tree like them; the tree itself if nothing is frozen."""
        return self.map(_select_rows, params) if self.frozen else params

    def merge(self, params: Tree, trained: Tree) -> Tree:
        """The parameters with their trained part replaced by `trained`, a tree as `select` returns it."""
        return _merge(params, trained, self.rows) if self.frozen else trained

    def map(self, function: Callable[[Any, Rows], Any], tree: Tree) -> Tree:
        """Applies a function to each leaf with a trained part and its trained rows; returns a tree like that part."""
        return _map(function, tree, self.rows)


def partition(model: Model, params: Tree, patterns: Sequence[str], *, also: Collection[str] = ()) -> Partition:
    """Partitions the parameters by the patterns of `transfer.freeze`.

    Args:
      model: whose blocks may be stacked.
      params: its parameters, or their shapes.
      patterns: regular expressions; parameters with a path that matches one of them are frozen.
      also: paths of more parameters to freeze, in all blocks.

    Raises:
      UserError: a pattern matches no parameter or is not a regular expression, or nothing is left to train.
    """
    in_blocks = {path: block_paths(model, path, leaf) for path, leaf in paths_and_leaves(params)}
    paths = [path for own in in_blocks.values() for path in own]
    compiled = compile_patterns(patterns, paths, _FIELD)
    named = [path for whole in also for path in in_blocks[whole]]
    frozen = frozenset(named) | {path for path in paths if any(pattern.search(path) for pattern in compiled)}
    if len(frozen) == len(paths):
        raise UserError(
            f"{_FIELD}: {tuple(patterns)} are found in all parameters, so nothing is left to train; train at least "
            "the head, as with ('^(?!head/)',)"
        )
    return Partition(_trained_rows(model, params, frozen), frozen)


def block_paths(model: Model, path: str, leaf: Any) -> list[str]:
    """The paths of a parameter: one, or in stacked blocks one for each row along its leading axis."""
    for name in model.stacked:
        if path.startswith(f"{name}/"):
            rest = path.removeprefix(f"{name}/")
            return [f"{name}/{block}/{rest}" for block in range(leaf.shape[0])]
    return [path]


def _trained_rows(model: Model, params: Tree, frozen: frozenset[str], prefix: str = "") -> dict[Any, Any]:
    rows: dict[Any, Any] = {}
    for name, part in params.items():
        path = f"{prefix}{name}"
        if isinstance(part, Mapping):
            inner = _trained_rows(model, part, frozen, f"{path}/")
            rows |= {name: inner} if inner else {}
        else:
            trained = [each not in frozen for each in block_paths(model, path, part)]
            some = {name: None if all(trained) else tuple(np.flatnonzero(trained).tolist())}
            rows |= some if any(trained) else {}
    return rows


def _map(function: Callable[[Any, Rows], Any], tree: Tree, rows: Mapping[Any, Any]) -> Tree:
    return {
        name: _map(function, tree[name], part) if isinstance(part, Mapping) else function(tree[name], part)
        for name, part in rows.items()
    }


def _merge(tree: Tree, trained: Tree, rows: Mapping[Any, Any]) -> Tree:
    merged = dict(tree)
    for name, part in rows.items():
        put = _merge if isinstance(part, Mapping) else _put_rows
        merged[name] = put(tree[name], trained[name], part)
    return merged


def _select_rows(leaf: jax.Array, rows: Rows) -> jax.Array:
    if rows is None:
        return leaf
    return leaf[rows[0] : rows[-1] + 1] if _are_adjacent(rows) else leaf[np.array(rows)]


def _put_rows(leaf: jax.Array, new: jax.Array, rows: Rows) -> jax.Array:
    if rows is None:
        return new
    # An update in place is cheaper than the scatter of an indexed update.
    if _are_adjacent(rows):
        return jax.lax.dynamic_update_slice_in_dim(leaf, new, rows[0], axis=0)
    return leaf.at[np.array(rows)].set(new, unique_indices=True, indices_are_sorted=True)


def _are_adjacent(rows: tuple[int, ...]) -> bool:
    return rows[-1] - rows[0] + 1 == len(rows)
