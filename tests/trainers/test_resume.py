"""A run that was killed and started again equals one that never was, to the bit."""

import json
import signal
import time

import jax
import numpy as np
import pytest

from trainers import hyperparameters
from trainers.checkpoints import Checkpoints, abstract
from trainers.loop import build_program, make_clock
from trainers.mesh import data_mesh, replicated
from trainers.run_directory import RunDirectory
from trainers.step import zero_metrics

# Everything that has a state or draws random numbers, on a network with batch statistics.
EVERYTHING = (
    "--config=configs/digits_resnet.py",
    "--config.model.resnet.width=4",
    "--config.model.dropout=0.2",
    "--config.model.stochastic_depth=0.2",
    "--config.augment.shift=1",
    "--config.augment.mixup=0.3",
    "--config.train.accumulation_steps=2",
    "--config.train.ema_decay=0.9",
    "--config.train.batch_size=16",
    "--config.train.log_every=7 steps",
    "--config.train.evaluate_every=10 steps",
    "--config.train.checkpoint_every=8 steps",
    "--config.train.tensorboard=False",
)


def final_state(workdir):
    """Every array of the last checkpoint, by path."""
    directory = RunDirectory(workdir)
    config, features = directory.config(), directory.features()
    program, init = build_program(config, features, make_clock(config, 1000))
    arguments = jax.numpy.uint32(0), hyperparameters.from_config(config), directory.fitted()
    whole = replicated(data_mesh(jax.devices()[:1]))
    state = abstract(jax.eval_shape(init, *arguments), whole)
    checkpoints = Checkpoints(directory.checkpoints, read_only=True)
    checkpoint = checkpoints.restore(state, abstract(jax.eval_shape(lambda: zero_metrics(program)), whole))
    checkpoints.close()
    leaves = jax.tree_util.tree_flatten_with_path((checkpoint.state, checkpoint.running, checkpoint.best.state))[0]
    return {jax.tree_util.keystr(path): np.asarray(_numbers(leaf)) for path, leaf in leaves}


def _numbers(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def logged(workdir):
    return [{k: v for k, v in line.items() if k != "time"} for line in RunDirectory(workdir).metrics()]


def assert_runs_equal(one, other):
    expected, actual = final_state(one), final_state(other)
    assert expected.keys() == actual.keys()
    assert any("ema" in path for path in expected)
    assert any("model_state" in path for path in expected)
    for path, array in expected.items():
        np.testing.assert_array_equal(actual[path], array, err_msg=path)
    assert logged(one) == logged(other)
    metrics = [json.loads((workdir / "summary.json").read_text())["metrics"] for workdir in (one, other)]
    assert metrics[0] == metrics[1]


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.01)


def checkpoint_steps(workdir):
    return {int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()}


def logged_step(workdir):
    """The last step that was logged; 0 before the first, or while a line is being written."""
    return max((line["step"] for line in RunDirectory(workdir).metrics()), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["loop", "scan"])
def test_killed_twice_and_resumed_equals_uninterrupted(command, tmp_path, mode):
    length = 160
    arguments = (*EVERYTHING, f"--config.train.duration={length} steps", f"--config.execution.mode={mode}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command("train", *arguments, f"--workdir={whole}")
    for after in (17, 60):
        process = command.start("train", *arguments, f"--workdir={killed}")
        wait_for(lambda after=after: checkpoint_steps(killed) and logged_step(killed) > after, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert RunDirectory(killed).status()["status"] == "running"
    finished = command("train", *arguments, f"--workdir={killed}")
    assert "going on at step" in finished.stderr
    assert_runs_equal(whole, killed)


@pytest.mark.slow
def test_sigterm_saves_and_exits_42_and_the_same_command_finishes(command, tmp_path):
    arguments = (*EVERYTHING, "--config.train.duration=160 steps", "--config.train.checkpoint_every=")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command("train", *arguments, f"--workdir={whole}")
    process = command.start("train", *arguments, f"--workdir={stopped}")
    wait_for(lambda: logged_step(stopped) > 30, process)
    process.terminate()
    assert process.wait() == 42
    status = RunDirectory(stopped).status()
    assert status["status"] == "preempted"
    assert checkpoint_steps(stopped) == {status["step"]}
    command("train", *arguments, f"--workdir={stopped}")
    assert_runs_equal(whole, stopped)


@pytest.mark.slow
def test_the_mode_chosen_by_timing_is_repeated_on_resume(command, tmp_path):
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
    wait_for(
        lambda: (RunDirectory(tmp_path).execution() or {}).get("decided") and logged_step(tmp_path) > 3000, process
    )
    process.kill()
    process.wait()
    chosen = RunDirectory(tmp_path).execution()
    command("train", *arguments)
    assert RunDirectory(tmp_path).execution() == chosen
