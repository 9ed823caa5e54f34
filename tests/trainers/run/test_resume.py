"""A run that was killed and started again equals one that never was, to the bit."""

import shutil
import signal

import pytest

import plumbline
from trainers.run.directory import RunDirectory
from trainers.step import hyperparameters


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["loop", "scan"])
def test_killed_twice_and_resumed_equals_uninterrupted(command, runs, tmp_path, mode):
    arguments = (*runs.EVERYTHING, "--config.train.duration=80 steps", f"--config.execution.mode={mode}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command("train", *arguments, f"--workdir={whole}")
    for after in (10, 40):
        process = command.start_interpreter("train", *arguments, f"--workdir={killed}")
        runs.wait_for(lambda after=after: runs.checkpoint_steps(killed) and runs.logged_step(killed) > after, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert RunDirectory(killed).status()["status"] == "running"
    finished = command("train", *arguments, f"--workdir={killed}")
    assert "resuming at step" in finished.stderr
    runs.assert_runs_equal(whole, killed)


def test_a_hyperparameter_that_was_added_since_then_is_added_to_the_state(tmp_path, monkeypatch):
    fields = {
        "optimizer.name": "sgd",
        "train.duration": "20 steps",
        "train.checkpoint_every": "10 steps",
        "train.tensorboard": False,
        "execution.mode": "loop",
    }
    make, added = hyperparameters.from_config, "b1"  # Another optimizer uses it.
    with monkeypatch.context() as patch:

        def make_earlier(config, clock):
            return {name: value for name, value in make(config, clock).items() if name != added}

        patch.setattr(hyperparameters, "from_config", make_earlier)
        whole = plumbline.train("configs/digits_mlp.py", tmp_path, overrides=fields).metrics
    shutil.rmtree(tmp_path / "checkpoints" / "20")
    RunDirectory(tmp_path).write_status("preempted", 10)
    resumed = plumbline.train("configs/digits_mlp.py", tmp_path, overrides=fields)
    assert resumed.status["status"] == "done"
    assert resumed.metrics["test"] == whole["test"]


@pytest.mark.slow
def test_sigterm_saves_and_exits_42_and_the_same_command_finishes(command, runs, tmp_path):
    arguments = (*runs.EVERYTHING, "--config.train.duration=80 steps", "--config.train.checkpoint_every=")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command("train", *arguments, f"--workdir={whole}")
    process = command.start("train", *arguments, f"--workdir={stopped}")
    runs.wait_for(lambda: runs.logged_step(stopped) > 30, process)
    process.terminate()
    assert process.wait() == 42
    status = RunDirectory(stopped).status()
    assert status["status"] == "preempted"
    assert runs.checkpoint_steps(stopped) == {status["step"]}
    command("train", *arguments, f"--workdir={stopped}")
    runs.assert_runs_equal(whole, stopped)


@pytest.mark.slow
def test_the_mode_chosen_by_timing_is_repeated_on_resume(command, runs, tmp_path):
    arguments = (
        "--config=configs/digits_mlp.py",
        "--config.train.duration=12000 steps",
        "--config.train.log_every=100 steps",
        "--config.train.evaluate_every=",
        "--config.train.checkpoint_every=1000 steps",
        "--config.train.tensorboard=False",
        f"--workdir={tmp_path}",
    )
    process = command.start("train", *arguments)
    runs.wait_for(
        lambda: (RunDirectory(tmp_path).execution() or {}).get("decided") and runs.logged_step(tmp_path) > 3000, process
    )
    process.kill()
    process.wait()
    chosen = RunDirectory(tmp_path).execution()
    command("train", *arguments)
    assert RunDirectory(tmp_path).execution() == chosen
