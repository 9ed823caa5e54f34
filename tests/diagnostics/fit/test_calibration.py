import numpy as np
import pytest

from data.features import Features
from diagnostics.fit.calibration import measure

FEATURES = Features(kind="table", shape=(1,), dtype="float32", task="classification", class_names=("a", "b", "c"))


def drawn(sharper, count=600, seed=0):
    """Probabilities of a model that is surer than it should be by this power, and labels by the true ones."""
    random = np.random.default_rng(seed)
    true = random.dirichlet([0.7] * 3, count)
    labels = np.array([random.choice(3, p=row) for row in true])
    said = true**sharper
    return (said / said.sum(axis=1, keepdims=True))[None], labels


def measured(probabilities, labels, weights=None):
    weights = np.ones(len(labels)) if weights is None else weights
    return measure(probabilities, labels, weights, FEATURES, bins=10, seed=0)


def by_hand(probabilities, labels, weights):
    """Guo et al. 2017, equation 3."""
    confidence, right = probabilities[0].max(axis=1), probabilities[0].argmax(axis=1) == labels
    error = 0.0
    for low in np.arange(10) / 10:
        own = (confidence > low) & (confidence <= low + 0.1)
        if weights[own].sum():
            gap = np.average(right[own], weights=weights[own]) - np.average(confidence[own], weights=weights[own])
            error += weights[own].sum() / weights.sum() * abs(gap)
    return error


def test_the_error_is_that_of_the_definition_with_weights():
    probabilities, labels = drawn(2.0)
    weights = np.random.default_rng(1).integers(1, 4, len(labels)).astype(float)
    for each in (np.ones(len(labels)), weights):
        assert measured(probabilities, labels, each).error[0] == pytest.approx(
            by_hand(probabilities, labels, each), abs=1e-5
        )


def test_a_model_that_is_right_as_often_as_it_says_is_within_chance():
    within = [(found := measured(*drawn(1.0, seed=seed))).error[0] <= found.by_chance for seed in range(5)]
    assert sum(within) >= 4


def test_a_model_that_is_too_sure_is_beyond_chance_and_its_interval_too():
    found = measured(*drawn(4.0))
    assert found.error[1] > found.by_chance > 0
    confidence, right, count = found.bins.T
    assert np.average(confidence - right, weights=count) > 0.1
    assert count.sum() == pytest.approx(600)
