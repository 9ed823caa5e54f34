"""The real train step of a config, compiled for devices that need not be present, and its memory on each of them."""

import dataclasses
import functools
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

import data
from data import Features, preprocessing, splitting
from diagnostics.cost import hlo, work
from diagnostics.cost.collectives import Collective, find
from diagnostics.cost.hlo import Module
from diagnostics.cost.work import Operation
from plumbline import UserError
from trainers import settings
from trainers.building import Training, build_training, fitted_arrays, training_mesh
from trainers.devices.mesh import sharded_batch
from trainers.devices.sharding import placements
from trainers.step.train_step import zero_metrics

_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of a config, as far as its program depends on them.

    Attributes:
      features: what one example is.
      num_training: training examples, those for validation left out.
      fitted: arrays that are fitted on the training rows, or others in their form.
      source: one phrase: where this is known from.
    """

    features: Features
    num_training: int
    fitted: dict[str, Any]
    source: str


def examples_of(config: ml_collections.ConfigDict) -> Examples:
    """Finds the examples of a config: as declared (`data.num_examples`, `data.num_classes`), or from its source.

    Raises:
      UserError: the source cannot be opened, or the config declares too little to do without it.
    """
    declared = config.data
    if not declared.num_examples:
        dataset = data.load(declared, seed=config.seed)
        training = len(dataset.splits["train"])
        return Examples(dataset.features, training, fitted_arrays(dataset), f"{config.data.source} as it is here")
    if declared.num_classes < 1:
        raise UserError("data.num_classes: is 0 beside data.num_examples; give --classes, or both")
    if not declared.image_size:
        raise UserError(
            "data.image_size: is 0, the source's own, which is not opened where data.num_examples is given; "
            "set data.image_size as well"
        )
    features = Features(
        kind="image",
        shape=(declared.image_size, declared.image_size, declared.channels or 3),
        dtype="uint8",
        task="classification",
        class_names=tuple(map(str, range(declared.num_classes))),
    )
    shares = (
        splitting.parse_validation_share(declared.validation),
        splitting.parse_share(declared.test, "data.test"),
    )
    training = declared.num_examples
    for share in shares:
        training -= round(training * (share or 0.0))
    arrays = preprocessing.fit(
        features, np.zeros((2, *features.shape), np.uint8), np.zeros(2), normalize=declared.normalize
    )
    if declared.class_weights == "balanced":
        arrays = {**arrays, "class_weights": np.ones(declared.num_classes, np.float32)}
    return Examples(features, training, arrays, f"{training:,} examples of {features.shape}, as the config declares")


def make_training(config: ml_collections.ConfigDict, examples: Examples, devices: Sequence[Any]) -> Training:
    """Builds the training of a config over devices that need not be present.

    Args:
      config: the whole config; `config.mesh` lays out the devices.
      examples: what it trains on.
      devices: real ones, or those of a described topology.

    Raises:
      UserError: the config is not right, its mesh does not multiply to the devices, or its batch does not divide.
    """
    settings.check(config)
    mesh = training_mesh(config, devices)
    if config.parallel.mode != "jit":
        raise UserError("parallel.mode: a plan is made for 'jit', of which 'pmap' is a slower form; leave it at 'jit'")
    arrays = {name: jnp.asarray(array) for name, array in examples.fitted.items()}
    return build_training(config, examples.features, arrays, num_examples=examples.num_training, mesh=mesh)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each device.

    Attributes:
      parameters: of the model.
      optimizer: of the optimizer's state.
      average: of the moving average of the parameters.
      rest: of the state besides, and the sums of metrics.
      batch: of the batch.
      padding: that the compiler adds to all of these by its tiles.
      temporary: activations, gradients and all other intermediate values.
      outputs: results that do not take over the memory of an argument.
      code: of the program.
    """

    parameters: int
    optimizer: int
    average: int
    rest: int
    batch: int
    padding: int = 0
    temporary: int
    outputs: int = 0
    code: int = 0

    @property
    def arguments(self) -> int:
        """The arguments of the step: the sum over the shards that a device holds."""
        return self.parameters + self.optimizer + self.average + self.rest + self.batch

    @property
    def total(self) -> int:
        """The peak of the step."""
        return self.arguments + self.padding + self.temporary + self.outputs + self.code


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled step.

    Attributes:
      memory: on each device. Of a program that does not fit its device, `temporary` is what the compiler asked for.
      overflow: what the compiler said of a program that does not fit; "" if it fits, as far as the compiler knows.
      module: the program; None if it does not fit.
      xla_flops: XLA's own count on one device, each loop as one turn.
      xla_bytes: likewise, bytes accessed.
      seconds: that compilation took.
    """

    memory: Memory
    overflow: str
    module: Module | None
    xla_flops: float
    xla_bytes: float
    seconds: float

    @functools.cached_property
    def operations(self) -> list[Operation]:
        """The operations of one device in a step."""
        return work.operations(self.module) if self.module else []

    @functools.cached_property
    def collectives(self) -> list[Collective]:
        """The collectives of a step."""
        return find(self.module) if self.module else []

    @property
    def flops(self) -> int:
        """FLOPs of matrix products and convolutions on one device, with recomputation and all iterations of loops."""
        return sum(each.times * each.flops for each in self.operations)

    @property
    def bytes(self) -> int:
        """Bytes read from and written to main memory on one device, with all iterations of loops."""
        return sum(each.times * each.bytes for each in self.operations)


def compile_step(training: Training) -> Compiled:
    """Compiles one step, as the trainer dispatches it in a single process, and parses the result."""
    arguments = _memory_of_arguments(training)
    began = time.perf_counter()
    running = jax.eval_shape(lambda: zero_metrics(training.program))
    lowered = training.step_programs().compiled["loop"].lower(training.shapes, running, training.batch, None)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = re.search(r"(?:required .*?\(|Used )([\d.]+)([BKMGT])\)?", str(error))
        if "RESOURCE_EXHAUSTED" not in str(error) or not needed:
            raise
        return Compiled(
            memory=Memory(**arguments, temporary=round(float(needed[1]) * _UNITS[needed[2]])),
            overflow=" ".join(str(error).partition(":")[2].split()),
            module=None,
            xla_flops=0.0,
            xla_bytes=0.0,
            seconds=time.perf_counter() - began,
        )
    seconds = time.perf_counter() - began
    stats, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
    memory = Memory(
        **arguments,
        padding=stats.argument_size_in_bytes - sum(arguments.values()),
        temporary=stats.temp_size_in_bytes,
        outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
    )
    return Compiled(
        memory=memory,
        overflow="",
        module=hlo.parse(compiled.as_text()),
        xla_flops=float(costs.get("flops", 0.0)),
        xla_bytes=float(costs.get("bytes accessed", 0.0)),
        seconds=seconds,
    )


def _memory_of_arguments(training: Training) -> dict[str, int]:
    """Computes the bytes of the step's arguments on one device: the sum over its shards."""

    def on_device(tree: Any, shardings: Any) -> int:
        return sum(placement.device_bytes for placement in placements(tree, shardings))

    state, shardings = training.shapes, training.shardings
    running = jax.tree.leaves(jax.eval_shape(lambda: zero_metrics(training.program)))
    parts = {
        "parameters": on_device(state.params, shardings.params),
        "optimizer": on_device(state.opt_state, shardings.opt_state),
        "average": on_device(state.ema, shardings.ema),
        "batch": on_device(training.batch, {name: sharded_batch(training.mesh) for name in training.batch}),
    }
    whole = on_device(state, shardings)
    rest = whole - parts["parameters"] - parts["optimizer"] - parts["average"]
    return {**parts, "rest": rest + sum(leaf.size * leaf.dtype.itemsize for leaf in running)}
