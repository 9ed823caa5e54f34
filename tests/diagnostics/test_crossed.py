"""Intervals over trainings and rows, against published formulas and the two limits in which one of them is fixed."""

import numpy as np
import pytest
from scipy import stats

from diagnostics.crossed import crossed_interval
from diagnostics.statistics import mean_interval

ONES = np.ones(40)


def test_the_variance_is_that_of_the_analysis_of_variance():
    values = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(6) + 3 * np.arange(4)[:, None]
    mean = values.mean()
    seeds, rows = values.mean(axis=1), values.mean(axis=0)
    by_seed = 6 * np.square(seeds - mean).sum() / 3
    by_row = 4 * np.square(rows - mean).sum() / 5
    rest = np.square(values - seeds[:, None] - rows + mean).sum() / 15
    # Searle, Casella & McCulloch 1992, "Variance Components", section 4.4; degrees of Satterthwaite.
    variance = (by_seed + by_row - rest) / 24
    degrees = (24 * variance) ** 2 / (by_seed**2 / 3 + by_row**2 / 5 + rest**2 / 15)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(variance)
    assert crossed_interval(values, np.ones(6)) == pytest.approx((mean, mean - half, mean + half))


def test_where_only_trainings_or_only_rows_vary_it_is_students():
    seeds = np.random.default_rng(1).normal(size=5)
    assert crossed_interval(np.tile(seeds[:, None], 40), ONES) == pytest.approx(mean_interval(seeds))
    rows = np.random.default_rng(2).normal(size=40)
    assert crossed_interval(np.tile(rows, (5, 1)), ONES) == pytest.approx(mean_interval(rows))


def test_rows_of_a_group_count_once_and_rows_without_weight_not_at_all():
    values = np.random.default_rng(3).normal(size=(3, 8)) + np.arange(8)
    alone = crossed_interval(values, np.ones(8))
    assert crossed_interval(np.repeat(values, 5, axis=1), ONES, np.repeat(np.arange(8), 5)) == pytest.approx(alone)
    more = np.concatenate([values, np.full((3, 2), 99.0)], axis=1)
    assert crossed_interval(more, np.array([1.0] * 8 + [0.0] * 2)) == pytest.approx(alone)


def test_one_training_or_one_group_gives_no_interval():
    assert np.isnan(crossed_interval(np.ones((1, 40)), ONES)[1:]).all()
    assert np.isnan(crossed_interval(np.ones((3, 40)), ONES, np.zeros(40))[1:]).all()
    assert np.isnan(crossed_interval(np.ones((3, 40)), 0 * ONES)).all()
    assert crossed_interval(np.zeros((3, 40)), ONES) == (0, 0, 0)


def test_folds_are_widened_for_the_rows_that_trainings_share():
    folds = np.random.default_rng(4).normal(size=5)
    expected = mean_interval(folds, overlap=0.25)
    assert crossed_interval(np.tile(folds, (3, 1)), np.ones(5), overlap=0.25) == pytest.approx(expected)


def test_an_interval_over_rows_alone_takes_two_seeds_for_two_recipes():
    """The former verdict claimed a difference in most comparisons of equal recipes on 50,000 rows."""
    random = np.random.default_rng(5)
    alone = together = 0
    for _ in range(40):
        ease = random.normal(1.5, 1.2, 50_000)
        right = ease + random.normal(0, 0.1, (2, 3, 1)) + random.normal(0, 0.6, (2, 3, 50_000)) > 0
        difference = right[0].astype(float) - right[1]
        _, low, high = mean_interval(difference[0])
        alone += low > 0 or high < 0
        _, low, high = crossed_interval(difference, np.ones(50_000))
        together += low > 0 or high < 0
    assert alone > 20
    assert together <= 6
