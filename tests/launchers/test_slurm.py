"""A job of two tasks on a real Slurm of this machine, preempted in two ways, and finished.

The test starts and stops a cluster of one node, with a separate key, ports and folder.
"""

import getpass
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.conftest import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
DAEMONS_PATH = "/usr/sbin:/sbin"
TASKS = 2

CONFIGURATION = """
ClusterName=plumbline
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
NodeName=localhost CPUs={tasks} State=UNKNOWN
PartitionName=patient Nodes=localhost Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes=localhost PriorityTier=9 State=UP
"""


class Cluster:
    """A Slurm of one node; `environment` leads to it."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        configuration = folder / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(user=getpass.getuser(), folder=folder, ports=[free_port(), free_port()], tasks=TASKS)
        )
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}:{DAEMONS_PATH}"
        self.environment = {**os.environ, "XLA_FLAGS": "", "SLURM_CONF": str(configuration), "PATH": path}
        self.daemons = [
            self._start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"),
            self._start("slurmctld", "-D", "-f", configuration),
            self._start("slurmd", "-D", "-f", configuration),
        ]

    def _start(self, program, *words):
        if program == "munged":
            words += tuple(f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed"))
        with (self.folder / f"{program}.out").open("w") as output:
            return subprocess.Popen([program, *words], env=self.environment, stdout=output, stderr=output)

    def stop(self):
        # A test that failed leaves its job running.
        self("scancel", "--quiet", "--signal=KILL", "--full", f"--user={getpass.getuser()}")
        wait_for(
            lambda: not self("squeue", "--noheader", "--states=RUNNING,COMPLETING"), lambda: logs(self), seconds=60
        )
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(timeout=30)

    def __call__(self, *words):
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def job(self, number):
        return dict(re.findall(r"(\w+)=(\S*)", self("scontrol", "show", "job", number)))


def wait_for(condition, what, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


@pytest.fixture
def cluster(tmp_path_factory):
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:{DAEMONS_PATH}")]
    if missing:
        pytest.skip(f"no Slurm here ({', '.join(missing)} missing); on Debian: apt-get install slurm-wlm munge")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        wait_for(lambda: "idle" in cluster_state(cluster), lambda: logs(cluster), seconds=60)
        yield cluster
    finally:
        cluster.stop()


def cluster_state(cluster):
    try:
        return cluster("sinfo", "--noheader", "--format=%T")
    except subprocess.CalledProcessError as error:
        return error.stderr


def logs(cluster):
    return "\n".join(path.read_text()[-2000:] for path in sorted(cluster.folder.glob("*.log")))


def test_a_job_of_two_tasks_preempted_twice_is_queued_again_and_finishes(cluster, command, tmp_path, monkeypatch):
    monkeypatch.setattr(type(command), "environment", cluster.environment)
    workdir = tmp_path / "run"
    submitted = command(
        "launch",
        *("--on=slurm", "--config=configs/digits_mlp.py", f"--workdir={workdir}", "--accelerator=cpu"),
        *("--config.train.duration=6000 steps", "--config.train.log_every=100 steps"),
        *("--config.train.evaluate_every=1000 steps", "--config.train.tensorboard=False"),
        # So that a checkpoint after a preemption was saved because of it.
        *("--config.train.checkpoint_every=1000000 steps", "--config.execution.mode=loop"),
        *(f"--options=--ntasks-per-node={TASKS}", f"--output={tmp_path / 'run.sbatch'}", "--submit"),
    )
    job = re.search(r"Submitted batch job (\d+)", submitted.stdout)[1]

    def lines():
        path = workdir / "metrics.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def status():
        return json.loads((workdir / "status.json").read_text())

    def describe():
        log = (tmp_path / f"run-{job}.log").read_text()[-4000:]
        return f"{cluster.job(job)}\n{log}\n{logs(cluster)}"

    def train_on():
        seen = len(lines())
        wait_for(lambda: cluster.job(job)["JobState"] == "RUNNING" and len(lines()) > seen + 3, describe)

    def is_queued_again(times):
        wait_for(lambda: cluster.job(job)["Restarts"] == str(times), describe)
        wait_for(lambda: cluster.job(job)["JobState"] == "PENDING", describe)
        assert status()["status"] == "preempted", describe()
        # Slurm waits two minutes before it starts such a job again.
        cluster("scontrol", "update", f"JobId={job}", "StartTime=now")
        return status()["step"]

    # As when the time is nearly up: the tasks get the signal, and the script queues itself again on exit code 42.
    train_on()
    cluster("scancel", "--signal=TERM", job)
    first = is_queued_again(1)
    # As when somebody more urgent wants the machine: Slurm itself takes the job off and queues it again.
    train_on()
    cluster("sbatch", "--partition=urgent", f"--ntasks={TASKS}", "--output=/dev/null", "--wrap=sleep 2")
    second = is_queued_again(2)
    assert 0 < first < second < 6000
    wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", describe, seconds=400)
    assert (status()["status"], status()["step"]) == ("done", 6000)
    steps = [line["step"] for line in map(json.loads, lines()) if line["split"] == "train"]
    assert steps == list(range(100, 6001, 100))
    assert json.loads((workdir / "summary.json").read_text())["metrics"]["test"]["accuracy"] > 0.85
    assert f"in {TASKS} processes" in (tmp_path / f"run-{job}.log").read_text()
