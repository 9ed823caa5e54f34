import numpy as np
import pytest

from data import order


def test_order_is_a_pure_function_of_seed_and_step():
    forward = [order.positions(11, 4, 7, step) for step in range(20)]
    order.epoch_permutation.cache_clear()
    backward = [order.positions(11, 4, 7, step) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forward, backward)
    np.testing.assert_array_equal(order.positions(11, 4, 7, 3, 10), np.concatenate(forward[3:13]))
    assert not np.array_equal(forward[0], order.positions(11, 4, 8, 0))


@pytest.mark.parametrize("batch_size", [1, 4, 11, 25])
def test_each_example_comes_once_an_epoch(batch_size):
    stream = np.concatenate([order.positions(11, batch_size, 3, step) for step in range(60)])
    epochs = stream[: len(stream) // 11 * 11].reshape(-1, 11)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.broadcast_to(np.arange(11), epochs.shape))
    assert len(np.unique(epochs, axis=0)) > 1


def test_epochs_are_philox_permutations_keyed_by_seed_and_epoch():
    key = np.array([5, 2], np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).permutation(100)
    np.testing.assert_array_equal(order.epoch_permutation(100, 5, 2), expected)
