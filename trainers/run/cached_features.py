"""Linear probes on cached features: the input of the head is computed once for each example.

This equals running the frozen trunk at every step, if nothing before the head is random. The train state still holds
the trunk, so checkpoints, evaluation and prediction by other commands are the same.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from data import Dataset, Split, preprocessing
from data.batches import evaluation_batches
from data.split import ArrayReader
from plumbline import UserError
from trainers import settings
from trainers.devices.mesh import in_flight, on_mesh, sharded_batch
from trainers.processes import coordination
from trainers.run.evaluation import evaluation_batch_size, make_run_evaluate
from trainers.run.run_state import Run
from trainers.step.optimizers import paths_and_leaves
from trainers.step.state import InferenceState, Program

_FIELD = "transfer.cache_features"


def check(program: Program) -> None:
    """Checks that cached features do not change a training.

    Raises:
      UserError: something but the head is trained, something is drawn at random, or there are several processes.
    """
    if program.features.task == "language":
        raise UserError(f"{_FIELD}: is not for language modelling, where each token has features; leave it out")
    paths = [path for path, _ in paths_and_leaves(program.learning_rate_factors)]
    others = [path for path in paths if not path.startswith("head/")]
    if others:
        raise UserError(
            f"{_FIELD}: {others[0]} is trained as well; freeze all but the head, transfer.freeze=('^(?!head/)',), or "
            "leave it out"
        )
    values = settings.fields(program.config)
    random = [path for path, field in settings.FIELDS.items() if field.random and values[path]]
    if random:
        raise UserError(f"{_FIELD}: {random[0]} gives other features at every step; set it to 0, or leave one of them")
    if coordination.process_count() > 1:
        raise UserError(f"{_FIELD}: is for one process; run it on one, or leave it out")


def cache_features(run: Run, state: InferenceState) -> Run:
    """Computes the features of all examples; the run that is returned reads them in place of raw inputs.

    Args:
      run: that is to take steps.
      state: that the run begins with.
    """
    training, shardings = run.training, run.training.shardings.inference()
    size = evaluation_batch_size(training.config)
    compute = make_compute(training.program, training.mesh, shardings, batch_size=size)
    training = training.reading_features()
    dataset = replace_inputs(run.dataset, functools.partial(compute, state))
    return dataclasses.replace(run, training=training, dataset=dataset, evaluate=make_run_evaluate(training))


def make_compute(
    program: Program, mesh: Mesh, shardings: InferenceState, *, batch_size: int
) -> Callable[[InferenceState, Split], np.ndarray]:
    """The function `(inference state, split) -> features (n, d) float32`, the input of the head.

    Args:
      program: of the run.
      mesh: devices.
      shardings: of the inference state.
      batch_size: examples of a batch over all devices.
    """

    def features(state: InferenceState, inputs: jax.Array) -> jax.Array:
        model = program.model(state.params, state.model_state)
        return model.features(preprocessing.apply(state.preprocessing, program.features, inputs))

    sharded = sharded_batch(mesh)
    step = jax.jit(on_mesh(mesh, features), in_shardings=(shardings, sharded), out_shardings=sharded)
    most_in_flight, _ = in_flight(mesh)

    def compute(state: InferenceState, split: Split) -> np.ndarray:
        batches = evaluation_batches(split, batch_size=batch_size, workers=program.config.data.workers)
        pieces = []
        for batch in batches:
            pieces.append(step(state, batch["inputs"]))
            jax.block_until_ready(pieces[-most_in_flight - 1 : -most_in_flight])
        return np.concatenate([np.asarray(piece) for piece in pieces])[: len(split)]

    return compute


def replace_inputs(dataset: Dataset, compute: Callable[[Split], np.ndarray]) -> Dataset:
    """The data with features in place of the inputs of all splits.

    Args:
      dataset: of the run.
      compute: returns the features (n, d) of a split.
    """
    splits = {
        name: dataclasses.replace(split, reader=ArrayReader(compute(split), np.arange(len(split))))
        for name, split in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits)
