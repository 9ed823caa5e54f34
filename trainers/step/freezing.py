"""Which part of the parameters is trained, and the parameters taken apart and put together along it.

What is frozen gets no gradient and no optimizer state. A parameter of stacked blocks has a path for each of them, such
as "blocks/3/mlp/out/kernel": of one that is frozen in some blocks only, the rows of the others are trained.
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
# Of a parameter along its leading axis; None: it is trained whole.
Rows = tuple[int, ...] | None

_FIELD = "transfer.freeze"


@dataclasses.dataclass(frozen=True)
class Partition:
    """The part of the parameters that is trained: a nested dict with only those of them that have such a part.

    Attributes:
      rows: that nested dict, with the trained rows of each parameter, in order.
      frozen: paths of what is frozen, with the number of the block where blocks are stacked.
    """

    rows: Mapping[Any, Any]
    frozen: frozenset[str]

    def trained(self, params: Tree) -> Tree:
        """The trained part of the parameters, or of a tree like them; all of it, untouched, if nothing is frozen."""
        return self.mapped(_taken, params) if self.frozen else params

    def merged(self, params: Tree, trained: Tree) -> Tree:
        """The parameters with their trained part exchanged for `trained`, which is as `trained()` gives it."""
        return _merged(params, trained, self.rows) if self.frozen else trained

    def mapped(self, function: Callable[[Any, Rows], Any], tree: Tree) -> Tree:
        """The function of each leaf that has a trained part and of its trained rows, in the form of that part."""
        return _mapped(function, tree, self.rows)


def partition(model: Model, params: Tree, patterns: Sequence[str], *, also: Collection[str] = ()) -> Partition:
    """Takes the parameters apart by the patterns of `transfer.freeze`.

    Args:
      model: whose blocks may be stacked.
      params: its parameters, or their shapes.
      patterns: regular expressions; what one of them is found in the path of is frozen.
      also: paths of parameters that are frozen besides, in all blocks.

    Raises:
      UserError: a pattern is found nowhere or is no regular expression, or nothing is left to train.
    """
    in_blocks = {path: block_paths(model, path, leaf) for path, leaf in paths_and_leaves(params)}
    paths = [path for own in in_blocks.values() for path in own]
    compiled = compile_patterns(patterns, paths, _FIELD)
    named = [path for whole in also for path in in_blocks[whole]]
    frozen = frozenset(named) | {path for path in paths if any(pattern.search(path) for pattern in compiled)}
    if len(frozen) == len(paths):
        raise UserError(
            f"{_FIELD}: {tuple(patterns)} are found in all parameters, so that nothing is left to train; leave out the "
            "head at least, as ('^(?!head/)',) does"
        )
    return Partition(_trained_rows(model, params, frozen), frozen)


def block_paths(model: Model, path: str, leaf: Any) -> list[str]:
    """The paths of a parameter, of which one in stacked blocks has several: one for each row along its leading axis."""
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


def _mapped(function: Callable[[Any, Rows], Any], tree: Tree, rows: Mapping[Any, Any]) -> Tree:
    return {
        name: _mapped(function, tree[name], part) if isinstance(part, Mapping) else function(tree[name], part)
        for name, part in rows.items()
    }


def _merged(tree: Tree, trained: Tree, rows: Mapping[Any, Any]) -> Tree:
    merged = dict(tree)
    for name, part in rows.items():
        put = _merged if isinstance(part, Mapping) else _put
        merged[name] = put(tree[name], trained[name], part)
    return merged


def _taken(leaf: jax.Array, rows: Rows) -> jax.Array:
    if rows is None:
        return leaf
    return leaf[rows[0] : rows[-1] + 1] if _are_adjacent(rows) else leaf[np.array(rows)]


def _put(leaf: jax.Array, new: jax.Array, rows: Rows) -> jax.Array:
    if rows is None:
        return new
    # In place, and without the scatter that setting by numbers is.
    if _are_adjacent(rows):
        return jax.lax.dynamic_update_slice_in_dim(leaf, new, rows[0], axis=0)
    return leaf.at[np.array(rows)].set(new, unique_indices=True, indices_are_sorted=True)


def _are_adjacent(rows: tuple[int, ...]) -> bool:
    return rows[-1] - rows[0] + 1 == len(rows)
