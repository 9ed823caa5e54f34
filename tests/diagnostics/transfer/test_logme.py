"""LogME against the density of the targets, written down and maximised by someone else's optimiser."""

import numpy as np
import pytest
from scipy import optimize, stats

from diagnostics.transfer.logme import indicators, interval, log_maximum_evidence


def by_density(features, target):
    """The marginal likelihood of You et al. 2021, equation 2: y ~ N(0, I / beta + F F^T / alpha)."""
    count = len(target)

    def negative(logs):
        alpha, beta = np.exp(logs)
        covariance = np.eye(count) / beta + features @ features.T / alpha
        logarithm = np.linalg.slogdet(2 * np.pi * covariance)[1]
        return 0.5 * (logarithm + target @ np.linalg.solve(covariance, target))

    starts = [(a, b) for a in (-4, 0, 4) for b in (-2, 1, 4)]
    found = [optimize.minimize(negative, start, method="L-BFGS-B", bounds=[(-14, 14)] * 2) for start in starts]
    return -min(result.fun for result in found) / count


def made(count, size, noise, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, size)) * np.geomspace(0.2, 3.0, size)
    return features, features @ generator.normal(size=size) + noise * generator.normal(size=count)


@pytest.mark.parametrize(("count", "size", "noise"), [(40, 7, 0.5), (40, 7, 20.0), (30, 30, 2.0), (20, 45, 1.0)])
def test_a_regression_is_the_maximised_density(count, size, noise):
    features, target = made(count, size, noise)
    assert log_maximum_evidence(features, target) == pytest.approx(by_density(features, target), abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_classes_are_the_mean_over_their_indicators(shift):
    generator = np.random.default_rng(1)
    labels = np.array([0, 1, 3] * 15)
    features = generator.normal(size=(45, 6)) + shift + np.eye(6)[labels]
    expected = np.mean([by_density(features, (labels == label).astype(float)) for label in (0, 1, 3)])
    assert log_maximum_evidence(features, indicators(labels)) == pytest.approx(expected, abs=1e-5)


def test_features_that_say_more_of_the_classes_score_higher():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 4, 400)
    noise = generator.normal(size=(400, 8))
    scores = [log_maximum_evidence(noise + signal * np.eye(8)[labels], indicators(labels)) for signal in (0, 1, 2, 4)]
    assert scores == sorted(scores)
    assert scores[-1] - scores[0] > 0.2


def test_scaling_and_turning_features_changes_nothing():
    features, target = made(50, 6, 1.0)
    turned = features @ stats.special_ortho_group(6, seed=3).rvs() * 1e-4
    assert log_maximum_evidence(turned, target) == pytest.approx(log_maximum_evidence(features, target), abs=1e-7)
    wider = np.concatenate([features, features[:, :2]], axis=1).astype(np.float32)
    assert np.isfinite(log_maximum_evidence(wider, target))


@pytest.mark.parametrize("features", [np.zeros((12, 3)), np.ones((12, 1))])
def test_features_that_say_nothing_leave_the_density_of_the_targets_alone(features):
    target = np.tile([1.0, -1.0], 6)
    # beta is 1: the density of each is that of N(0, 1) at 1.
    assert log_maximum_evidence(features, target) == pytest.approx(stats.norm.logpdf(1.0), abs=1e-5)


def test_targets_that_the_features_hold_give_a_number_and_those_without_rows_are_left_out():
    features, target = made(30, 4, 0.0)
    assert 5 < log_maximum_evidence(features, target) < 50
    both = np.stack([target, np.zeros(30)], axis=1)
    assert log_maximum_evidence(features, both) == log_maximum_evidence(features, target)


def test_the_interval_is_that_of_leaving_folds_out_and_holds_what_more_rows_say():
    all_features, all_targets = made(20_000, 5, 2.0)
    features, target = all_features[:600], all_targets[:600]
    folds = np.array_split(np.random.default_rng(4).permutation(600), 5)
    estimate, low, high = interval(features, target, folds)
    assert estimate == pytest.approx(log_maximum_evidence(features, target), abs=1e-9)
    without = [log_maximum_evidence(np.delete(features, rows, 0), np.delete(target, rows)) for rows in folds]
    error = np.sqrt(4 / 5 * np.square(without - np.mean(without)).sum())
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 4) * error, rel=1e-6)
    assert low < log_maximum_evidence(all_features, all_targets) < high
