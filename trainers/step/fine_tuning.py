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
# A value for a parameter; for stacked blocks an array (trained blocks, 1, ...) with one value per block.
PerLayer = Any


@dataclasses.dataclass(frozen=True, eq=False)
class FineTuning:
    """Learning rates and unfreezing by layer, as `config.transfer` sets them.

    Attributes:
      layers_after: tree like the trained part of the parameters: number of layers between its layer and the last one.
      in_head: tree like it: whether the parameter belongs to the head.
      head_schedule: schedule of the head; None: the one of the other parameters.
      unfreeze_index: tree like it: index of the first pattern of `transfer.unfreeze` that matches its path, or the
        number of patterns if none does; empty without patterns.
    """

    layers_after: Tree
    in_head: Tree
    head_schedule: Schedule | None
    unfreeze_index: Tree

    def learning_rates(
        self,
        rate: ArrayLike,
        hyperparameters: Hyperparameters,
        step: jax.Array,
        schedule: Schedule,
        used: frozenset[str],
    ) -> Tree:
        """The learning rates of a step: one scalar, or a tree like the trained part of the parameters.

        With layer-wise decay a rate is that of the last layer times `layer_decay ** layers_after` (Clark et al. 2020,
        "ELECTRA", appendix A.2; Bao et al. 2022, "BEiT", appendix H).

        Args:
          rate: learning rate of parameters without one of their own.
          hyperparameters: traced scalars.
          step: number of steps taken.
          schedule: schedule of the head if it has none of its own.
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

        def layer_rate(in_head: bool, layers_after: PerLayer) -> jax.Array:
            last = head if in_head else rate
            # 0 means no decay, also in a program that other trainings use with decay.
            return last * jnp.where(decay > 0, decay**layers_after, 1.0) if "layer_decay" in used else last

        return jax.tree.map(layer_rate, self.in_head, self.layers_after)

    def hold_frozen(self, old: Tree, new: Tree, lengths: Hyperparameters, step: jax.Array) -> Tree:
        """The new parameters where they are unfrozen, elsewhere the old ones, unchanged to the bit.

        Args:
          old: trained part of the parameters before a step.
          new: after it.
          lengths: with `unfreeze_at` (patterns,), the step at which the parameters of each pattern are unfrozen.
          step: number of steps taken before this one.
        """
        if not self.unfreeze_index:
            return new
        is_unfrozen = jnp.append(jnp.asarray(step, jnp.float32) >= lengths["unfreeze_at"], True)
        return jax.tree.map(lambda index, a, b: jnp.where(is_unfrozen[index], b, a), self.unfreeze_index, old, new)


def build(config: ml_collections.ConfigDict, model: Model, params: Tree, partition: Partition) -> FineTuning:
    """Builds the fine-tuning of a model's parameters.

    Args:
      config: the whole config.
      model: the model.
      params: its parameters, or their shapes.
      partition: their trained part.

    Raises:
      UserError: the schedule of the head is unknown, or a pattern of `transfer.unfreeze` matches no trained parameter.
    """
    leaves = paths_and_leaves(params)
    with_paths = jax.tree.unflatten(jax.tree.structure(params), [_Parameter(path, leaf) for path, leaf in leaves])

    def tree(function: Callable[[str], Any], dtype: Any) -> Tree:
        return partition.map(lambda leaf, rows: leaf.each(model, function, rows, dtype), with_paths)

    trained = [each for path, leaf in leaves for each in block_paths(model, path, leaf) if each not in partition.frozen]
    patterns = compile_patterns([pattern for pattern, _ in config.transfer.unfreeze], trained, "transfer.unfreeze")

    def unfreeze_index(path: str) -> int:
        return next((number for number, pattern in enumerate(patterns) if pattern.search(path)), len(patterns))

    last, head_schedule = model.num_layers() - 1, config.transfer.head_schedule
    return FineTuning(
        layers_after=tree(lambda path: last - model.layer(path), np.float32),
        in_head=partition.map(lambda leaf, _: leaf.path.startswith("head/"), with_paths),
        head_schedule=schedules.build(config.schedule, head_schedule, "transfer.head_schedule")
        if head_schedule
        else None,
        unfreeze_index=tree(unfreeze_index, np.int32) if patterns else {},
    )


@dataclasses.dataclass(frozen=True)
class _Parameter:
    path: str
    leaf: Any

    def each(self, model: Model, function: Callable[[str], Any], rows: Any, dtype: Any) -> PerLayer:
        """Applies a function to its path, or to the paths of its trained blocks."""
        paths = block_paths(model, self.path, self.leaf)
        if paths == [self.path]:
            return np.asarray(function(self.path), dtype)
        values = [function(paths[row]) for row in rows or range(len(paths))]
        return np.asarray(values, dtype).reshape(-1, *[1] * (len(self.leaf.shape) - 1))
