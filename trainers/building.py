"""From a config to a training: its length, its program, and the layout of its state over devices."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

import data
from plumbline import UserError
from trainers import settings
from trainers.devices.mesh import check_batch, data_mesh, make_mesh
from trainers.devices.sharding import abstract, state_shardings
from trainers.devices.step_programs import StepPrograms, check_parallel_mode
from trainers.devices.workload import batch_shapes, model_flops
from trainers.durations import Clock
from trainers.step import hyperparameters, objectives, pruning_schedule, schedules
from trainers.step.state import Init, Program, TrainState, make_program, num_parameters
from trainers.step.train_step import make_train_step

InitArguments = tuple[Any, dict[str, Any], Mapping[str, Any]]
"""What makes a first state: the seed, the hyperparameters by name, and the arrays fitted on the training rows."""

# Where only the form of a state counts, the length of the training does not.
_ANY_LENGTH = Clock(num_examples=1, batch_size=1, total_steps=2**31)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """The description of a training: all that is known of it before any array is made.

    The properties are computed when they are first read. Most of them trace the model.

    Attributes:
      config: the whole config.
      clock: turns durations into steps.
      mesh: devices.
      program: what compiled steps close over.
      init: `(seed, hyperparameters, fitted, start=None) -> TrainState`.
      init_arguments: the first three arguments of `init`.
    """

    config: ml_collections.ConfigDict
    clock: Clock
    mesh: Mesh
    program: Program
    init: Init
    init_arguments: InitArguments

    @functools.cached_property
    def shapes(self) -> TrainState:
        """Shapes and types of the train state."""
        return jax.eval_shape(self.init, *self.init_arguments)

    @functools.cached_property
    def shardings(self) -> TrainState:
        """Shardings of the train state over the mesh.

        Raises:
          UserError: a sharding rule is wrong, or an axis of the mesh does not divide what it splits.
        """
        return state_shardings(self.program, self.mesh, self.shapes)

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, types and shardings of the train state in one tree: what a restore needs."""
        return abstract(self.shapes, self.shardings)

    @functools.cached_property
    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of a global batch."""
        return batch_shapes(self.program)

    @functools.cached_property
    def model_flops(self) -> int:
        """Floating-point operations of one step over all devices, by `trainers.devices.flops.RULE`."""
        return model_flops(self.program, self.shapes)

    @functools.cached_property
    def num_parameters(self) -> int:
        """How many numbers the model's parameters hold."""
        return num_parameters(self.program.params)

    def step_programs(self) -> StepPrograms:
        """The compiled programs of its steps; nothing is compiled yet."""
        return StepPrograms(
            make_train_step(self.program),
            self.mesh,
            self.shardings,
            batch_size=self.config.train.batch_size,
            mode=self.config.parallel.mode,
        )

    def reading_features(self) -> "Training":
        """The same training, with steps that read what the head reads in place of raw inputs."""
        program = dataclasses.replace(self.program, reads_features=True)
        changed = dataclasses.replace(self, program=program)
        # The state stays the same; deriving it again would trace the whole model.
        vars(changed).update(shapes=self.shapes, shardings=self.shardings)
        return changed


def build_training(
    config: ml_collections.ConfigDict,
    features: data.Features,
    fitted: Mapping[str, Any],
    *,
    num_examples: int | None = None,
    mesh: Mesh | None = None,
    used: frozenset[str] = frozenset(),
) -> Training:
    """Builds the description of a training.

    Args:
      config: the whole config.
      features: what an example is.
      fitted: arrays fitted on the training rows, as `fitted_arrays` returns them.
      num_examples: training examples. None: the length of the training does not matter, only the form of its state.
      mesh: devices; by default the first one of this process.
      used: hyperparameters that are in the program besides those the config uses.

    Raises:
      UserError: the config does not fit the data, or its duration is less than a step.
    """
    clock = _ANY_LENGTH if num_examples is None else make_clock(config, num_examples)
    program, init = build_program(config, features, used=used)
    return Training(
        config=config,
        clock=clock,
        mesh=data_mesh(jax.local_devices()[:1]) if mesh is None else mesh,
        program=program,
        init=init,
        init_arguments=make_init_arguments(config, clock, fitted),
    )


def training_mesh(config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a training, checked against its way of running in parallel and its batch size.

    Args:
      config: the whole config.
      devices: to lay the mesh over; all devices by default.

    Raises:
      UserError: the mesh does not fit the devices, the parallel mode or the batch size.
    """
    mesh = make_mesh(config.mesh, devices)
    check_parallel_mode(config.parallel.mode, mesh)
    check_batch(mesh, config.train.batch_size, config.train.accumulation_steps)
    return mesh


def make_clock(config: ml_collections.ConfigDict, num_examples: int) -> Clock:
    """The clock of a training over `num_examples` examples.

    Raises:
      UserError: the duration is not valid or less than a step, or pruning does not fit into it.
    """
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size)
    total_steps = clock.steps(config.train.duration, "train.duration")
    if total_steps < 1:
        raise UserError(f"train.duration: '{config.train.duration}' is less than one step")
    clock = dataclasses.replace(clock, total_steps=total_steps)
    pruning_schedule.check(config, clock)
    return clock


def build_program(
    config: ml_collections.ConfigDict, features: data.Features, *, used: frozenset[str] = frozenset()
) -> tuple[Program, Init]:
    """The program of a config on such features, and the function that makes its first state.

    Args:
      config: the whole config.
      features: what an example is.
      used: hyperparameters that are in the program besides those the config uses.

    Raises:
      UserError: objective, schedule, model or optimizer do not fit.
    """
    objective = objectives.build(config.objective.name, features, calibration_bins=config.evaluation.calibration_bins)
    settings.check_task(config, features)
    schedule = schedules.build(config.schedule)
    return make_program(config, features, objective, used | hyperparameters.used([config]), schedule)


def make_init_arguments(config: ml_collections.ConfigDict, clock: Clock, fitted: Mapping[str, Any]) -> InitArguments:
    """The arguments that make the first state of a training.

    Args:
      config: the whole config.
      clock: of the training.
      fitted: arrays fitted on its training rows.
    """
    return np.uint32(config.seed), hyperparameters.from_config(config, clock), fitted


def fitted_arrays(dataset: data.Dataset) -> dict[str, np.ndarray]:
    """The arrays fitted on the training rows, as the train state has them: preprocessing, class weights if any."""
    weights = {} if dataset.class_weights is None else {"class_weights": dataset.class_weights}
    return {**dataset.preprocessing, **weights}
