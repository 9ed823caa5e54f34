import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV

from tuning import pruning


class Known(ClassifierMixin, BaseEstimator):
    """A classifier whose score is its own parameter."""

    def __init__(self, quality=0.0, steps=1):
        self.quality, self.steps = quality, steps

    def fit(self, inputs, labels):
        self.classes_ = np.unique(labels)
        return self

    def score(self, inputs, labels):
        return self.quality


@pytest.mark.parametrize("trials", [1, 2, 3, 8, 9, 26, 27, 28, 64, 100, 243])
@pytest.mark.parametrize("steps", [5, 81, 100, 1620])
def test_the_rungs_of_halving_equal_scikit_learns(trials, steps):
    search = HalvingRandomSearchCV(
        Known(),
        {"quality": np.linspace(0, 1, trials)},
        n_candidates=trials,
        resource="steps",
        max_resources=steps,
        min_resources="exhaust",
        factor=pruning.FACTOR,
        cv=2,
        refit=False,
        random_state=0,
    )
    search.fit(np.zeros((8, 1)), np.arange(8) % 2)
    rungs = pruning.halving(trials, steps)
    assert [rung.candidates for rung in rungs] == search.n_candidates_
    assert [rung.resources for rung in rungs] == search.n_resources_


def test_the_trials_that_halving_keeps_are_scikit_learns():
    qualities = np.random.default_rng(0).permutation(np.linspace(0, 1, 64))
    search = HalvingRandomSearchCV(
        Known(),
        {"quality": qualities},
        n_candidates=64,
        resource="steps",
        max_resources=270,
        min_resources="exhaust",
        cv=2,
        refit=False,
        random_state=0,
    )
    search.fit(np.zeros((8, 1)), np.arange(8) % 2)
    live = set(range(64))
    for number, rung in enumerate(pruning.halving(64, 270)):
        live = pruning.select_best({n: qualities[n] for n in live}, rung.candidates, higher_is_better=True)
        here = search.cv_results_["iter"] == number
        assert sorted(qualities[n] for n in live) == sorted(search.cv_results_["param_quality"][here])


def test_the_brackets_of_hyperband_are_those_of_the_paper():
    # Li et al. 2018, table 1: R = 81, eta = 3.
    paper = [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    found = pruning.hyperband(143, 81)
    assert [[(rung.candidates, rung.resources) for rung in bracket.rungs] for bracket in found] == paper


@pytest.mark.parametrize("trials", [1, 4, 5, 16, 17, 64, 500])
def test_hyperband_shares_out_every_trial_and_ends_each_bracket_with_whole_trainings(trials):
    brackets = pruning.hyperband(trials, 1000)
    assert sum(bracket.trials for bracket in brackets) == trials
    assert all(bracket.rungs[0].candidates == bracket.trials for bracket in brackets)
    assert all(bracket.rungs[-1].resources == 1000 for bracket in brackets)


def test_the_best_are_kept_in_either_direction_and_ties_go_to_the_older():
    values = {3: 0.5, 1: 0.9, 2: 0.5, 7: 0.1}
    assert pruning.select_best(values, 2, higher_is_better=True) == {1, 2}
    assert pruning.select_best(values, 2, higher_is_better=False) == {7, 2}


def test_the_median_stops_the_worse_half_of_all_that_came_so_far():
    values = {0: 0.1, 1: 0.2, 2: 0.3}
    assert pruning.select_not_below_median(values, [], higher_is_better=True) == {1, 2}
    assert pruning.select_not_below_median(values, [], higher_is_better=False) == {0, 1}
    assert pruning.select_not_below_median(values, [0.25, 0.26, 0.27], higher_is_better=True) == {2}


def test_without_a_pruner_a_training_has_no_rungs_but_its_end():
    (bracket,) = pruning.make_brackets("none", 7, 100, 10)
    assert bracket == pruning.Bracket(7, (pruning.Rung(None, 100),))
    (bracket,) = pruning.make_brackets("median", 7, 100, 30)
    assert [rung.resources for rung in bracket.rungs] == [30, 60, 90, 100]
