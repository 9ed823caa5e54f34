import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from plumbline import UserError
from tests.trainers.conftest import FEATURES
from trainers.durations import Clock, Every
from trainers.run import rules
from trainers.run.rules import Rules, make_rules
from trainers.step import objectives
from trainers.step.pruning import Pruning, PruningState

RULES = Rules(
    total_steps=95,
    log=Every(steps=10),
    evaluate=Every(steps=20),
    checkpoint=Every(steps=30),
    patience=40,
    metric="accuracy",
    sign=1,
    max_skipped=3,
    rolls_back=True,
)


def test_rules_are_those_of_the_config():
    config = defaults.get_config()
    fields = {
        "log_every": "1 epochs",
        "evaluate_every": "10 percent",
        "checkpoint_every": "2 minutes",
        "patience": "",
        "best_metric": "loss",
        "max_skipped": 7,
        "on_divergence": "rollback",
    }
    config.update_from_flattened_dict({f"train.{name}": value for name, value in fields.items()})

    objective = objectives.build("auto", FEATURES, calibration_bins=15)
    made = make_rules(config, Clock(num_examples=320, batch_size=32, total_steps=400), objective)
    assert made == Rules(
        total_steps=400,
        log=Every(steps=10),
        evaluate=Every(steps=40),
        checkpoint=Every(seconds=120.0),
        patience=None,
        metric="loss",
        sign=-1,
        max_skipped=7,
        rolls_back=True,
    )
    assert made.shortest_interval == 10
    config.train.log_every = "10 minutes"
    with pytest.raises(UserError, match=r"train\.log_every: '10 minutes'"):
        make_rules(config, Clock(num_examples=320, batch_size=32, total_steps=400), objective)


@pytest.mark.parametrize(
    ("step", "window"), [(0, (0, 10)), (9, (0, 10)), (10, (10, 20)), (29, (20, 30)), (90, (90, 95)), (94, (90, 95))]
)
def test_a_window_reaches_from_one_event_to_the_next(step, window):
    assert rules.event_window(RULES, step) == window


def test_what_is_due_at_a_step():
    due = {
        step: (rules.is_logged(RULES, step), rules.is_evaluated(RULES, step), rules.is_saved(RULES, step))
        for step in (10, 20, 30, 55, 60, 95)
    }
    assert due == {
        10: (True, False, False),
        20: (True, True, False),
        30: (True, False, True),
        55: (False, False, False),
        60: (True, True, True),
        95: (True, True, False),
    }
    assert [rules.next_evaluation(RULES, step) for step in (0, 20, 80)] == [20, 40, 95]


def test_a_save_is_overdue_by_the_clock_alone():
    by_time = dataclasses.replace(RULES, checkpoint=Every(seconds=60.0))
    assert [rules.is_save_overdue(by_time, seconds) for seconds in (59.9, 60.0)] == [False, True]
    assert not rules.is_saved(by_time, 30)
    assert not rules.is_save_overdue(RULES, 1e9)


@pytest.mark.parametrize(
    ("value", "loss", "best", "expected"),
    [
        (0.5, 1.0, None, True),
        (0.5, 1.0, 0.4, True),
        (0.5, 1.0, 0.5, False),
        (0.5, 1.0, 0.6, False),
        (np.nan, 1.0, None, False),
        (0.5, np.inf, None, False),
    ],
)
def test_the_best_evaluation_is_finite_and_better_than_those_before(value, loss, best, expected):
    assert rules.is_better(RULES, value, loss, best, is_pruned=True) == expected
    assert not rules.is_better(RULES, value, loss, best, is_pruned=False)
    if best is not None and np.isfinite([value, loss]).all():
        lower = dataclasses.replace(RULES, sign=-1)
        assert rules.is_better(lower, value, loss, best, is_pruned=True) == (value < best)


@pytest.mark.parametrize(
    ("step", "best_step", "expected"),
    [(40, None, False), (59, 20, False), (60, 20, True), (79, 40, False), (80, 40, True)],
)
def test_patience_counts_from_the_last_evaluation(step, best_step, expected):
    assert rules.is_out_of_patience(RULES, step, best_step) == expected
    assert not rules.is_out_of_patience(dataclasses.replace(RULES, patience=None), step, best_step)


def test_divergence_is_judged_alike_of_one_training_and_of_many():
    assert [rules.has_diverged(skipped, RULES.max_skipped) for skipped in (2, 3)] == [False, True]
    np.testing.assert_array_equal(rules.has_diverged(np.array([0, 3, 9]), RULES.max_skipped), [False, True, True])


def test_a_training_rolls_back_once_if_it_may():
    assert rules.can_roll_back(RULES, has_rolled_back=False)
    assert not rules.can_roll_back(RULES, has_rolled_back=True)
    assert not rules.can_roll_back(dataclasses.replace(RULES, rolls_back=False), has_rolled_back=False)


def test_parameters_count_as_pruned_where_nothing_is_pruned_or_the_schedule_is_over():
    assert rules.are_pruned(None, ()).all()
    state = PruningState({}, jnp.array([0.5, 1.0]), ())
    np.testing.assert_array_equal(rules.are_pruned(Pruning(weights={}, by_layer=False), state), [False, True])
