"""The train step and the evaluation step: pure functions of a state and a batch.

Dispatching them (one by one, several in a program, over which devices) is the subject of other modules.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from data import augmentations, preprocessing
from data.random_streams import EVALUATION_SEED, KeyPurpose
from plumbline import axes
from trainers.step.keys import make_key
from trainers.step.objective import Sums, Totals
from trainers.step.state import InferenceState, Program, TrainState, Tree

Batch = dict[str, jax.Array]
Metrics = Totals
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

# Those of a step.
_PURPOSES = (KeyPurpose.AUGMENT, KeyPurpose.MIX, KeyPurpose.MODEL, KeyPurpose.CORRUPT)


def make_train_step(program: Program) -> TrainStep:
    """Builds the function `(state, batch) -> (state, metrics)` that takes one step.

    The metrics are (sum, weight) pairs: `loss` (of the augmented batch), the objective's cheap scores, `gradient_norm`,
    `learning_rate` and `skipped`. If loss or gradient is not finite, the update is skipped: everything but the step
    count stays the same to the bit, and the metrics count it as skipped.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        gradient, model_state, metrics = _gradient(program, state, batch)
        norm = optax.tree.norm(gradient)
        # The norm is finite if every entry of the gradient is.
        finite = jnp.isfinite(metrics["loss"][0]) & jnp.isfinite(norm)

        def update(state: TrainState) -> TrainState:
            optimizer = program.optimizer(state.hyperparameters, state.step)
            trained = program.partition.select(state.params)
            updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
            moved = optax.apply_updates(trained, updates)
            trained = program.fine_tuning.hold_frozen(trained, moved, state.hyperparameters, state.step)
            return dataclasses.replace(
                state,
                params=program.partition.merge(state.params, trained),
                model_state=model_state,
                opt_state=opt_state,
                ema=_moving_average(program, state, trained, opt_state),
            )

        # On CPU a branch costs less than a select over every array. Multiplying by zero would keep a NaN.
        new_state = jax.lax.cond(finite, update, lambda state: state, state)
        new_state = dataclasses.replace(
            new_state, step=state.step + 1, skipped=jnp.where(finite, 0, state.skipped + 1).astype(jnp.int32)
        )
        metrics["gradient_norm"] = (norm, jnp.float32(1))
        metrics = {n: tuple(jnp.where(finite, v, 0.0) for v in pair) for n, pair in metrics.items()}
        metrics["learning_rate"] = (program.learning_rate(state.hyperparameters, state.step), jnp.float32(1))
        metrics["skipped"] = (1.0 - finite.astype(jnp.float32), jnp.float32(1))
        return new_state, metrics

    return train_step


def zero_metrics(program: Program) -> Metrics:
    """Metrics of zero steps, to which those of steps are added."""
    return _zeros(("loss", *program.objective.scores, "gradient_norm", "learning_rate", "skipped"))


def mean_metrics(sums: Sums) -> dict[str, float]:
    """The metrics of the steps whose metrics were added up; `skipped` is the number of skipped updates.

    Args:
      sums: on the host.
    """
    # A metric that was never measured, because all updates were skipped, has no mean.
    metrics = {name: float(total / weight) for name, (total, weight) in sums.items() if weight > 0}
    return metrics | {"skipped": float(sums["skipped"][0])}


def make_evaluation_step(program: Program) -> Callable[[InferenceState, Batch], Totals]:
    """Builds the function `(inference state, batch) -> totals` of the objective."""
    outputs, objective = make_outputs(program), program.objective

    def evaluation_step(state: InferenceState, batch: Batch) -> Totals:
        inputs, labels = batch["inputs"], batch["labels"]
        if objective.masks_inputs:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(make_key(EVALUATION_SEED), batch["index"])
            inputs, labels = objective.corrupt(keys, inputs, labels)
        return objective.totals(
            outputs(state, inputs), labels, batch["weight"], batch.get("group"), state.preprocessing
        )

    return evaluation_step


def make_outputs(program: Program) -> Callable[[InferenceState, jax.Array], jax.Array]:
    """Builds the function `(inference state, raw inputs (B, ...)) -> outputs (B, ..., num_outputs)`."""

    def outputs(state: InferenceState, inputs: jax.Array) -> jax.Array:
        model = program.model(state.params, state.model_state)
        if program.reads_features:
            return model.apply_head(inputs)
        return model(preprocessing.apply(state.preprocessing, program.features, inputs))

    return outputs


def _gradient(program: Program, state: TrainState, batch: Batch) -> tuple[Tree, Tree, Metrics]:
    """Gradient of the weighted mean loss over the whole batch, the model's new statistics, and the metrics.

    The gradient is with respect to the trained part of the parameters.
    """
    trained = program.partition.select(state.params)
    key = jax.random.fold_in(state.key, state.step)
    parts = program.config.train.accumulation_steps
    grad_fn = jax.grad(functools.partial(_weighted_loss, program, state), has_aux=True)

    if parts == 1:
        gradient, (model_state, metrics) = grad_fn(trained, state.model_state, batch, key)
    else:

        def add_part(carry: tuple, part: tuple[jax.Array, Batch]) -> tuple[tuple, None]:
            sums, model_state = carry
            number, batch_part = part
            part_key = jax.random.fold_in(key, number)
            gradient, (model_state, metrics) = grad_fn(trained, model_state, batch_part, part_key)
            return (jax.tree.map(jnp.add, sums, (gradient, metrics)), model_state), None

        zeros = jax.tree.map(jnp.zeros_like, trained), _zeros(("loss", *program.objective.scores))
        numbered_parts = jnp.arange(parts), _split(batch, parts)
        ((gradient, metrics), model_state), _ = jax.lax.scan(add_part, (zeros, state.model_state), numbered_parts)

    gradient, metrics = axes.sum_over_batch((gradient, metrics))
    weight = jnp.maximum(metrics["loss"][1], jnp.finfo(jnp.float32).tiny)
    return jax.tree.map(lambda leaf: leaf / weight, gradient), model_state, metrics


def _weighted_loss(
    program: Program, state: TrainState, trained: Tree, model_state: Tree, batch: Batch, key: jax.Array
) -> tuple[jax.Array, tuple[Tree, Metrics]]:
    """The weighted sum of losses over the batch, and as auxiliary output the model's new statistics and the metrics."""

    def rate(name: str) -> jax.Array | None:
        return state.hyperparameters[name] if name in program.used else None

    objective, augment = program.objective, program.config.augment
    augment_key, mix_key, model_key, corrupt_key = (jax.random.fold_in(key, purpose) for purpose in _PURPOSES)

    inputs, labels, weight = batch["inputs"], batch["labels"], batch["weight"]
    if augment.crop_padding or augment.flip or augment.shift or "color" in program.used:
        inputs = augmentations.augment_images(
            augment_key,
            inputs,
            crop_padding=augment.crop_padding,
            flip=augment.flip,
            shift=augment.shift,
            color=rate("color"),
        )
    if objective.masks_inputs:
        keys = axes.draw(functools.partial(jax.random.split, corrupt_key), len(inputs))
        inputs, labels = objective.corrupt(keys, inputs, labels)
    if not program.reads_features:
        inputs = preprocessing.apply(state.preprocessing, program.features, inputs)
    inputs = axes.constrain(inputs, axes.BATCH, *[None] * (inputs.ndim - 1))
    targets = objective.targets(labels, state.preprocessing)
    if "class_weights" in state.preprocessing:
        weight = weight * state.preprocessing["class_weights"][labels]
    weight = objective.weights(weight, targets)
    if "label_smoothing" in program.used:
        targets = optax.smooth_labels(targets, state.hyperparameters["label_smoothing"])
    if program.used & {"mixup", "cutmix"}:
        inputs, targets, weight = augmentations.mix(
            mix_key, inputs, targets, weight, mixup=rate("mixup"), cutmix=rate("cutmix")
        )

    model = program.model(program.partition.merge(state.params, trained), model_state)
    if program.reads_features:
        outputs = model.apply_head(inputs)
    else:
        rates = {name: rate(name) for name in ("dropout", "stochastic_depth")}
        outputs = model(inputs, training=True, key=model_key, **rates)
    values = {"loss": objective.loss(outputs, targets), **objective.score(outputs, targets)}
    metrics = {name: (jnp.sum(weight * value), jnp.sum(weight)) for name, value in values.items()}
    return metrics["loss"][0], (nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), metrics)


def _moving_average(program: Program, state: TrainState, trained: Tree, opt_state: Tree) -> Tree:
    """The moving average after this step. Its decay grows to the configured one, so that short runs can use it."""
    if not state.ema:
        return state.ema
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(state.hyperparameters["ema_decay"], (1 + step) / (10 + step))
    average = program.partition.select(state.ema)
    average = jax.tree.map(lambda average, param: decay * average + (1 - decay) * param, average, trained)
    if program.pruning:
        average = program.pruning.mask(average, opt_state)
    return program.partition.merge(state.ema, average)


def _split(batch: Batch, parts: int) -> Batch:
    """Reshapes a batch (B, ...) to (parts, B / parts, ...). Each part has rows of every device: every parts-th row."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf.reshape(-1, parts, *leaf.shape[1:]), 0, 1), batch)


def _zeros(names: Iterable[str]) -> Metrics:
    return {name: (jnp.float32(0), jnp.float32(0)) for name in names}
