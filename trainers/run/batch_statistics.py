"""Statistics of batch norms for averaged parameters.

Those of a train state follow the parameters of the steps, not their moving average. At the end of a run they can be
computed for the averaged parameters, over batches of training examples without augmentation (Izmailov et al. 2018,
"Averaging Weights Leads to Wider Optima and Better Generalization", section 3.2).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from data import preprocessing
from data.batches import TrainBatches
from trainers.devices.mesh import global_batch, local_rows, on_mesh, replicated, sharded_batch
from trainers.run import rules
from trainers.run.run_state import Run, RunState
from trainers.step.optimizers import paths_and_leaves
from trainers.step.state import InferenceState, Program, Tree

# More batches no longer change the third digit of a mean.
_MOST_BATCHES = 200
Moments = dict[str, tuple[jax.Array, jax.Array]]
"""Means of the inputs of each norm and of their squares, by channel, by the path of the norm."""


def recompute_at_end(run: Run, at: RunState) -> RunState:
    """Replaces the statistics of the parameters that the run ends with, if its config says so and it is over."""
    best_step = None if at.best is None else at.best.step
    program = run.training.program
    if not (run.training.config.train.recompute_statistics and rules.is_over(run.rules, at.step, best_step)):
        return at
    if not at.state.ema or not at.state.model_state or program.reads_features:
        return at
    with run.goodput.during("evaluation"):
        if at.best is None:
            # Steps use the statistics of their own batch, so these serve for inference alone.
            statistics = recompute(run, at.state.inference()).model_state
            return dataclasses.replace(at, state=dataclasses.replace(at.state, model_state=statistics))
        return dataclasses.replace(at, best=dataclasses.replace(at.best, state=recompute(run, at.best.state)))


def recompute(run: Run, state: InferenceState) -> InferenceState:
    """The state with statistics over one epoch of batches, of which each counts the same.

    Args:
      run: whose training examples are read.
      state: with the parameters.
    """
    training, split = run.training, run.dataset.splits["train"]
    mesh, size = training.mesh, training.config.train.batch_size
    moments = make_moments(training.program, mesh, training.shardings.inference())
    batches = TrainBatches(
        split,
        batch_size=size,
        seed=training.config.seed,
        rows=local_rows(mesh, size),
        workers=training.config.data.workers,
    )
    sums, count = None, max(1, min(_MOST_BATCHES, len(split) // size))
    with closing(batches):
        for step in range(count):
            found = jax.device_get(moments(state, global_batch(mesh, batches.read(step), size)["inputs"]))
            found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)
            sums = found if sums is None else jax.tree.map(np.add, sums, found)
    means = jax.tree.map(lambda leaf: leaf / count, sums)
    statistics = _replace(state.model_state, means, training.shardings.model_state)
    return dataclasses.replace(state, model_state=statistics)


def make_moments(
    program: Program, mesh: Mesh, shardings: InferenceState
) -> Callable[[InferenceState, jax.Array], Moments]:
    """The compiled function `(inference state, raw inputs (B, ...)) -> moments` of the norms that are not frozen.

    Args:
      program: of the run.
      mesh: devices.
      shardings: of the inference state.
    """

    def moments(state: InferenceState, inputs: jax.Array) -> Moments:
        # From zero, a norm records its batch times (1 - momentum).
        model = program.model(state.params, jax.tree.map(jnp.zeros_like, state.model_state))
        model(preprocessing.apply(state.preprocessing, program.features, inputs), training=True)
        found = {}
        for path, norm in _trained_norms(model):
            mean, variance = (part[...] / (1 - norm.momentum) for part in (norm.mean, norm.var))
            found[path] = mean, variance + mean**2
        return found

    return jax.jit(
        on_mesh(mesh, moments), in_shardings=(shardings, sharded_batch(mesh)), out_shardings=replicated(mesh)
    )


def _replace(statistics: Tree, moments: Mapping[str, tuple[np.ndarray, np.ndarray]], shardings: Tree) -> Tree:
    """The statistics with those of the norms in `moments` replaced."""
    leaves = []
    for (path, leaf), sharding in zip(paths_and_leaves(statistics), jax.tree.leaves(shardings), strict=True):
        norm, _, name = path.rpartition("/")
        if norm in moments:
            mean, square = moments[norm]
            value = np.asarray(mean if name == "mean" else square - mean**2, leaf.dtype)
            leaf = jax.make_array_from_callback(leaf.shape, sharding, lambda index, value=value: value[index])
        leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(statistics), leaves)


def _trained_norms(model: nnx.Module) -> Iterator[tuple[str, nnx.BatchNorm]]:
    for path, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm) and not module.use_running_average:
            yield "/".join(map(str, path)), module
