import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from diagnostics import statistics

VALUES = np.array([0.91, 0.93, 0.90, 0.95, 0.92])
BASELINE = np.array([0.90, 0.91, 0.90, 0.93, 0.91])


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_mean_has_students_interval(confidence):
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(confidence)
    mean, low, high = statistics.mean_interval(VALUES, confidence)
    assert mean == pytest.approx(VALUES.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_a_paired_difference_is_that_of_the_paired_t_test():
    expected = stats.ttest_rel(VALUES, BASELINE).confidence_interval(0.95)
    difference, low, high = statistics.paired_difference(VALUES, BASELINE)
    assert difference == pytest.approx(0.012)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    # What seeds have in common cancels: the interval is narrower than that of the values.
    assert high - low < np.subtract(*statistics.mean_interval(VALUES)[:0:-1])


def test_pairs_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="5 values cannot be paired with 4"):
        statistics.paired_difference(VALUES, BASELINE[:4])


def test_a_single_value_has_no_bounds_and_none_has_no_mean():
    mean, *bounds = statistics.mean_interval([0.9])
    assert mean == 0.9
    assert np.isnan(bounds).all()
    assert np.isnan(statistics.mean_interval([])).all()


@pytest.mark.parametrize(("right", "count"), [(0, 10), (1, 10), (50, 100), (380, 382), (382, 382)])
def test_a_share_has_the_interval_of_wilson(right, count):
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    share, low, high = statistics.wilson_interval(right, count)
    assert share == right / count
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(statistics.wilson_interval(0, 0)).all()


def test_overlap_widens_the_interval_as_the_corrected_resampled_t_test_does():
    # Bouckaert & Frank 2004, equation 3: t = m / sqrt((1/n + test/train) * s**2).
    _, low, high = statistics.mean_interval(VALUES, overlap=1 / 4)
    half = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * VALUES.var(ddof=1))
    assert (high - low) / 2 == pytest.approx(half)


def test_of_clusters_of_equal_size_the_interval_is_that_of_their_means():
    values = np.random.default_rng(0).normal(size=(7, 20)) + np.arange(7)[:, None]
    clusters = np.repeat(np.arange(7), 20)
    found = statistics.clustered_interval(values.ravel(), clusters, np.ones(140))
    assert found == pytest.approx(statistics.mean_interval(values.mean(axis=1)))


def test_rows_of_weight_zero_and_the_names_of_clusters_do_not_count():
    values, weights = np.array([1.5, 1.5, 4.0, 3.0, 99.0, 99.0]), np.array([1.0, 1.0, 2.0, 2.0, 0.0, 0.0])
    found = statistics.clustered_interval(values, np.array([5, 5, 9, 8, 8, 4]), weights)
    assert found == pytest.approx(statistics.clustered_interval([1.5, 4.0, 3.0], np.arange(3), [2.0, 2.0, 2.0]))


@pytest.mark.parametrize("count", [1, 2])
def test_two_clusters_have_no_interval(count):
    mean, *bounds = statistics.clustered_interval([1.0, 2.0, 4.0], np.arange(3) % count, [1.0, 1.0, 2.0])
    assert mean == pytest.approx(2.75)
    assert np.isnan(bounds).all()


def test_intervals_of_clusters_contain_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    hits, count = 0, 1000
    for _ in range(count):
        values = (random.normal(size=(8, 1)) + 0.3 * random.normal(size=(8, 30))).ravel()
        _, low, high = statistics.clustered_interval(values, np.repeat(np.arange(8), 30), np.ones(240))
        hits += low <= 0 <= high
    # Two in three if rows were taken for independent; three standard errors of 1000 draws are 0.02.
    assert 0.93 <= hits / count <= 0.97


def test_unequal_clusters_have_the_degrees_of_freedom_of_bell_and_mccaffrey():
    random = np.random.default_rng(0)
    counts = np.array([1, 2, 4, 8, 40])
    clusters = np.repeat(np.arange(5), counts)
    # Of alternating signs, so that rows of a cluster are not correlated, and the working model is that of Bell and
    # McCaffrey: independent rows.
    values = np.where(np.arange(55) % 2, 1.0, -1.0) + 0.1 * random.normal(size=55)
    mean, low, high = statistics.clustered_interval(values, clusters, np.ones(55))
    # Bell & McCaffrey 2002 in matrices: CR2 of a regression on a constant.
    residuals, spread, columns = values - values.mean(), 0.0, []
    for cluster in range(5):
        own = clusters == cluster
        size = own.sum()
        values_of, vectors = np.linalg.eigh(np.eye(size) - 1 / 55)
        adjust = vectors @ np.diag(values_of**-0.5) @ vectors.T
        spread += (np.ones(size) @ adjust @ residuals[own] / 55) ** 2
        columns.append(((np.eye(55) - 1 / 55)[:, own] @ adjust @ np.ones(size)) / 55)
    eigenvalues = np.linalg.eigvalsh(np.array(columns) @ np.array(columns).T)
    degrees = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert degrees < 3
    half = stats.t.ppf(0.975, degrees) * np.sqrt(spread)
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))


def test_few_unequal_clusters_are_covered_as_often_as_said():
    random = np.random.default_rng(1)
    hits, count = 0, 1000
    clusters = np.repeat(np.arange(6), [10, 10, 10, 10, 10, 60])
    for _ in range(count):
        values = random.normal(size=6)[clusters] + random.normal(size=110)
        _, low, high = statistics.clustered_interval(values, clusters, np.ones(110))
        hits += low <= 0 <= high
    # 0.86 with one degree of freedom fewer than there are clusters.
    assert hits / count >= 0.93


def test_an_interval_goes_no_further_than_the_values_do():
    assert statistics.mean_interval([0.9, 0.99])[2] > 1
    assert statistics.within(statistics.mean_interval([0.9, 0.99]), 0, 1)[1:] == (pytest.approx(0.3732, abs=1e-4), 1.0)
    assert statistics.within((0.5, -0.2, 0.7), 0, np.inf) == (0.5, 0.0, 0.7)
    assert np.isnan(statistics.within((0.5, np.nan, np.nan), 0, 1)[1:]).all()


def test_without_rows_there_is_no_interval_of_clusters():
    assert np.isnan(statistics.clustered_interval([], np.zeros(0), [])).all()


def test_a_difference_of_shares_has_the_interval_that_newcombe_published():
    # Newcombe 1998, table II, case (a): 56/70 less 48/80, method 10.
    first, second = statistics.wilson_interval(56, 70), statistics.wilson_interval(48, 80)
    found = statistics.difference_interval(first, second)
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_difference_of_means_has_the_interval_of_the_normal_law():
    found = statistics.difference_interval((3.0, 2.0, 4.0), (1.0, 0.0, 2.0))
    assert found == pytest.approx((2.0, 2 - 2**0.5, 2 + 2**0.5))


def test_the_area_is_that_of_scikit_learn_and_its_interval_holds_it():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        positive = np.arange(100) < 40
        scores = random.normal(size=100) + positive
        auc, low, high = statistics.auc_interval(scores, positive)
        assert auc == pytest.approx(metrics.roc_auc_score(positive, scores))
        # Of two normal distributions one deviation apart.
        covered += low <= stats.norm.cdf(1 / np.sqrt(2)) <= high
    assert 0.91 < covered / 300 < 0.985


def test_p_values_are_corrected_as_holm_says():
    # The example of R's p.adjust, method "holm".
    np.testing.assert_allclose(
        statistics.holm(np.array([0.01, 0.02, 0.03, 0.04, 0.05])), [0.05, 0.08, 0.09, 0.09, 0.09]
    )
    np.testing.assert_allclose(statistics.holm(np.array([0.5, 0.001, 0.9])), [1.0, 0.003, 1.0])


def test_the_certain_part_of_an_effect_is_the_bound_nearer_to_zero():
    assert statistics.nearest_to_zero((0.3, 0.1, 0.5)) == 0.1
    assert statistics.nearest_to_zero((-0.3, -0.5, -0.1)) == -0.1
    assert statistics.nearest_to_zero((0.3, -0.1, 0.7)) == 0.0
    assert statistics.negate((0.3, -0.1, 0.7)) == (-0.3, -0.7, 0.1)
