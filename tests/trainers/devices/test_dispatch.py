import dataclasses
import json

import jax
import numpy as np
import pytest

from data.batches import TrainBatches
from data.split import ArrayReader, Split
from plumbline import UserError
from trainers.devices import execution_plan
from trainers.devices.dispatch import Dispatcher
from trainers.devices.execution_plan import Plan, Trial, judge_trial, make_plan
from trainers.devices.mesh import data_mesh
from trainers.devices.sharding import state_shardings
from trainers.devices.step_programs import StepPrograms
from trainers.step.train_step import zero_metrics


def batches_of(training):
    count = len(training.labels)
    split = Split(
        labels=training.labels,
        groups=None,
        weights=np.ones(count, np.float32),
        rows=np.arange(count),
        reader=ArrayReader(training.inputs, np.arange(count)),
    )
    return TrainBatches(split, batch_size=training.config.train.batch_size, seed=0)


def dispatcher_of(training, plan, steps, write_plan=lambda plan: None):
    mesh = data_mesh(jax.devices()[:1])
    shardings = state_shardings(training.program, mesh, training.state)
    size = training.config.train.batch_size
    programs = StepPrograms(training.train_step, mesh, shardings, batch_size=size, mode="jit")
    spent = lambda name, seconds: None  # noqa: E731
    return Dispatcher(programs, batches_of(training), plan, steps, write_plan=write_plan, add_seconds=spent)


def run(training, plan, steps, events=(0,)):
    plans = []
    dispatcher = dispatcher_of(training, plan, steps, plans.append)
    state, running, step = training.state, zero_metrics(training.program), 0
    state = jax.tree.map(lambda leaf: leaf.copy(), state)
    while step < steps:
        bounds = [*events, steps]
        window = max(e for e in bounds if e <= step), min(e for e in bounds if e > step)
        state, running, step = dispatcher.advance(state, running, step, window)
    return state, running, plans


@pytest.mark.slow
def test_scanned_steps_equal_single_ones(make_training, assert_trees_equal):
    training = make_training(model__dropout=0.2, augment__mixup=0.2, train__ema_decay=0.9)
    single, single_metrics, _ = run(training, make_plan("loop", 4, 100), 11)
    scanned, scanned_metrics, _ = run(training, make_plan("scan", 4, 100), 11)
    assert_trees_equal(scanned, single, rtol=1e-5, atol=1e-6)
    assert_trees_equal(scanned_metrics, single_metrics, rtol=1e-5, atol=1e-6)


def test_a_scan_never_reaches_across_an_event(make_training):
    training = make_training()
    dispatcher = dispatcher_of(training, make_plan("scan", 4, 100), 30)
    state, running, step, taken = training.state, zero_metrics(training.program), 0, [0]
    state = jax.tree.map(lambda leaf: leaf.copy(), state)
    while step < 13:
        window = (0, 10) if step < 10 else (10, 13)
        state, running, step = dispatcher.advance(state, running, step, window)
        taken.append(step)
    assert taken == [0, 4, 8, 9, 10, 11, 12, 13]
    assert int(state.step) == 13


def test_auto_times_both_modes_and_settles(make_training, assert_trees_equal, monkeypatch):
    # A scan looks worthwhile even on a slow machine.
    monkeypatch.setattr(execution_plan, "_LONGEST_STEP_SECONDS", 60.0)
    monkeypatch.setattr(execution_plan, "_TRIAL_SECONDS", 0.02)
    monkeypatch.setattr(execution_plan, "_WORTH_COMPILATIONS", 0)
    training, events = make_training(), range(0, 2000, 100)
    state, _, plans = run(training, make_plan("auto", 20, 100), 2000, events=events)
    assert [mode for _, mode in plans[0].segments] == ["loop", "scan"]
    assert not plans[0].decided
    assert plans[-1].decided
    assert plans[-1].segments[:2] == plans[0].segments
    again, _, _ = run(training, plans[-1], 2000, events=events)
    assert_trees_equal(again, state)


def test_a_short_run_or_a_slow_step_is_not_worth_a_trial(make_training, monkeypatch):
    monkeypatch.setattr(execution_plan, "_TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(execution_plan, "_LONGEST_STEP_SECONDS", 0.0)
    _, _, plans = run(make_training(), make_plan("auto", 4, 10), 10)
    assert plans[-1] == Plan(((0, "loop"),), 3, decided=True)


def test_a_plan_survives_its_file():
    plan = Plan(((0, "loop"), (640, "scan")), 20, decided=True)
    assert Plan.from_json(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan
    assert plan.mode == "scan"
    assert plan.at(639) == (0, "loop", 640)
    assert plan.at(640) == (640, "scan", float("inf"))


def test_dispatches_fill_the_shortest_interval_with_little_left_over():
    assert make_plan("scan", 32, 20).scan_steps == 20
    assert make_plan("scan", 32, 100).scan_steps == 25
    assert make_plan("scan", 32, 97).scan_steps == 24
    assert make_plan("auto", 32, 1) == Plan(((0, "loop"),), 1, decided=True)


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match=r"execution.mode: unknown name 'lop'; did you mean 'loop'"):
        make_plan("lop", 1, 1)


def trial(seconds, steps):
    measured = Trial()
    measured.seconds, measured.steps = seconds, steps
    return measured


@pytest.mark.parametrize(
    ("loop", "steps_left", "stack_bytes", "expected"),
    [
        ((0.3, 100), 10_000, 10, ("scan", False)),
        # 1 s of steps is left, less than five compilations of 2 s.
        ((0.3, 100), 333, 10, ("loop", True)),
        # A step takes 0.1 s, a dispatch far less.
        ((0.3, 3), 10_000, 10, ("loop", True)),
        ((0.3, 100), 10_000, 2**29, ("loop", True)),
    ],
)
def test_a_scan_is_tried_where_steps_are_short_and_enough_are_left(loop, steps_left, stack_bytes, expected):
    trials = {"loop": trial(*loop), "scan": Trial()}
    judged = judge_trial("loop", trials, steps_left=steps_left, stack_bytes=stack_bytes, compile_seconds=2.0)
    assert judged == expected


@pytest.mark.parametrize(
    ("loop", "scan", "expected"),
    [((0.3, 100), (0.3, 150), "scan"), ((0.3, 100), (0.3, 50), "loop"), ((0.0, 0), (0.3, 50), "scan")],
)
def test_the_faster_mode_is_kept_after_the_trial_of_a_scan(loop, scan, expected):
    trials = {"loop": trial(*loop), "scan": trial(*scan)}
    judged = judge_trial("scan", trials, steps_left=1000, stack_bytes=10, compile_seconds=2.0)
    assert judged == (expected, True)
