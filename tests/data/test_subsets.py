import numpy as np
import pytest

from data import subsets
from plumbline import UserError


@pytest.mark.parametrize(
    ("rows", "count", "classes", "expected"),
    [
        (50_000, 8, 10, [391, 781, 1562, 3125, 6250, 12500, 25000, 50000]),
        (1280, 8, 10, [113, 160, 226, 320, 453, 640, 905, 1280]),
        (1280, 4, 0, [160, 320, 640, 1280]),
    ],
)
def test_sizes_shrink_by_a_factor_from_all_rows(rows, count, classes, expected):
    assert subsets.choose_sizes(rows, count, classes) == expected


@pytest.mark.parametrize(("rows", "count"), [(50_000, 8), (1280, 8), (150, 8), (311, 5), (4000, 12)])
def test_the_half_is_among_the_sizes(rows, count):
    found = subsets.choose_sizes(rows, count, 3)
    assert round(rows / 2) in found
    assert sorted(set(found)) == found
    assert len(found) == count
    assert found[0] >= 32


def test_too_few_rows_are_an_error():
    with pytest.raises(UserError, match=r"--sizes: 8 given, but 40 training rows .* at least 32 rows each"):
        subsets.choose_sizes(40, 8)
    with pytest.raises(UserError, match="at least 200 rows each"):
        subsets.choose_sizes(300, 8, 100)


def test_the_beginnings_of_an_order_keep_the_shares_of_classes():
    labels = np.random.default_rng(0).choice(3, 1000, p=[0.6, 0.3, 0.1]).astype(np.int32)
    order = subsets.nested_order(labels, seed=0)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    shares = np.bincount(labels) / 1000
    for size in range(10, 1000, 7):
        assert np.abs(np.bincount(labels[order[:size]], minlength=3) - size * shares).max() <= 1.5


def test_seeds_draw_other_subsets_and_values_of_a_regression_do_not_count():
    labels = np.zeros(100, np.int32)
    first, second = (subsets.nested_order(labels, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(subsets.nested_order(labels, seed=0), first)
    values = np.linspace(0, 1, 100, dtype=np.float32)
    np.testing.assert_array_equal(
        subsets.nested_order(values, seed=0), subsets.nested_order(values[::-1].copy(), seed=0)
    )


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_subsets_of_the_first_seeds_begin_far_apart(count):
    places = np.sort([subsets.spread(number, 1000) for number in range(count)])
    gaps = np.diff(np.append(places, places[0] + 1000))
    assert gaps.min() > 0.6 * 1000 / count
