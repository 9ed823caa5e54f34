"""Dropout and stochastic depth do what their papers say, with rates that are data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.regularization import Regularization, depth_share, drop_path, dropout

KEY = jax.random.key(7)


def test_dropout_keeps_the_expectation_and_drops_the_share():
    dropped = np.asarray(dropout(jnp.full((400, 500), 2.0), 0.3, KEY))
    standard_error = (0.3 * 0.7 / dropped.size) ** 0.5
    assert abs((dropped == 0).mean() - 0.3) < 5 * standard_error
    assert abs(dropped.mean() - 2.0) < 5 * 2.0 * standard_error / 0.7
    np.testing.assert_allclose(dropped[dropped != 0], 2.0 / 0.7, rtol=1e-6)


def test_drop_path_drops_whole_examples():
    branch = jax.random.uniform(KEY, (2000, 3, 5), minval=1.0, maxval=2.0)
    dropped = np.asarray(drop_path(branch, 0.25, jax.random.key(8)))
    kept = (dropped != 0).all(axis=(1, 2))
    np.testing.assert_array_equal(kept, (dropped != 0).any(axis=(1, 2)))
    assert abs(kept.mean() - 0.75) < 5 * (0.25 * 0.75 / 2000) ** 0.5
    np.testing.assert_allclose(dropped[kept], np.asarray(branch)[kept] / 0.75, rtol=1e-6)


@pytest.mark.parametrize("regularizer", [dropout, drop_path])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_program_serves_all_rates_and_rate_0_changes_no_bit(regularizer, dtype):
    values = jax.random.normal(KEY, (64, 33)).astype(dtype)
    compiled = jax.jit(lambda *arguments: regularizer(*arguments))
    np.testing.assert_array_equal(compiled(values, jnp.float32(0.0), KEY), values)
    np.testing.assert_array_equal(compiled(values, jnp.float32(1.0), KEY), jnp.zeros_like(values))
    assert compiled(values, jnp.float32(0.5), KEY).dtype == dtype
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("regularizer", [dropout, drop_path])
def test_gradient_at_rate_1_is_zero_and_no_nan(regularizer):
    gradient = jax.grad(lambda values: regularizer(values, 1.0, KEY).sum())(jnp.ones((4, 4)))
    np.testing.assert_array_equal(gradient, np.zeros((4, 4)))


def test_adding_a_regularizer_leaves_the_randomness_of_the_other_alone():
    values = jnp.ones((64, 16))
    rates = {"dropout": 0.5, "stochastic_depth": 0.5}
    both = Regularization.from_arguments(training=True, key=KEY, **rates)
    only_dropout = Regularization.from_arguments(training=True, key=KEY, dropout=0.5)
    only_depth = Regularization.from_arguments(training=True, key=KEY, stochastic_depth=0.5)
    np.testing.assert_array_equal(both.drop_units(values, 3), only_dropout.drop_units(values, 3))
    np.testing.assert_array_equal(both.drop_branch(values, 3, 1.0), only_depth.drop_branch(values, 3, 1.0))
    assert only_depth.drop_units(values, 3) is values
    assert only_dropout.drop_branch(values, 3, 1.0) is values


def test_layers_draw_differently_and_a_traced_layer_like_a_fixed_one():
    values = jnp.ones((64, 16))
    regularization = Regularization.from_arguments(training=True, key=KEY, dropout=0.5)
    traced = jax.jit(lambda layer: regularization.drop_units(values, layer))
    np.testing.assert_array_equal(traced(2), regularization.drop_units(values, 2))
    assert not np.array_equal(traced(1), traced(2))


def test_stochastic_depth_grows_linearly_to_the_full_rate():
    np.testing.assert_allclose([depth_share(block, 4) for block in range(4)], [0.25, 0.5, 0.75, 1.0])


def test_nothing_is_dropped_outside_training():
    values = jnp.ones((8, 4))
    regularization = Regularization.from_arguments(training=False, key=KEY, dropout=0.5, stochastic_depth=0.5)
    assert regularization.drop_units(values, 0) is values
    assert regularization.drop_branch(values, 0, 1.0) is values


def test_a_rate_without_a_key_is_refused():
    with pytest.raises(ValueError, match="need a key in training"):
        Regularization.from_arguments(training=True, key=None, dropout=0.1)
