import numpy as np
import pytest

from configs import defaults
from data.pool import load_pool


def make(source, **changes):
    config = defaults.get_config()
    config.data.source = source
    config.data.update(changes)
    return load_pool(config.data, seed=0)


@pytest.mark.parametrize("source", ["sklearn:wine", "sklearn:diabetes", "digits"])
def test_appended_rows_are_copies_with_labels_of_their_own_in_no_split(source):
    pool = make(source)
    chosen = np.array([5, 3, 5])
    labels = pool.labels[[8, 9, 10]]
    longer, copies = pool.with_copies(chosen, labels)
    assert copies.tolist() == [len(pool.rows) + n for n in range(3)]
    np.testing.assert_array_equal(longer.inputs[copies], pool.inputs[chosen])
    np.testing.assert_array_equal(longer.labels[copies], labels)
    np.testing.assert_array_equal(longer.weights[copies], pool.weights[chosen])
    np.testing.assert_array_equal(longer.rows[copies], pool.rows[chosen])
    assert longer.labels.dtype == pool.labels.dtype
    assert (longer.groups is None) == (pool.groups is None)
    # The rows that were there stay as they were.
    np.testing.assert_array_equal(longer.labels[: len(pool.rows)], pool.labels)
    assert not np.isin(copies, np.concatenate(list(longer.splits.values()))).any()
    assert {name: rows.tolist() for name, rows in longer.splits.items()} == {
        name: rows.tolist() for name, rows in pool.splits.items()
    }


def test_what_is_appended_goes_into_the_fingerprint_and_weights_may_be_given():
    pool = make("sklearn:wine")
    one, copies = pool.with_copies(np.array([0, 1]), np.array([1, 2]), np.array([0.5, 0.0]))
    other, _ = pool.with_copies(np.array([0, 1]), np.array([2, 1]), np.array([0.5, 0.0]))
    again, _ = pool.with_copies(np.array([0, 1]), np.array([1, 2]), np.array([0.5, 0.0]))
    assert one.weights[copies].tolist() == [0.5, 0.0]
    assert one.fingerprint == again.fingerprint
    assert len({pool.fingerprint, one.fingerprint, other.fingerprint}) == 3
