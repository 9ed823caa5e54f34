import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.metrics import pairwise

from diagnostics.quality import two_sample


def samples(seed, *, moved=0.0, size=60, dimensions=5):
    """Two samples of normal rows, of which the second is moved in one dimension; and which rows are of it."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(2 * size, dimensions)).astype(np.float32)
    vectors[size:, 0] += moved
    return vectors, np.repeat([False, True], size)


def test_the_mmd_is_that_of_its_definition():
    vectors, second = samples(0, moved=1.0)
    vectors = np.concatenate([vectors, vectors[:30] + 1])
    second = np.concatenate([second, np.repeat(True, 30)])
    squared, p_value = two_sample.mmd_test(vectors, second, permutations=99)
    # Gretton et al. 2012, lemma 6, by loops over scikit-learn's kernel.
    distances = pairwise.euclidean_distances(vectors, squared=True)
    median = np.median(distances[np.triu_indices(len(vectors), 1)])
    kernel = pairwise.rbf_kernel(vectors, gamma=1 / (2 * median))
    inside = [kernel[np.ix_(side, side)] for side in (~second, second)]
    means = [(each.sum() - len(each)) / (len(each) * (len(each) - 1)) for each in inside]
    assert squared == pytest.approx(sum(means) - 2 * kernel[np.ix_(~second, second)].mean(), abs=1e-6)
    assert p_value == 1 / 100


def test_a_large_sample_takes_several_blocks_and_gives_the_same():
    vectors, second = samples(1, moved=0.3, size=700)
    distances = pairwise.euclidean_distances(vectors.astype(np.float64), squared=True)
    squared, _ = two_sample.mmd_test(vectors, second, permutations=9)
    # The median is of a part of the rows, so the width differs a little.
    kernel = np.exp(-distances / (2 * np.median(distances)))
    means = [(kernel[np.ix_(s, s)].sum() - 700) / (700 * 699) for s in (second, ~second)]
    assert squared == pytest.approx(sum(means) - 2 * kernel[np.ix_(~second, second)].mean(), rel=0.05)


def test_rows_that_are_all_alike_do_not_differ():
    vectors, second = np.ones((50, 3), np.float32), np.arange(50) < 20
    assert two_sample.mmd_test(vectors, second) == (0.0, 1.0)
    result = two_sample.classifier_test(vectors, second)
    assert (result.auc[0], result.p_value) == (0.5, 1.0)


def test_the_classifier_is_judged_on_rows_it_was_not_trained_on():
    vectors, second = samples(2, moved=3.0)
    result = two_sample.classifier_test(vectors, second, permutations=199)
    assert len(result.rows) == 60
    assert result.auc[0] == pytest.approx(metrics.roc_auc_score(second[result.rows], result.scores))
    assert result.auc[0] > 0.9
    assert result.p_value == 1 / 200
    # Of pure noise, a forest memorises its training rows.
    assert two_sample.classifier_test(*samples(3)).auc[0] < 0.7


def test_shares_and_values_are_tested_as_scipy_does():
    counts = np.array([[30, 20, 50, 0], [20, 30, 40, 0]])
    size, p_value = two_sample.chi_squared_test(counts)
    assert p_value == pytest.approx(stats.chi2_contingency(counts[:, :3]).pvalue)
    assert size == pytest.approx((abs(30 / 100 - 20 / 90) + abs(20 / 100 - 30 / 90) + abs(50 / 100 - 40 / 90)) / 2)
    # Where counts are small: Fisher's exact test.
    small = np.array([[8, 2], [1, 5]])
    exact = stats.fisher_exact(small).pvalue
    assert two_sample.chi_squared_test(small, permutations=9999)[1] == pytest.approx(exact, abs=0.01)
    assert two_sample.chi_squared_test(np.array([[5, 0], [9, 0]])) == (0.0, 1.0)
    values = np.random.default_rng(0).normal(size=(2, 80))
    expected = stats.ks_2samp(*values, method="asymp")
    assert two_sample.ks_test(*values) == (expected.statistic, expected.pvalue)
    # Nothing but the gaps differs.
    values[1, :40] = np.nan
    assert two_sample.ks_test(*values)[0] >= 0.5


def test_power_rises_with_the_shift():
    powers = []
    for moved in (0.0, 0.5, 1.5):
        drawn = [samples(seed, moved=moved) for seed in range(12)]
        found = [two_sample.mmd_test(*each, permutations=99)[1] <= 0.05 for each in drawn]
        result = [two_sample.classifier_test(*each, permutations=99).p_value <= 0.05 for each in drawn[:6]]
        powers.append((np.mean(found), np.mean(result)))
    assert powers[0][0] <= powers[1][0] <= powers[2][0] == 1
    assert powers[0][1] <= powers[1][1] <= powers[2][1] == 1
    assert powers[0][0] < 0.3 < powers[1][0]


@pytest.mark.slow
def test_p_values_are_uniform_without_a_shift():
    drawn = [samples(seed) for seed in range(200)]
    discrepancies = [two_sample.mmd_test(*each, seed=seed, permutations=199)[1] for seed, each in enumerate(drawn)]
    classifiers = [
        two_sample.classifier_test(*each, seed=seed, permutations=199).p_value for seed, each in enumerate(drawn)
    ]
    for found in (discrepancies, classifiers):
        # P-values come in steps of 1/200: spread over each step, they are uniform.
        smoothed = np.array(found) - np.random.default_rng(0).random(200) / 200
        assert stats.kstest(smoothed, "uniform").pvalue > 0.01
        assert np.mean(np.array(found) <= 0.05) < 0.1


def test_permuting_whole_groups_allows_for_the_differences_of_groups():
    random = np.random.default_rng(0)
    by_rows, by_groups = [], []
    for _ in range(20):
        groups = np.repeat(np.arange(12), 10)
        vectors = (random.normal(size=(12, 3))[groups] + 0.5 * random.normal(size=(120, 3))).astype(np.float32)
        second = groups >= 9
        by_rows.append(two_sample.mmd_test(vectors, second, permutations=99)[1])
        by_groups.append(two_sample.mmd_test(vectors, second, groups=groups, permutations=99)[1])
    # Permuted rows call that a shift nearly always, permuted groups as rarely as promised.
    assert np.mean(np.array(by_rows) <= 0.05) > 0.5
    assert np.mean(np.array(by_groups) <= 0.05) < 0.25
