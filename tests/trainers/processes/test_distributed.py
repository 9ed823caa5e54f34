"""One training by several real processes, connected over loopback."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import free_port
from trainers.run.directory import RunDirectory

ARGUMENTS = (
    "--config=configs/digits_mlp.py",
    "--config.parallel.fsdp_min_size=64",
    "--config.model.dropout=0.1",
    "--config.augment.shift=1",
    "--config.optimizer.name=sgd",
    "--config.optimizer.learning_rate=0.05",
    "--config.train.log_every=1 steps",
    "--config.train.evaluate_every=10 steps",
    "--config.train.checkpoint_every=10 steps",
    "--config.train.tensorboard=False",
)
# Within this all processes end when one dies, as docs/running_anywhere.md promises; and some time for a busy machine.
STATED_SECONDS = 20
MARGIN_SECONDS = 20


class Job:
    """Processes of one training."""

    def __init__(self, command, count, *words, each=None):
        cluster = ("--distributed=explicit", f"--coordinator=127.0.0.1:{free_port()}", f"--processes={count}")
        each = each or {}
        self.processes = [
            command.start(
                "train", *words, *cluster, f"--process-id={index}", *each.get(index, ()),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for index in range(count)
        ]  # fmt: skip

    def wait(self, timeout=240):
        """Exit codes and outputs."""
        outputs = [process.communicate(timeout=timeout)[0] for process in self.processes]
        return [process.returncode for process in self.processes], outputs


def losses(workdir):
    lines = RunDirectory(workdir).metrics()
    return np.array([line["loss"] for line in lines if line["split"] == "train"])


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory):
    """The same training by one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    command("train", *ARGUMENTS, "--config.train.duration=30 steps", f"--workdir={workdir}")
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["data", "fsdp"])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_have_the_losses_of_one_and_one_of_them_writes(command, runs, alone, tmp_path, count, axis):
    mesh = ("--config.mesh.data=1", "--config.mesh.fsdp=-1") if axis == "fsdp" else ()
    words = (*ARGUMENTS, *mesh, "--config.train.duration=30 steps", f"--workdir={tmp_path / 'run'}")
    codes, outputs = Job(command, count, *words).wait()
    assert codes == [0] * count, outputs
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=0, atol=1e-5)
    expected, actual = ([(line["step"], line["split"]) for line in runs.logged(d)] for d in (alone, tmp_path / "run"))
    assert actual == expected
    assert [("done: " in output) for output in outputs] == [True] + [False] * (count - 1)
    # All wrote the checkpoint: another number of processes goes on from it.
    (tmp_path / "run" / "status.json").unlink()
    command("train", *ARGUMENTS, "--config.train.duration=30 steps", f"--workdir={tmp_path / 'run'}")


@pytest.mark.slow
def test_pmap_over_two_processes_has_the_losses_of_one(command, alone, tmp_path):
    words = (*ARGUMENTS, "--config.parallel.mode=pmap", "--config.train.duration=30 steps", f"--workdir={tmp_path}")
    codes, outputs = Job(command, 2, *words).wait()
    assert codes == [0, 0], outputs
    np.testing.assert_allclose(losses(tmp_path), losses(alone), rtol=0, atol=1e-5)


ROWS = """
import sys
import ml_collections
from trainers.processes.join import ClusterSettings, join
join(ClusterSettings(mode="explicit", coordinator=sys.argv[1], processes=int(sys.argv[2]), process_id=int(sys.argv[3])))
from trainers.devices.mesh import local_rows, make_mesh
from trainers.processes.coordination import Watchdog
with Watchdog():
    for data, fsdp, tensor in ((-1, 1, 1), (1, -1, 1), (2, -1, 1), (-1, 1, 2)):
        mesh = make_mesh(ml_collections.ConfigDict({"data": data, "fsdp": fsdp, "tensor": tensor}))
        print("rows", *local_rows(mesh, 16), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_each_process_reads_its_own_rows_and_together_they_read_all(command, count):
    environment = {**command.environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    address = f"127.0.0.1:{free_port()}"
    processes = [
        command.popen(
            [sys.executable, "-c", ROWS, address, str(count), str(index)],
            env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for index in range(count)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120)[1] for process in processes]
    rows = [[line.split()[1:] for line in output.splitlines() if line.startswith("rows ")] for output in outputs]
    for of_mesh in zip(*rows, strict=True):
        assert sorted(int(row) for own in of_mesh for row in own) == list(range(16))


LONG = (*ARGUMENTS, "--config.train.duration=150 steps")


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The long training by two processes that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    codes, outputs = Job(command, 2, *LONG, f"--workdir={workdir}").wait()
    assert codes == [0, 0], outputs
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_in_the_stated_time_and_the_job_goes_on_from_its_checkpoint(
    command, runs, whole, tmp_path, victim
):
    workdir = tmp_path / "run"
    job = Job(command, 2, *LONG, f"--workdir={workdir}")
    runs.wait_for(lambda: max(runs.checkpoint_steps(workdir), default=0) >= 30, job.processes[0])
    job.processes[victim].kill()
    killed = time.monotonic()
    codes, outputs = job.wait(timeout=STATED_SECONDS + MARGIN_SECONDS)
    assert time.monotonic() - killed < STATED_SECONDS + MARGIN_SECONDS
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] not in (0, 42)
    if victim == 1:
        assert "process 1 of 2" in outputs[0].splitlines()[-1]
        assert "run the same command on all processes again" in outputs[0].splitlines()[-1]
    codes, outputs = Job(command, 2, *LONG, f"--workdir={workdir}").wait()
    assert codes == [0, 0], outputs
    assert "resuming at step" in outputs[0]
    assert runs.logged(workdir) == runs.logged(whole)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_at_one_step_and_the_job_ends_the_same(command, runs, whole, tmp_path):
    words, workdir = (*LONG, "--config.train.checkpoint_every=5 seconds"), tmp_path / "run"
    job = Job(command, 2, *words, f"--workdir={workdir}")
    runs.wait_for(lambda: runs.logged_step(workdir) >= 30, job.processes[0])
    job.processes[1].terminate()
    codes, outputs = job.wait()
    assert codes == [42, 42], outputs
    status = RunDirectory(workdir).status()
    assert status["status"] == "preempted"
    assert status["step"] in runs.checkpoint_steps(workdir)
    codes, outputs = Job(command, 2, *words, f"--workdir={workdir}").wait()
    assert codes == [0, 0], outputs
    assert runs.logged(workdir) == runs.logged(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ("--config.optimizer.learning_rate=0.5", "process 1 of 2"),
        ("--config.data.source=folder:/no/such", "no such folder '/no/such'"),
    ],
)
def test_processes_that_differ_all_end_with_an_error_that_names_the_one(command, tmp_path, difference, message):
    words = (*ARGUMENTS, "--config.train.duration=30 steps", f"--workdir={tmp_path / 'run'}")
    codes, outputs = Job(command, 2, *words, each={1: (difference,)}).wait(timeout=120)
    assert codes == [2, 2], outputs
    assert all(message in output.splitlines()[-1] for output in outputs), outputs
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_processes_with_different_directories_are_an_error(command, tmp_path):
    folders = {index: (f"--workdir={tmp_path / str(index)}",) for index in range(2)}
    codes, outputs = Job(command, 2, *ARGUMENTS, "--config.train.duration=30 steps", each=folders).wait(timeout=120)
    assert codes == [2, 2], outputs
    assert all("is not the directory that process 0 writes to" in output for output in outputs)


@pytest.mark.slow
def test_two_processes_evaluate_what_one_does(command, alone, tmp_path):
    port = free_port()
    figures = []
    for count in (1, 2):
        output = tmp_path / f"{count}.json"
        cluster = ("--distributed=explicit", f"--coordinator=127.0.0.1:{port}", "--processes=2") if count == 2 else ()
        processes = [
            command.start(
                "evaluate", f"--workdir={alone}", f"--output={output}", *cluster,
                *([f"--process-id={index}"] if count == 2 else []), stdout=subprocess.DEVNULL,
            )
            for index in range(count)
        ]  # fmt: skip
        assert [process.wait(timeout=120) for process in processes] == [0] * count
        figures.append(json.loads(output.read_text()))
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
