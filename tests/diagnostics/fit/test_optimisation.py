import dataclasses

import numpy as np
import pytest

from configs import digits_mlp
from diagnostics.fit import from_run
from diagnostics.fit.course import Course, measure_rise
from diagnostics.fit.problems import find_problems

STEPS = np.arange(20, 2001, 20.0)
CHANCE = np.log(10)
RANDOM = np.random.default_rng(0)


def curve(values):
    return np.stack([STEPS[: len(values)], values], axis=1)


def course(train, **others):
    return Course(
        **{
            "train": curve(train),
            "validation": np.zeros((0, 2)),
            "gradient_norm": np.zeros((0, 2)),
            "rates": np.arange(1.0, 101.0),
            "total_steps": 2000,
            "chance": CHANCE,
        }
        | others
    )


# Falls to a level, with the noise of batches.
SOUND = 0.1 + 2.2 * np.exp(-STEPS / 200) * np.exp(0.03 * RANDOM.normal(size=100))


def seen(given):
    return {problem.name: problem for problem in find_problems(given, digits_mlp.get_config())}


def test_nothing_is_seen_in_a_training_that_went_well():
    norms = curve(np.exp(-STEPS / 500) * np.exp(0.2 * RANDOM.normal(size=100)))
    level = curve(0.3 + 2 * np.exp(-STEPS / 200))
    assert seen(course(SOUND, gradient_norm=norms, validation=level, dead={"hidden/0": 0.05})) == {}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (course(SOUND, skipped=3), "3 updates had to be skipped"),
        (course(SOUND[:2], diverged=True, rates=np.arange(2.0)), "The training diverged"),
        (course(5 + RANDOM.normal(size=100)), "above the 2.3 of a model that ignores the inputs"),
        (course(np.where(np.arange(100) % 10 == 9, 2.0, SOUND)), "jumped up by half or more 10 times"),
        (
            course(np.where(STEPS < 1000, SOUND, 0.1 + (STEPS - 1000) / 1000)),
            "well above its minimum of 0.1",
        ),
    ],
    ids=["skipped", "diverged", "above chance", "jumps", "rises"],
)
def test_a_rate_that_is_too_high_is_seen(given, text):
    found = seen(given)
    problem = found["learning rate too high"]
    assert text in problem.text
    assert problem.remedies[0].overrides == {"optimizer.learning_rate": pytest.approx(1e-4)}
    assert "stopped too early" not in found


def test_a_loss_still_falling_at_the_end_is_seen_and_one_that_levels_off_is_not():
    found = seen(course(2.3 - STEPS / 2000))
    assert list(found) == ["stopped too early"]
    assert "The training loss was still falling at the end" in found["stopped too early"].text
    assert found["stopped too early"].remedies[0].overrides == {"train.duration": "200 epochs"}
    # Where there is a validation split, it is that loss which counts.
    assert seen(course(2.3 - STEPS / 2000, validation=curve(0.5 + np.exp(-STEPS / 100)))) == {}
    found = seen(course(SOUND, validation=curve(2.3 - STEPS / 2000)))
    assert "The validation loss was still falling" in found["stopped too early"].text


def test_a_schedule_that_ends_at_nothing_does_not_hide_that_it_was_too_short():
    # The loss falls in proportion to the learning rate, which a cosine brings to zero.
    rates = np.cumsum(1 + np.cos(np.pi * STEPS / 2000))
    falling = 2.3 - rates / rates[-1]
    assert abs(falling[-20] - falling[-1]) < 0.03
    assert "stopped too early" in seen(course(falling, rates=rates))
    assert "stopped too early" not in seen(course(SOUND, rates=rates))


def test_a_loss_that_never_leaves_chance_and_one_that_stands_still_for_long_are_plateaus():
    problem = seen(course(CHANCE + 0.01 * RANDOM.normal(size=100)))["plateau"]
    assert "never fell below the 2.3 of a model that ignores the inputs" in problem.text
    assert problem.severity == "high"
    values = np.where(STEPS < 400, 2.3 - STEPS / 400, np.where(STEPS < 1200, 1.3, 1.3 - (STEPS - 1200) / 1000))
    values = np.maximum(values, 0.7)
    problem = seen(course(values))["plateau"]
    assert "stood still at 1.3 from step 400 to 1,20" in problem.text


def test_spikes_of_the_gradient_are_seen_and_told_from_its_noise():
    norms = np.exp(0.3 * RANDOM.normal(size=100))
    assert seen(course(SOUND, gradient_norm=curve(norms))) == {}
    norms[[40, 70]] = 50, 200
    problem = seen(course(SOUND, gradient_norm=curve(norms)))["gradient spikes"]
    assert "had 2 spikes, the worst at step 1,420: a norm of 200" in problem.text
    assert 1 < problem.remedies[0].overrides["optimizer.clip_norm"] < 4


def test_dead_units_are_told_by_layer():
    found = seen(course(SOUND, dead={"hidden/0": 0.3, "the last hidden layer": 0.1}))
    assert list(found) == ["dead units"]
    problem = found["dead units"]
    assert "30% of hidden/0" in problem.text
    assert "last" not in problem.text
    assert problem.severity == "low"
    assert problem.remedies[-1].overrides == {"model.mlp.activation": "gelu"}
    # So many do not die without steps that are too large.
    found = seen(course(SOUND, dead={"hidden/0": 0.6}))
    assert [(name, problem.severity) for name, problem in found.items()] == [
        ("learning rate too high", "high"),
        ("dead units", "medium"),
    ]


def test_of_few_points_nothing_is_said():
    few = dataclasses.replace(course(SOUND), train=curve([2.3, 2.4]), rates=np.arange(2.0))
    assert seen(few) == {}


def test_a_validation_loss_that_turns_is_measured_from_its_least():
    turning = curve(np.where(STEPS < 1000, 2 - STEPS / 1000, STEPS / 1000))
    assert measure_rise(turning) == pytest.approx(0.91, abs=0.01)
    assert measure_rise(curve(np.linspace(2, 1, 100))) == pytest.approx(0, abs=0.1)
    assert measure_rise(turning[:4]) is None


def trained(command, directory, *words):
    quick = ("--config=configs/digits_mlp.py", "--config.train.tensorboard=False", f"--workdir={directory}")
    command("train", *quick, *words)
    return {finding.name: finding for finding in from_run.judge(directory)}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_with_a_rate_far_too_high_is_told_so_and_its_dead_units_are_counted(command, tmp_path, optimizer):
    words = (f"--config.optimizer.name={optimizer}", "--config.optimizer.learning_rate=0.5")
    every = ("--config.train.log_every=1 epochs", "--config.train.evaluate_every=1 epochs")
    duration = ("--config.train.duration=20 epochs",)
    finding = trained(command, tmp_path / "run", *words, *every, *duration)["optimisation"]
    assert finding.message.startswith("Learning rate too high: ")
    assert finding.severity == "high"
    assert finding.remedies[0].overrides == {"optimizer.learning_rate": 0.05}
    dead = {measure.name: measure.value for measure in finding.measures if measure.name.startswith("dead units")}
    assert set(dead) == {"dead units of hidden/0", "dead units of the last hidden layer"}
    assert max(dead.values()) > 0.5
    assert "Dead units: Units are zero for all examples" in finding.message


@pytest.mark.slow
def test_a_run_that_was_far_too_short_is_told_so(command, tmp_path):
    words = ("--config.train.duration=40 steps", "--config.train.log_every=2 steps")
    findings = trained(command, tmp_path / "run", *words, "--config.train.evaluate_every=2 steps")
    assert "Stopped too early: The validation loss was still falling" in findings["optimisation"].message
    assert findings["optimisation"].remedies[0].overrides == {"train.duration": "80 steps"}
