"""A hand-written training for one config, as the reference for the framework's overhead.

It does the same arithmetic as the config: augmentation and mixup, dropout and stochastic depth, label smoothing,
clipping, AdamW with warmup and cosine decay, weight decay on kernels only, and the moving average of the parameters.
The model and the augmentation functions are Plumbline's own, since their cost is not overhead of a framework. The rest
is written by hand: every hyperparameter is a Python number in the program, the optimizer and the schedule come directly
from Optax, and there are no metrics, no check for NaN, no example weights, no input pipeline, no logging and no
checkpoints.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx

import models
from data import augmentations


class State(NamedTuple):
    """The values that a step changes."""

    step: jax.Array
    params: Any
    statistics: Any
    optimizer: Any
    average: Any


Step = Callable[[State, jax.Array, jax.Array], State]


def make(
    config: ml_collections.ConfigDict,
    *,
    shape: tuple[int, ...],
    num_classes: int,
    mean: jax.Array,
    std: jax.Array,
    total_steps: int,
    warmup_steps: int,
) -> tuple[Callable[[], State], Step]:
    """Returns the function that creates the first state, and the jitted step `(state, images, labels) -> state`.

    One jitted function creates the first state, since building a Flax NNX model operation by operation is slower. The
    step donates its state argument.

    Args:
      config: for images and classes, with the optimizer "adamw" and the schedule "cosine".
      shape: (H, W, C) of an image.
      num_classes: number of classes.
      mean: (C,) mean of the images, in 0 to 1.
      std: (C,) standard deviation of the images.
      total_steps: length of the training.
      warmup_steps: length of the warmup.
    """
    augment, rates = config.augment, config.model
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.optimizer.learning_rate, warmup_steps, total_steps)
    optimizer = optax.adamw(
        schedule,
        b1=config.optimizer.b1,
        b2=config.optimizer.b2,
        weight_decay=config.optimizer.weight_decay,
        mask=_decayed,
    )
    if config.optimizer.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.optimizer.clip_norm), optimizer)

    def build(key: jax.Array) -> nnx.Module:
        return models.build(config.model, input_shape=shape, categories=(), num_outputs=num_classes, key=key)

    graphdef = nnx.split(nnx.eval_shape(build, jax.random.key(0)), nnx.Param, nnx.BatchStat)[0]

    @jax.jit
    def init() -> State:
        _, params, statistics = nnx.split(build(jax.random.key(config.seed)), nnx.Param, nnx.BatchStat)
        params, statistics = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
        average = jax.tree.map(jnp.copy, params) if config.train.ema_decay else {}
        return State(jnp.int32(0), params, statistics, optimizer.init(params), average)

    def mean_loss(
        params: Any, statistics: Any, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        augment_key, mix_key, model_key = jax.random.split(key, 3)
        images = augmentations.augment_images(
            augment_key, images, crop_padding=augment.crop_padding, flip=augment.flip, shift=augment.shift, color=None
        )
        images = (images / 255.0 - mean) / std
        targets = jax.nn.one_hot(labels, num_classes)
        if config.objective.label_smoothing:
            targets = optax.smooth_labels(targets, config.objective.label_smoothing)
        if augment.mixup:
            ones = jnp.ones(len(labels))
            images, targets, _ = augmentations.mix(mix_key, images, targets, ones, mixup=augment.mixup, cutmix=None)
        model = nnx.merge(graphdef, params, statistics)
        logits = model(
            images,
            training=True,
            key=model_key,
            dropout=rates.dropout or None,
            stochastic_depth=rates.stochastic_depth or None,
        )
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: State, images: jax.Array, labels: jax.Array) -> State:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        gradient, statistics = jax.grad(mean_loss, has_aux=True)(state.params, state.statistics, images, labels, key)
        updates, opt_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if config.train.ema_decay:
            average = optax.incremental_update(params, average, 1 - config.train.ema_decay)
        return State(state.step + 1, params, statistics, opt_state, average)

    return init, step


def _decayed(params: Any) -> Any:
    """Returns True for kernels, embeddings and the like; False for biases and scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)
