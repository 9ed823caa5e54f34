"""The train state: one pytree with everything that a run changes or fits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

import models
from data import Features
from data.random_streams import KeyPurpose
from models import lora
from models.interface import PartitionRules
from plumbline import UserError
from trainers.step import fine_tuning, freezing, optimizers, pruning
from trainers.step.fine_tuning import FineTuning
from trainers.step.freezing import Partition
from trainers.step.hyperparameters import Hyperparameters
from trainers.step.keys import make_key
from trainers.step.objective import Objective
from trainers.step.pruning import Pruning
from trainers.step.schedules import Schedule

Tree = Any
Leaf = Any
"""An array; inside JAX's transformations also a tracer, a shape or a sharding, since states are pytrees."""
Start = dict[str, Any]
"""Values that replace the random initialisation: some of the `params` and `model_state`, as nested dicts."""


@functools.partial(jax.tree_util.register_dataclass)
@dataclasses.dataclass(frozen=True)
class InferenceState:
    """The part of a train state that evaluation, prediction and export need.

    Attributes:
      params: parameters, or their moving average if the run has one.
      model_state: statistics of the model without gradients (batch normalisation).
      preprocessing: dict of arrays fitted on the training rows; empty for texts.
    """

    params: Tree
    model_state: Tree
    preprocessing: Tree


@functools.partial(jax.tree_util.register_dataclass)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a run changes or fits; every checkpoint saves all of it.

    Attributes:
      step: int32 scalar, steps taken.
      params: nested dict of float32 arrays.
      model_state: as in `InferenceState`.
      opt_state: Optax state of the optimizer, for the trained part of the parameters.
      hyperparameters: float32 scalars by name, and the lengths of the schedule in steps.
      key: typed random key of the run; each step folds its number into it.
      ema: moving average of the `params` that are trained, at least in part, or an empty dict.
      preprocessing: as in `InferenceState`, and `class_weights` if the loss has them.
      skipped: int32 scalar, number of consecutive updates skipped because loss or gradient was not finite.
    """

    step: Leaf
    params: Tree
    model_state: Tree
    opt_state: Tree
    hyperparameters: dict[str, Leaf]
    key: Leaf
    ema: Tree
    preprocessing: Tree
    skipped: Leaf

    def inference(self) -> InferenceState:
        """The part for inference."""
        return InferenceState(overlay(self.params, self.ema), self.model_state, self.preprocessing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """What compiled steps close over: everything of a run that is not data. Runs with one program share compiled steps.

    Attributes:
      config: the whole config; its hyperparameters are not read from here.
      features: what an example is.
      objective: loss and metrics.
      used: names of the hyperparameters that are in the program.
      schedule: share of the learning rate at each step; its lengths are among the hyperparameters.
      graphdef: the model without its arrays.
      params: shapes of the parameters.
      model_state: shapes of the model's statistics.
      partition_rules: how the model's parameters may be split; see `models.interface.Model`.
      tensor_units: sizes that the tensor axis of a mesh must divide, by config field.
      partition: the trained part of the parameters.
      weight_decay_factors: tree like the trained part of the parameters.
      learning_rate_factors: tree like it.
      fine_tuning: learning rates and unfreezing by layer.
      pruning: the weights to prune; None without pruning.
      reads_features: steps read inputs of the head, (B, features) float32, in place of raw inputs.
    """

    config: ml_collections.ConfigDict
    features: Features
    objective: Objective
    used: frozenset[str]
    schedule: Schedule
    graphdef: nnx.GraphDef
    params: Tree
    model_state: Tree
    partition_rules: PartitionRules
    tensor_units: dict[str, int]
    partition: Partition
    weight_decay_factors: Tree
    learning_rate_factors: Tree
    fine_tuning: FineTuning
    pruning: Pruning | None
    reads_features: bool = False

    def model(self, params: Tree, model_state: Tree) -> nnx.Module:
        """The model with these arrays in it."""
        return nnx.merge(self.graphdef, params, model_state)

    def optimizer(self, hyperparameters: Hyperparameters, step: jax.Array) -> Any:
        """The Optax transformation that makes the update of `step`."""
        optimizer = optimizers.build(
            self.config.optimizer,
            hyperparameters,
            self.used,
            learning_rate=self.learning_rates(hyperparameters, step),
            weight_decay_factors=self.weight_decay_factors,
            learning_rate_factors=self.learning_rate_factors,
        )
        return self.pruning.wrap(optimizer, hyperparameters, step) if self.pruning else optimizer

    def learning_rates(self, hyperparameters: Hyperparameters, step: jax.Array) -> Tree:
        """The learning rate of `step`, or a tree of learning rates if parameters differ in it."""
        rate = self.learning_rate(hyperparameters, step)
        return self.fine_tuning.learning_rates(rate, hyperparameters, step, self.schedule, self.used)

    def learning_rate(self, hyperparameters: Hyperparameters, step: jax.Array) -> jax.Array:
        """The learning rate of `step` for parameters without one of their own."""
        share = self.schedule(jnp.asarray(step, jnp.float32), hyperparameters)
        return hyperparameters["learning_rate"] * jnp.asarray(share, jnp.float32)


Init = Callable[..., TrainState]


def make_program(
    config: ml_collections.ConfigDict,
    features: Features,
    objective: Objective,
    used: frozenset[str],
    schedule: Schedule,
) -> tuple[Program, Init]:
    """Builds the program of a config, and the function that makes an initial state.

    The function is `(seed, hyperparameters, preprocessing, start=None) -> TrainState`; values of `start` replace random
    ones. The model is built here once, without arrays, to get its structure.

    Raises:
      UserError: the model cannot be built on these features, or the optimizer's rules do not fit its parameters.
    """
    model = nnx.eval_shape(functools.partial(_build_model, config, features), make_key(0))
    if model.predicts_tokens and features.task != "language":
        raise UserError(
            f"model.{config.model.name}.pooling: is empty, and with as many classes as tokens it means 'tokens', which "
            f"is not for {features.task}; choose another"
        )
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    trained_part = freezing.partition(model, params, config.transfer.freeze, also=lora.find_kernels(params))
    model.freeze(trained_part.frozen)
    graphdef, _, model_state = nnx.split(model, nnx.Param, nnx.BatchStat)

    def factors(field: str) -> Tree:
        whole = optimizers.factors(params, config.optimizer[field], f"optimizer.{field}")
        return trained_part.map(lambda factor, _: factor, whole)

    program = Program(
        config=config,
        features=features,
        objective=objective,
        used=used,
        schedule=schedule,
        graphdef=graphdef,
        params=params,
        model_state=nnx.to_pure_dict(model_state),
        partition_rules=model.partition_rules,
        tensor_units=model.tensor_units(),
        partition=trained_part,
        weight_decay_factors=factors("weight_decay_rules"),
        learning_rate_factors=factors("learning_rate_rules"),
        fine_tuning=fine_tuning.build(config, model, params, trained_part),
        pruning=pruning.build(config, model, params, trained_part),
    )
    return program, functools.partial(_initial_state, program)


def _build_model(config: ml_collections.ConfigDict, features: Features, key: jax.Array) -> nnx.Module:
    """The model of a config, with its adapters."""
    model = models.build(
        config.model,
        input_shape=features.input_shape,
        categories=features.categories,
        num_outputs=features.num_outputs,
        key=key,
    )
    adapters = config.transfer.lora
    lora_key = jax.random.fold_in(key, KeyPurpose.ADAPTERS)
    lora.add(model, adapters.patterns, rank=adapters.rank, alpha=adapters.alpha, key=lora_key)
    return model


def _initial_state(
    program: Program,
    seed: jax.Array,
    hyperparameters: Hyperparameters,
    preprocessing: dict[str, jax.Array],
    start: Start | None = None,
) -> TrainState:
    """The train state before the first step; values of `start` replace random ones."""
    start, partition, step = start or {}, program.partition, jnp.int32(0)
    init_key, run_key = jax.random.split(make_key(seed))
    model = _build_model(program.config, program.features, init_key)
    _, *fresh = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, model_state = map(nnx.to_pure_dict, fresh)
    params = overlay(params, start.get("params", {}))
    return TrainState(
        step=step,
        params=params,
        model_state=overlay(model_state, start.get("model_state", {})),
        opt_state=program.optimizer(hyperparameters, step).init(partition.select(params)),
        hyperparameters=hyperparameters,
        key=run_key,
        # All stacked blocks, so that it can replace the parameters as it is.
        ema=partition.map(lambda leaf, _: jnp.copy(leaf), params) if "ema_decay" in program.used else {},
        preprocessing=preprocessing,
        skipped=jnp.int32(0),
    )


def overlay(tree: Tree, over: Tree) -> Tree:
    """Replaces leaves of a nested dict by those of another, which has some of its names.

    Raises:
      KeyError: the other has a name that the first one lacks.
    """
    if not isinstance(tree, Mapping):
        return over
    return {**tree, **{name: overlay(tree[name], part) for name, part in over.items()}}


def num_parameters(params: Tree) -> int:
    """The number of elements of all parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
