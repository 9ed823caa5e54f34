import math

import numpy as np
import optuna
import pytest
from scipy import stats

from tuning.importances import compute_importances
from tuning.metrics import Metric
from tuning.results import Results
from tuning.trials import TrialRecord

ACCURACY = Metric(name="accuracy", higher_is_better=True)
PARAMETERS = Metric(name="parameters", higher_is_better=False, measured=False)


def record(number, scores, overrides=None, values=None, name="accuracy"):
    return TrialRecord(
        number=number,
        status="done",
        overrides=overrides or {"model.dropout": number / 10},
        values=values or (float(np.mean(scores)),),
        attributes={"scores": {name: list(scores)}, "parameters": 10 * number, "step": 5},
    )


def test_the_interval_of_seeds_is_students():
    scores = [0.9, 0.92, 0.95, 0.91]
    results = Results([record(0, scores)], [ACCURACY], folds=0, seeds=4)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(scores), scale=stats.sem(scores))
    assert results.interval(results.done[0], ACCURACY) == pytest.approx((np.mean(scores), low, high))


def test_the_margin_is_paired_and_says_whether_it_is_noise():
    # What makes a fold hard for both cancels out.
    hard = np.array([0.0, 0.2, 0.1, 0.3, 0.05])
    ahead = [record(0, 0.9 - hard), record(1, 0.89 - hard + [0, 1e-4, 0, -1e-4, 0])]
    margin = Results(ahead, [ACCURACY], folds=5, seeds=1).margin()
    assert (margin.winner, margin.second, margin.within_noise) == (0, 1, False)
    assert margin.difference[0] == pytest.approx(0.01)
    level = [record(0, [0.9, 0.8, 0.9]), record(1, [0.8, 0.9, 0.88])]
    assert Results(level, [ACCURACY], folds=3, seeds=1).margin().within_noise
    assert Results([record(0, [0.9]), record(1, [0.1])], [ACCURACY], folds=0, seeds=1).margin().within_noise


def test_the_margin_of_a_loss_counts_the_other_way():
    loss = Metric(name="loss", higher_is_better=False)
    records = [record(number, [0.1 + number, 0.11 + number, 0.1 + number], name="loss") for number in (1, 0)]
    margin = Results(records, [loss], folds=3, seeds=1).margin()
    assert (margin.winner, margin.second) == (0, 1)
    assert margin.difference[0] == pytest.approx(1.0)


def test_the_best_of_many_equal_trials_looks_better_than_it_is_but_not_on_folds_without_a_say():
    random = np.random.default_rng(0)
    best, held_out = [], []
    for _ in range(200):
        # No trial is better than another: all differences are chance, and all are worth 0.8.
        scores = 0.8 + 0.05 * random.standard_normal((64, 2 * 5))
        results = Results([record(n, row) for n, row in enumerate(scores)], [ACCURACY], folds=5, seeds=2)
        best.append(results.done[0].values[0])
        held_out.append(results.held_out()[0])
    assert np.mean(best) > 0.83
    error = stats.sem(held_out)
    assert abs(np.mean(held_out) - 0.8) < 4 * error < 0.01


def test_the_fold_that_is_judged_has_no_say_in_ties():
    random = np.random.default_rng(0)
    found, hits = [], 0
    for _ in range(400):
        # Of 64 trials that are all worth 0.8, on folds of 10 rows, many are equal on the other folds.
        scores = random.binomial(10, 0.8, (64, 5)) / 10
        mean, low, high = Results(
            [record(n, row) for n, row in enumerate(scores)], [ACCURACY], folds=5, seeds=1
        ).held_out()
        found.append(mean)
        hits += low <= 0.8 <= high
    # 0.84 if the best on all folds wins ties.
    assert abs(np.mean(found) - 0.8) < 4 * stats.sem(found) < 0.017
    assert hits / 400 >= 0.9


def test_a_trial_that_is_truly_better_is_chosen_on_every_fold():
    scores = np.full((3, 4), 0.5)
    scores[1] = [0.9, 0.8, 0.7, 0.6]
    results = Results([record(n, row) for n, row in enumerate(scores)], [ACCURACY], folds=2, seeds=2)
    mean, low, high = results.held_out()
    assert mean == pytest.approx(0.75)
    # Two folds have no interval.
    assert np.isnan([low, high]).all()
    assert Results([record(0, [0.5])], [ACCURACY], folds=0, seeds=1).held_out() is None


def test_the_front_holds_what_no_other_trial_beats():
    values = [(0.9, 100.0), (0.8, 10.0), (0.85, 200.0), (0.9, 90.0), (0.7, 10.0)]
    records = [record(n, [value[0]], values=value) for n, value in enumerate(values)]
    results = Results(records, [ACCURACY, PARAMETERS], folds=0, seeds=1)
    assert {r.number for r in results.front()} == {1, 3}


def compute(count, *, seed=0, matters=True):
    """Of a study in which only the dropout matters, or nothing."""
    study, random = optuna.create_study(direction="maximize"), np.random.default_rng(seed)
    unit, records = optuna.distributions.FloatDistribution(0, 1), []
    for number in range(count):
        drawn = {"model.dropout": random.random(), "optimizer.b1": random.random()}
        value = -abs(drawn["model.dropout"] - 0.3) if matters else random.normal()
        study.add_trial(optuna.create_trial(params=drawn, distributions=dict.fromkeys(drawn, unit), value=value))
        records.append(record(number, [value], drawn))
    results = Results(records, [ACCURACY], folds=0, seeds=1)
    return compute_importances(study, results)


def test_importances_need_enough_finished_trials():
    assert compute(19).startswith("no importances: too few trials (19 finished; fewer than 20")
    found = compute(20)
    assert found.shares["model.dropout"] > 0.8
    assert found.above_chance == ("model.dropout",)


def test_where_nothing_matters_no_importance_is_above_chance():
    found = [compute(24, seed=seed, matters=False) for seed in range(8)]
    # The largest share is more than a half all the same.
    assert all(next(iter(each.shares.values())) > 0.5 for each in found)
    assert sum(bool(each.above_chance) for each in found) <= 1


def test_one_value_has_no_interval():
    results = Results([record(0, [0.9])], [ACCURACY], folds=0, seeds=1)
    mean, low, high = results.interval(results.done[0], ACCURACY)
    assert mean == 0.9
    assert math.isnan(low)
    assert math.isnan(high)
