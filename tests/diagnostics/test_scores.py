import numpy as np
import pytest
from sklearn import metrics

from diagnostics import scores
from diagnostics.statistics import wilson_interval


def test_rows_are_right_or_not_and_without_a_prediction_unknown():
    predictions = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [np.nan, np.nan]]])
    found = scores.by_row(predictions, np.array([0, 1]), "classification")
    np.testing.assert_array_equal(found, [[1, 1], [0, np.nan]])


def test_of_a_regression_the_mean_over_rows_is_the_mean_squared_error():
    random = np.random.default_rng(0)
    labels, predictions = random.normal(size=50).astype(np.float32), random.normal(size=(50, 1)).astype(np.float32)
    found = scores.by_row(predictions, labels, "regression")
    assert found.mean() == pytest.approx(metrics.mean_squared_error(labels, predictions[:, 0]), rel=1e-5)


def test_rows_of_equal_weight_have_the_interval_of_wilson_and_others_count_for_fewer():
    right = np.array([1.0, 1, 0, 1, 1, 0, 1, 1])
    assert scores.share_interval(right, np.ones(8)) == pytest.approx(wilson_interval(6, 8))
    _, low, high = scores.share_interval(right, np.array([1.0, 1, 1, 1, 1, 1, 5, 5]))
    assert high - low > np.diff(wilson_interval(6, 8)[1:])[0]
    assert np.isnan(scores.share_interval(right, np.zeros(8))).all()


def test_errors_and_scores_are_turned_into_each_other_with_their_bounds():
    accuracy, squared = scores.Score("classification"), scores.Score("regression")
    assert accuracy.interval((0.1, 0.05, 1.2)) == pytest.approx((0.9, 0.0, 0.95))
    assert squared.interval((0.1, -0.05, 1.2)) == pytest.approx((0.1, 0.0, 1.2))
    assert accuracy.range((0.9, 0.85, 0.95)) == "0.90 (0.85 to 0.95)"


def test_an_interval_of_accuracy_has_two_digits_of_its_width():
    score = scores.Score("classification")
    assert score.range((0.92341, 0.86782, 0.96944)) == "0.92 (0.87 to 0.97)"
    assert score.range((0.92341, 0.92012, 0.92744)) == "0.9234 (0.9201 to 0.9274)"
    assert score.range((0.92341, np.nan, np.nan)) == "0.9234 (nan to nan)"


def test_a_share_of_rows_in_groups_is_never_more_certain_than_of_independent_rows():
    groups, ones = np.repeat(np.arange(4), 5), np.ones(20)
    assert scores.mean_of_rows(ones, ones, groups, are_shares=True) == pytest.approx(wilson_interval(20, 20))
    apart = np.repeat([1.0, 1.0, 0.0, 1.0], 5)
    _, low, high = scores.mean_of_rows(apart, ones, groups, are_shares=True)
    assert high - low > np.diff(wilson_interval(15, 20)[1:])[0]
