"""How fast each parameter is trained, and from when on: less towards the inputs, the head at a rate of its own.

All numbers are traced, so that trainings that differ in them share a program.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.typing import ArrayLike

from models.interface import Model
from trainers.step import schedules
from trainers.step.freezing import Partition, block_paths
from trainers.step.hyperparameters import Hyperparameters
from trainers.step.optimizers import compile_patterns, paths_and_leaves
from trainers.step.schedules import Schedule

Tree = Any
# Of a parameter; of one in stacked blocks (trained blocks, 1, ...), so that each block has its own.
Own = Any


@dataclasses.dataclass(frozen=True, eq=False)
class FineTuning:
    """What `config.transfer` says of learning rates and of the time at which training begins.

    Attributes:
      layers_after: tree like the trained part of the parameters: layers between each one's own and the last.
      in_head: tree like it: whether it is the head's.
      head_schedule: the head's, if it has one of its own.
      turns: tree like it: the number of the first pattern of `transfer.unfreeze` that is found in its path, or the
        number after the last one; empty without patterns.
    """

    layers_after: Tree
    in_head: Tree
    head_schedule: Schedule | None
    turns: Tree

    def learning_rates(
        self,
        rate: ArrayLike,
        hyperparameters: Hyperparameters,
        step: jax.Array,
        schedule: Schedule,
        used: frozenset[str],
    ) -> Tree:
        """The learning rates of a step: a scalar for all, or a tree like the trained part of the parameters.

        With layer decay a rate is that of the last layer times `layer_decay ** layers_after` (Clark et al. 2020,
        "ELECTRA", appendix A.2; Bao et al. 2022, "BEiT", appendix H).

        Args:
          rate: of what has none of its own.
          hyperparameters: traced scalars.
          step: steps taken.
          schedule: of what has none of its own.
          used: names of the hyperparameters that are in the program.
        """
        head_differs = "head_learning_rate" in used or self.head_schedule is not None
        if "layer_decay" not in used and not head_differs:
            return rate
        head, decay = rate, hyperparameters["layer_decay"]
        if head_differs:
            peak = hyperparameters["head_learning_rate"]
            share = (self.head_schedule or schedule)(jnp.asarray(step, jnp.float32), hyperparameters)
            head = jnp.where(peak > 0, peak, hyperparameters["learning_rate"]) * jnp.asarray(share, jnp.float32)

        def own(in_head: bool, layers_after: Own) -> jax.Array:
            of_last = head if in_head else rate
            # 0 is no decay, also in a program that is shared with trainings that have one.
            return of_last * jnp.where(decay > 0, decay**layers_after, 1.0) if "layer_decay" in used else of_last

        return jax.tree.map(own, self.in_head, self.layers_after)

    def held(self, old: Tree, new: Tree, lengths: Hyperparameters, step: jax.Array) -> Tree:
        """The new parameters where their time has come, and where not, the old ones to the bit.

        Args:
          old: trained part of the parameters before a step.
          new: after it.
          lengths: `unfreeze_at` (patterns,), the steps at which the times come.
          step: steps taken before.
        """
        if not self.turns:
            return new
        has_come = jnp.append(jnp.asarray(step, jnp.float32) >= lengths["unfreeze_at"], True)
        return jax.tree.map(lambda turn, a, b: jnp.where(has_come[turn], b, a), self.turns, old, new)


def build(config: ml_collections.ConfigDict, model: Model, params: Tree, partition: Partition) -> FineTuning:
    """What the config says of a model's parameters.

    Args:
      config: the whole config.
      model: which knows its layers.
      params: its parameters, or their shapes.
      partition: their trained part.

    Raises:
      UserError: the head's schedule is unknown, or a pattern of `transfer.unfreeze` is found in nothing trained.
    """
    leaves = paths_and_leaves(params)
    with_paths = jax.tree.unflatten(jax.tree.structure(params), [_Parameter(path, leaf) for path, leaf in leaves])

    def tree(function: Callable[[str], Any], dtype: Any) -> Tree:
        return partition.mapped(lambda leaf, rows: leaf.each(model, function, rows, dtype), with_paths)

    trained = [each for path, leaf in leaves for each in block_paths(model, path, leaf) if each not in partition.frozen]
    patterns = compile_patterns([pattern for pattern, _ in config.transfer.unfreeze], trained, "transfer.unfreeze")

    def turn(path: str) -> int:
        return next((number for number, pattern in enumerate(patterns) if pattern.search(path)), len(patterns))

    last, head_schedule = model.num_layers() - 1, config.transfer.head_schedule
    return FineTuning(
        layers_after=tree(lambda path: last - model.layer(path), np.float32),
        in_head=partition.mapped(lambda leaf, _: leaf.path.startswith("head/"), with_paths),
        head_schedule=schedules.build(config.schedule, head_schedule, "transfer.head_schedule")
        if head_schedule
        else None,
        turns=tree(turn, np.int32) if patterns else {},
    )


@dataclasses.dataclass(frozen=True)
class _Parameter:
    path: str
    leaf: Any

    def each(self, model: Model, function: Callable[[str], Any], rows: Any, dtype: Any) -> Own:
        """The function of its path, or of those of its trained blocks."""
        paths = block_paths(model, self.path, self.leaf)
        if paths == [self.path]:
            return np.asarray(function(self.path), dtype)
        values = [function(paths[row]) for row in rows or range(len(paths))]
        return np.asarray(values, dtype).reshape(-1, *[1] * (len(self.leaf.shape) - 1))
