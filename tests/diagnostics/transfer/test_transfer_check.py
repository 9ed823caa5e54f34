"""Trainings that begin with a source, compared with the same from scratch."""

import json
import shutil
import signal
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import plumbline
from configs import defaults
from diagnostics.transfer import repetitions, transfer_check
from diagnostics.transfer.transfer_check import Comparison
from plumbline import UserError
from trainers.populations.members import check_possible
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override

# A training of seconds of a multilayer perceptron, on digits 5 to 9.
FINE_TUNING = (
    "--config=configs/digits_mlp.py",
    "--config.data.classes=('5','6','7','8','9')",
    "--config.train.duration=60 steps",
    "--config.train.log_every=10 steps",
    "--config.train.evaluate_every=10 steps",
    "--config.train.checkpoint_every=10 steps",
    "--config.train.tensorboard=False",
    "--config.transfer.check=True",
    "--config.transfer.check_seeds=3",
)


def figures(workdir):
    return json.loads((workdir / "transfer_check.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def checked(command, quick_run, tmp_path_factory):
    """A run that was compared with one from scratch, and what the command printed."""
    workdir = tmp_path_factory.mktemp("checked") / "run"
    finished = command("train", *FINE_TUNING, f"--config.transfer.source={quick_run}", f"--workdir={workdir}")
    return workdir, finished.stdout


def test_the_difference_is_that_of_two_runs_on_the_same_rows(checked):
    workdir, printed = checked
    found = figures(workdir)
    assert found["seeds"] == [0, 1, 2]
    by_seed = found["by_seed"]
    summaries = [json.loads((path / "summary.json").read_text()) for path in (workdir, workdir / "scratch")]
    accuracies = [summary["metrics"]["test"]["accuracy"] for summary in summaries]
    np.testing.assert_allclose([by_seed["transfer"][0], by_seed["scratch"][0]], accuracies, atol=1e-6)
    np.testing.assert_allclose([found["transfer"], found["scratch"]], [np.mean(by_seed[name]) for name in by_seed])
    difference = found["difference"]
    assert difference["mean"] == pytest.approx(found["transfer"] - found["scratch"], abs=1e-6)
    assert difference["low"] < difference["mean"] < difference["high"]
    assert difference["over"] == "3 groups"
    assert len(set(by_seed["transfer"])) > 1
    assert "over 3 seeds and 3 groups)" in printed
    assert len({summary["step"] for summary in summaries}) == 1


def test_from_python_a_run_is_compared_as_by_the_command(checked, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(checked[0], workdir)
    (workdir / "transfer_check.json").unlink()
    assert plumbline.open_run(workdir).transfer_check is None
    run = plumbline.train(RunDirectory(workdir).config(), workdir)
    assert run.transfer_check == figures(workdir) == figures(checked[0])
    assert plumbline.train(run.config, workdir, overrides={"transfer.check": False}).transfer_check is not None


def test_what_each_example_came_to_makes_up_the_metric_of_the_split(checked):
    run = FinishedRun(checked[0])
    values, weights, groups = run.evaluate_each("test")
    assert set(values.tolist()) == {0.0, 1.0}
    assert np.average(values, weights=weights) == pytest.approx(run.evaluate("test")["accuracy"], abs=1e-6)
    predicted = [each["label"] == each["target"] for each in run.predict_split("test")]
    np.testing.assert_array_equal(values, predicted)
    assert len(groups) == len(values)


def test_errors_of_a_regression_are_in_the_units_of_its_metric(tmp_path):
    changes = {"data.source": "sklearn:diabetes", "model.name": "linear", "train.duration": "20 steps"}
    train(override(defaults.get_config(), changes), tmp_path / "run", devices=jax.devices()[:1])
    run = FinishedRun(tmp_path / "run")
    values, weights, groups = run.evaluate_each("test")
    assert np.average(values, weights=weights) == pytest.approx(run.evaluate("test")["mse"], rel=1e-5)
    squared = [(each["prediction"] - each["target"]) ** 2 for each in run.predict_split("test")]
    np.testing.assert_allclose(values, squared, rtol=1e-4)
    assert groups is None


def test_from_scratch_nothing_is_left_of_transfer(tmp_path):
    config = override(
        defaults.get_config(),
        {
            "transfer.source": "somewhere",
            "transfer.freeze": ("^(?!head/)",),
            "transfer.layer_decay": 0.7,
            "transfer.unfreeze": (("x", "1 epochs"),),
            "transfer.lora.patterns": ("attention",),
            "transfer.check": True,
            "train.duration": "7 steps",
        },
    )
    scratch = transfer_check.scratch_config(config, tmp_path)
    # Rank and alpha say nothing without patterns.
    assert scratch.transfer.to_dict() == defaults.get_config().transfer.to_dict()
    assert scratch.train.duration == "7 steps"


@pytest.mark.parametrize(
    ("difference", "higher", "verdict", "phrase"),
    [
        ((0.1, 0.02, 0.18), True, "better", "transfer helped: test x 0.900, from scratch 0.800, difference +0.100"),
        ((-0.1, -0.18, -0.02), True, "worse", "NEGATIVE TRANSFER, the source did harm: start from scratch"),
        ((0.1, 0.02, 0.18), False, "worse", "NEGATIVE TRANSFER"),
        ((0.1, -0.02, 0.22), True, "unclear", "do not show that transfer helped"),
        ((0.1, np.nan, np.nan), True, "unclear", "(no interval for 2 seeds and 5 examples)"),
    ],
)
def test_what_is_said_goes_by_the_interval(difference, higher, verdict, phrase):
    comparison = Comparison(
        metric="x",
        higher_is_better=higher,
        transfer=(0.95, 0.85),
        scratch=(0.7, 0.9),
        seeds=(0, 1),
        difference=difference,
        over="5 examples",
    )
    assert comparison.verdict == verdict
    assert phrase in comparison.describe()


@pytest.mark.parametrize("difference", [(0.1, 0.02, 0.18), (-0.1, -0.18, -0.02), (0.1, -0.02, 0.22)])
def test_one_training_each_says_only_that_two_models_differ(difference):
    comparison = Comparison(
        metric="x",
        higher_is_better=True,
        transfer=(0.9,),
        scratch=(0.8,),
        seeds=(0,),
        difference=difference,
        over="5 examples",
        missing="the data are streamed",
    )
    said = comparison.describe()
    assert comparison.verdict == ("unclear" if difference[1] < 0 < difference[2] else "differs")
    assert said.startswith(("these two models differ on these rows", "these rows show no difference between the two"))
    assert "helped" not in said
    assert "NEGATIVE" not in said
    assert "over 5 examples; one training each: another seed may reverse it; the data are streamed)" in said


@pytest.mark.slow
def test_killed_during_the_training_from_scratch_the_next_call_goes_on(command, checked, quick_run, tmp_path):
    words = (*FINE_TUNING, f"--config.transfer.source={quick_run}", f"--workdir={tmp_path / 'run'}")
    process = command.start("train", *words)
    saved, end = tmp_path / "run" / "scratch" / "checkpoints" / "10", time.monotonic() + 120
    while not saved.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = RunDirectory(tmp_path / "run").summary()
    assert not (tmp_path / "run" / "transfer_check.json").exists()
    finished = command("train", *words)
    assert "is done already" in finished.stderr
    assert "resuming at step" in finished.stderr
    assert RunDirectory(tmp_path / "run").summary() == kept
    assert figures(tmp_path / "run") == figures(checked[0])


@pytest.mark.slow
def test_a_finished_run_can_be_checked_later_and_overwritten(command, checked, quick_run, tmp_path):
    words = (*FINE_TUNING, f"--config.transfer.source={quick_run}", f"--workdir={tmp_path / 'run'}")
    command("train", *words, "--config.transfer.check=False")
    assert not (tmp_path / "run" / "scratch").exists()
    command("train", *words)
    assert figures(tmp_path / "run") == figures(checked[0])
    command("train", *words, "--config.seed=1", "--overwrite")
    assert figures(tmp_path / "run") != figures(checked[0])


def test_a_check_without_a_source_is_an_error(fails, tmp_path):
    line = fails("train", *FINE_TUNING, f"--workdir={tmp_path / 'run'}")
    assert "transfer.check: compares with a training from scratch, but transfer.source is not given" in line
    assert not (tmp_path / "run").exists()


def test_members_of_a_population_are_not_checked():
    config = override(defaults.get_config(), {"transfer.source": "somewhere", "transfer.check": True})
    with pytest.raises(UserError, match=r"^transfer\.check: .*not for populations; add a"):
        check_possible(config)


@pytest.mark.parametrize(
    ("task", "metric", "changes", "missing"),
    [
        ("language", "loss", {}, "repetitions are judged by accuracy or squared errors, not by loss"),
        ("classification", "loss", {}, "not by loss"),
        ("classification", "accuracy", {"train.recompute_statistics": True, "train.ema_decay": 0.9}, "recompute"),
        ("classification", "accuracy", {"transfer.check_seeds": 1}, ""),
    ],
)
def test_what_cannot_be_repeated_is_compared_once_and_the_reason_given(tmp_path, task, metric, changes, missing):
    run = SimpleNamespace(
        features=SimpleNamespace(task=task), program=SimpleNamespace(objective=SimpleNamespace(best_metric=metric))
    )
    config = override(defaults.get_config(), {"transfer.source": "somewhere", "transfer.check": True, **changes})
    found = repetitions.train(config, run, RunDirectory(tmp_path), {}, 7)
    assert (found.seeds, found.transfer.shape, found.scratch.shape) == ((), (0, 7), (0, 7))
    assert missing in found.missing
    assert bool(found.missing) == bool(missing)
    assert list(tmp_path.iterdir()) == []
