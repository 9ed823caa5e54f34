"""Signals, kills and failures at bad moments: nothing is lost, and the end is the same to the bit."""

import csv
import json
import pathlib
import random
import signal
import time

import numpy as np
import pytest

from trainers.run.directory import RunDirectory

LENGTH = 80


@pytest.fixture(scope="module")
def arguments(runs):
    # Steps that are evaluated are logged right before, which tells when an evaluation begins.
    log = "--config.train.log_every=10 steps"
    return (*runs.EVERYTHING, log, f"--config.train.duration={LENGTH} steps", "--config.execution.mode=loop")


@pytest.fixture(scope="module")
def whole(command, arguments, tmp_path_factory):
    """A run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    command("train", *arguments, f"--workdir={workdir}")
    return workdir


def saving(workdir):
    """Whether a checkpoint is half written."""
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def status_is(workdir, status):
    return (workdir / "status.json").exists() and RunDirectory(workdir).status()["status"] == status


MOMENTS = {
    # The status is written right before the first dispatch, which compiles for seconds.
    "compiling": lambda runs, workdir: status_is(workdir, "running"),
    "stepping": lambda runs, workdir: runs.logged_step(workdir) > 30,
    # The first evaluation compiles.
    "evaluating": lambda runs, workdir: runs.logged_step(workdir) == 10,
    "saving": lambda runs, workdir: saving(workdir),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_sigterm_at_any_moment_saves_and_exits_42_and_the_run_ends_the_same(
    command, runs, arguments, whole, tmp_path, moment
):
    workdir = tmp_path / "run"
    process = command.start("train", *arguments, f"--workdir={workdir}")
    runs.wait_for(lambda: MOMENTS[moment](runs, workdir), process)
    process.terminate()
    assert process.wait(timeout=120) == 42
    status = RunDirectory(workdir).status()
    assert status["status"] == "preempted"
    assert status["step"] in runs.checkpoint_steps(workdir)
    command("train", *arguments, f"--workdir={workdir}")
    runs.assert_runs_equal(whole, workdir)


def test_sigterm_while_jax_is_imported_asks_for_the_same_command_again(command, runs, tmp_path):
    process = command.start_interpreter("train", "--config=configs/digits_mlp.py", f"--workdir={tmp_path / 'run'}")
    maps = pathlib.Path(f"/proc/{process.pid}/maps")
    runs.wait_for(lambda: "jaxlib" in maps.read_text(), process)
    process.terminate()
    assert process.wait(timeout=60) == 42


@pytest.mark.slow
def test_sigkill_at_ten_moments_half_of_them_in_a_save_loses_nothing(command, runs, arguments, whole, tmp_path):
    workdir, draw = tmp_path / "run", random.Random(7)
    kills = 0
    for number in range(10):
        process = command.start("train", *arguments, f"--workdir={workdir}")
        if number % 2:
            while not saving(workdir) and process.poll() is None:
                time.sleep(0.001)
        else:
            time.sleep(draw.uniform(0.2, 8.0))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 8
    command("train", *arguments, f"--workdir={workdir}")
    runs.assert_runs_equal(whole, workdir)
    lines = [(line["step"], line["split"]) for line in RunDirectory(workdir).metrics()]
    assert len(lines) == len(set(lines))


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_the_run_ends_the_same(command, runs, arguments, whole, tmp_path):
    workdir = tmp_path / "run"
    process = command.start("train", *arguments, f"--workdir={workdir}")
    runs.wait_for(lambda: len(runs.checkpoint_steps(workdir)) == 2 and runs.logged_step(workdir) > 40, process)
    process.terminate()
    assert process.wait(timeout=120) == 42
    newest = max(runs.checkpoint_steps(workdir))
    file = max((workdir / "checkpoints" / str(newest)).rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    finished = command("train", *arguments, f"--workdir={workdir}")
    assert f"checkpoint of step {newest} is damaged" in finished.stderr
    assert file.name in finished.stderr
    runs.assert_runs_equal(whole, workdir)


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line_and_the_older_checkpoint_goes_on(command, runs, tmp_path):
    # A limit on the size of files, which the checkpoint of a wider network exceeds.
    workdir = tmp_path / "run"
    arguments = (
        "--config=configs/digits_mlp.py",
        "--config.train.duration=40000 steps",
        "--config.train.checkpoint_every=10 steps",
        "--config.train.tensorboard=False",
        "--config.execution.compilation_cache=none",
        f"--workdir={workdir}",
    )
    process = command.start("train", *arguments)
    runs.wait_for(lambda: runs.checkpoint_steps(workdir), process)
    process.terminate()
    assert process.wait(timeout=120) == 42
    before = max(runs.checkpoint_steps(workdir))
    limited = command.start_limited("train", *arguments, file_bytes=100_000)
    _, stderr = limited.communicate(timeout=120)
    assert limited.returncode == 2
    # TensorStore may report other writes that failed, even after it.
    (message,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert message.startswith("error: --workdir: could not save the checkpoint of step")
    assert before in runs.checkpoint_steps(workdir)
    process = command.start("train", *arguments, stderr=-1, text=True)
    runs.wait_for(lambda: max(runs.checkpoint_steps(workdir)) > before, process)
    process.terminate()
    assert f"resuming at step {before}" in process.communicate()[1]
    assert process.returncode == 42


@pytest.fixture
def poisoned(tmp_path):
    """A regression table whose target overflows in one row, and the arguments to train on it without scaling."""
    generator = np.random.default_rng(0)
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        for row in range(400):
            a, b = generator.normal(size=2)
            writer.writerow([1e38 if row == 137 else a, b, a - b])
    return (
        f"--config=configs/table.py:{path},target=y",
        # By this seed the row comes in the middle of the first epoch of 36 steps.
        "--config.seed=6",
        "--config.data.normalize=none",
        "--config.data.validation=none",
        "--config.train.patience=",
        "--config.data.test=10 percent",
        "--config.train.batch_size=10",
        "--config.train.log_every=1 steps",
        "--config.train.checkpoint_every=4 steps",
        "--config.train.tensorboard=False",
        "--config.train.max_skipped=1",
        "--config.execution.mode=loop",
    )


def failing_step(command, arguments, workdir):
    """The step whose batch holds the row that overflows."""
    command("train", *arguments, "--config.train.duration=36 steps", f"--workdir={workdir}", code=3)
    step = RunDirectory(workdir).status()["step"]
    assert 8 < step < 24
    return step


def test_divergence_stops_with_exit_3_and_the_last_good_checkpoint(command, runs, poisoned, tmp_path):
    failed = failing_step(command, poisoned, tmp_path / "run")
    status = RunDirectory(tmp_path / "run").status()
    assert status["status"] == "diverged"
    assert max(runs.checkpoint_steps(tmp_path / "run")) == (failed - 1) // 4 * 4


@pytest.mark.slow
def test_a_rollback_goes_back_once_and_passes_over_the_batches_that_failed(command, runs, poisoned, tmp_path):
    failed = failing_step(command, poisoned, tmp_path / "stopped")
    workdir = tmp_path / "run"
    # Short of the next epoch, in which the same row would come again.
    arguments = (*poisoned, "--config.train.on_divergence=rollback", "--config.train.duration=30 steps")
    finished = command("train", *arguments, f"--workdir={workdir}")
    rollback = RunDirectory(workdir).rollback()
    good = (failed - 1) // 4 * 4
    assert (rollback["step"], rollback["batches"]) == (good, failed - good)
    assert f"rolled back to step {good}; continuing with the batches after step {failed}" in finished.stderr
    lines = [line for line in RunDirectory(workdir).metrics() if line["split"] == "train"]
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert sum(line["skipped"] for line in lines) == 0


def test_a_rollback_happens_once(command, poisoned, tmp_path):
    # Three epochs: the row comes again.
    arguments = (*poisoned, "--config.train.on_divergence=rollback", "--config.train.duration=108 steps")
    command("train", *arguments, f"--workdir={tmp_path / 'run'}", code=3)
    status = RunDirectory(tmp_path / "run").status()
    assert status["status"] == "diverged"
    assert status["step"] > RunDirectory(tmp_path / "run").rollback()["step"]


@pytest.mark.slow
def test_goodput_adds_up_over_starts_and_counts_what_a_restart_lost(command, runs, tmp_path):
    arguments = (
        "--config=configs/digits_mlp.py",
        "--config.train.duration=30000 steps",
        "--config.train.log_every=500 steps",
        "--config.train.evaluate_every=",
        "--config.train.tensorboard=False",
        f"--workdir={tmp_path}",
    )
    began = time.time()
    process = command.start("train", *arguments)
    runs.wait_for(lambda: runs.logged_step(tmp_path) >= 500, process)
    process.terminate()
    assert process.wait(timeout=120) == 42
    time.sleep(2)
    process = command.start("train", *arguments)
    runs.wait_for(lambda: len((tmp_path / "goodput.jsonl").read_text().splitlines()) > 8, process)
    process.terminate()
    assert process.wait(timeout=120) == 42
    wall = time.time() - began
    lines = [json.loads(line) for line in (tmp_path / "goodput.jsonl").read_text().splitlines()]
    seconds = lines[-1]["seconds"]
    assert sum(seconds.values()) == pytest.approx(lines[-1]["time"] - began, abs=4)
    assert sum(seconds.values()) < wall
    assert seconds["restart"] > 2
    assert lines[-1]["goodput"] == pytest.approx(seconds["steps"] / sum(seconds.values()))
    assert all(lines[-1]["seconds"][name] >= lines[0]["seconds"][name] for name in seconds)


def test_a_profile_holds_a_trace_for_tensorboard_and_perfetto(command, tmp_path):
    command(
        "train",
        "--config=configs/digits_mlp.py",
        "--config.train.duration=30 steps",
        "--config.train.profile.start=5",
        "--config.train.profile.steps=3",
        f"--workdir={tmp_path}",
    )
    traces = list((tmp_path / "tensorboard").rglob("*.xplane.pb"))
    assert len(traces) == 1
    assert (traces[0].parent / "perfetto_trace.json.gz").stat().st_size > 0
