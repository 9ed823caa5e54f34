import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import jit_quickly
from trainers.step.train_step import zero_metrics

EVERYTHING = {
    "model__dropout": 0.2,
    "augment__mixup": 0.3,
    "augment__shift": 1,
    "objective__label_smoothing": 0.1,
    "train__ema_decay": 0.9,
    "optimizer__clip_norm": 1.0,
    "optimizer__weight_decay": 0.1,
}


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_equal_one_large_batch(make_training, assert_trees_equal, parts):
    whole, cut = make_training(), make_training(train__accumulation_steps=parts)
    batch = whole.batch(0) | {"weight": jnp.linspace(0.0, 2.0, 32)}
    expected, expected_metrics = jit_quickly(whole.train_step)(whole.state, batch)
    state, metrics = jit_quickly(cut.train_step)(cut.state, batch)
    assert_trees_equal(state.params, expected.params, rtol=1e-5, atol=1e-6)
    assert_trees_equal(metrics, expected_metrics, rtol=1e-5, atol=1e-6)


def test_parts_draw_their_own_randomness(make_training):
    training = make_training(train__accumulation_steps=2, model__dropout=0.5)
    # Two equal halves: with the same draws they would have equal losses, and the whole the loss of one.
    half = jax.tree.map(lambda leaf: leaf[:16], training.batch(0))
    batch = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), half)
    single = make_training(model__dropout=0.5)
    twice = jit_quickly(training.train_step)(training.state, batch)[1]["loss"]
    once = jit_quickly(single.train_step)(single.state, half)[1]["loss"]
    assert not np.isclose(twice[0] / twice[1], once[0] / once[1], rtol=1e-6)


def test_the_moving_average_follows_a_plain_loop(make_training, assert_trees_equal):
    training = make_training(train__ema_decay=0.8)
    step, state = jit_quickly(training.train_step), training.state
    average = jax.tree.map(np.asarray, state.params)
    for number in range(60):
        state, _ = step(state, training.batch(number))
        decay = min(0.8, (1 + number) / (10 + number))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * np.asarray(p), average, state.params)
    assert_trees_equal(state.ema, average, rtol=1e-4, atol=1e-6)
    assert_trees_equal(state.inference().params, state.ema)


def test_a_step_minimises_what_an_independent_loop_minimises(make_training):
    training = make_training(optimizer__name="sgd", optimizer__momentum=0.0, optimizer__learning_rate=0.1)
    step, state = jit_quickly(training.train_step), training.state
    inputs = training.inputs.astype(np.float64) / 255
    inputs = ((inputs - inputs.mean()) / inputs.std()).reshape(len(inputs), -1)
    layers = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params)]
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_flatten_with_path(state.params)[0]
    ]
    values = dict(zip(paths, layers, strict=True))
    head = {name: values[f"head/{name}"] for name in ("kernel", "bias")}
    hidden = {path.rsplit("/", 1)[1]: leaf for path, leaf in values.items() if not path.startswith("head")}
    for number in range(3):
        rows = slice(number * 32, number * 32 + 32)
        x, y = inputs[rows], np.eye(10)[training.labels[rows]]
        z = x @ hidden["kernel"] + hidden["bias"]
        a = np.maximum(z, 0)
        logits = a @ head["kernel"] + head["bias"]
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        d_logits = (p - y) / 32
        d_z = (d_logits @ head["kernel"].T) * (z > 0)
        head["kernel"] -= 0.1 * a.T @ d_logits
        head["bias"] -= 0.1 * d_logits.sum(0)
        hidden["kernel"] -= 0.1 * x.T @ d_z
        hidden["bias"] -= 0.1 * d_z.sum(0)
        state, metrics = step(state, training.batch(number))
        np.testing.assert_allclose(metrics["loss"][0] / 32, -np.log(p[np.arange(32), y.argmax(1)]).mean(), rtol=1e-4)
    np.testing.assert_allclose(state.params["head"]["kernel"], head["kernel"], rtol=1e-3, atol=1e-5)


def test_a_gradient_that_is_not_finite_changes_nothing_but_the_counts(make_training, assert_trees_equal):
    training = make_training(**EVERYTHING)
    step = jit_quickly(training.train_step)
    before, _ = step(training.state, training.batch(0))
    # One parameter that overflows makes some gradients not finite, not all.
    broken = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.at[(0,) * leaf.ndim].set(jnp.inf) if "head" in str(path) else leaf, before.params
    )
    broken = dataclasses.replace(before, params=broken)
    after, metrics = step(broken, training.batch(1))
    assert_trees_equal(dataclasses.replace(after, step=broken.step, skipped=broken.skipped), broken)
    assert (int(after.step), int(after.skipped)) == (2, 1)
    assert metrics["skipped"] == (1.0, 1.0)
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(metrics))

    again, metrics = step(dataclasses.replace(after, params=before.params), training.batch(2))
    assert int(again.skipped) == 0
    assert metrics["skipped"] == (0.0, 1.0)
    assert not np.array_equal(again.params["head"]["bias"], before.params["head"]["bias"])


def test_class_weights_weigh_the_loss(make_training):
    training = make_training()
    weights = np.linspace(0.5, 1.5, 10).astype(np.float32)
    state = dataclasses.replace(
        training.state, preprocessing=training.state.preprocessing | {"class_weights": jnp.asarray(weights)}
    )
    batch = training.batch(0)
    plain = make_training().train_step
    _, weighted = jit_quickly(plain)(state, batch)
    _, by_hand = jit_quickly(plain)(training.state, batch | {"weight": jnp.asarray(weights[training.labels[:32]])})
    np.testing.assert_allclose(weighted["loss"], by_hand["loss"], rtol=1e-6)


def test_label_smoothing_spreads_its_share_over_all_classes(make_training):
    plain, smooth = make_training(), make_training(objective__label_smoothing=0.3)
    batch = plain.batch(0)
    _, metrics = jit_quickly(smooth.train_step)(smooth.state, batch)
    model = plain.program.model(plain.state.params, plain.state.model_state)
    mean, std = (np.asarray(plain.state.preprocessing[name]) for name in ("mean", "std"))
    logits = model(jnp.asarray((np.asarray(batch["inputs"], np.float32) / 255 - mean) / std))
    targets = 0.7 * jax.nn.one_hot(batch["labels"], 10) + 0.03
    loss = optax.losses.softmax_cross_entropy(logits, targets).mean()
    np.testing.assert_allclose(metrics["loss"][0] / 32, loss, rtol=1e-5)


def test_switching_one_regulariser_on_leaves_the_draws_of_the_others(make_training):
    # Dropout at a rate of zero is in the program and draws, but must not move what augmentation draws.
    with_shift = make_training(augment__shift=1)
    both = make_training(augment__shift=1, model__dropout=0.5)
    state = dataclasses.replace(both.state, hyperparameters=both.state.hyperparameters | {"dropout": jnp.float32(0.0)})
    _, expected = jit_quickly(with_shift.train_step)(with_shift.state, with_shift.batch(0))
    _, metrics = jit_quickly(both.train_step)(state, both.batch(0))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)


@pytest.mark.slow
def test_one_program_serves_all_hyperparameters_and_seeds(make_training):
    training, traces = make_training(**EVERYTHING), []

    @jax.jit
    def step(state, batch):
        traces.append(1)
        return training.train_step(state, batch)

    states = []
    for seed, rate in ((0, 0.1), (1, 0.2), (2, 0.3)):
        values = {name: jnp.float32(rate) for name in training.state.hyperparameters}
        state = training.init(jnp.uint32(seed), values, training.state.preprocessing)
        states.append(step(state, training.batch(0))[0])
    assert len(traces) == 1
    kernels = [np.asarray(state.params["head"]["kernel"]) for state in states]
    assert not np.allclose(kernels[0], kernels[1])


def test_the_metrics_of_no_step_have_the_form_of_those_of_a_step(make_training):
    training = make_training()
    metrics = jax.eval_shape(training.train_step, training.state, training.batch(0))[1]
    zeros = jax.eval_shape(lambda: zero_metrics(training.program))
    assert jax.tree.structure(metrics) == jax.tree.structure(zeros)
    assert jax.tree.leaves(metrics) == jax.tree.leaves(zeros)
