"""Job files: their content, the command that they end in, and the jobs that are refused."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.conftest import free_port

CHECKOUT = pathlib.Path(__file__).parent.parent.parent

CONFIG = "--config=configs/digits_mlp.py"
POD = "--accelerator=tpu-v5litepod-16"
BUCKET = "--workdir=gs://bucket/mlp"
# What each launcher cannot do without.
NEEDED = {
    "sky": ["--on=sky", CONFIG, BUCKET, POD],
    "slurm": ["--on=slurm", CONFIG, "--workdir=/shared/mlp", "--accelerator=H100:8"],
    "xpk": ["--on=xpk", CONFIG, BUCKET, POD, "--cluster=pods"],
}
TRAIN = "python -m experiments.train --config=configs/digits_mlp.py"


@pytest.fixture
def job(command, tmp_path):
    """Writes a job file and returns its text."""

    def write(launcher, *words):
        path = tmp_path / "job"
        command("launch", *NEEDED[launcher], "--overwrite", *words, f"--output={path}")
        return path.read_text(encoding="utf-8")

    return write


def test_a_preemptible_pod_on_skypilot_is_a_managed_job_on_one_node_with_the_bucket_mounted(job):
    task = yaml.safe_load(job("sky", "--spot"))
    resources = task["resources"]
    assert task["num_nodes"] == 1
    assert (resources["infra"], resources["accelerators"]) == ("gcp", "tpu-v5litepod-16")
    assert resources["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv5-lite"}
    assert resources["use_spot"] is True
    assert resources["job_recovery"]["recover_on_exit_codes"] == [42]
    assert task["file_mounts"] == {"/mnt/bucket": {"source": "gs://bucket", "mode": "MOUNT"}}
    assert "'.[tpu]'" in task["setup"]
    assert task["run"].endswith(f"{TRAIN} --workdir=/mnt/bucket/mlp\n")


def test_machines_with_gpus_get_coordinator_count_and_rank(job):
    task = yaml.safe_load(job("sky", "--accelerator=H100:8", "--nodes=3", "--cloud=aws"))
    assert (task["num_nodes"], task["resources"]["infra"], task["resources"]["accelerators"]) == (3, "aws", "H100:8")
    # The command is run as SkyPilot would on the second machine, `python` standing for the training.
    environment = {"SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5\n10.0.0.6", "SKYPILOT_NUM_NODES": "3"}
    script = 'source() { :; }; python() { printf "%s\\n" "$@"; }\n' + task["run"]
    words = subprocess.run(
        ["bash", "-euc", script],
        env=os.environ | environment | {"SKYPILOT_NODE_RANK": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert words[:2] == ["-m", "experiments.train"]
    assert {"--distributed=explicit", "--coordinator=10.0.0.4:8476", "--processes=3", "--process-id=1"} <= set(words)


@pytest.mark.parametrize(
    ("workdir", "mount", "mode"),
    [
        ("s3://my.bucket/a/b", {"source": "s3://my.bucket"}, "MOUNT_CACHED"),
        (
            "https://me.blob.core.windows.net/my-bucket/a/b",
            {"source": "https://me.blob.core.windows.net/my-bucket"},
            "MOUNT_CACHED",
        ),
        ("gs://my_bucket/a/b/", {"source": "gs://my_bucket"}, "MOUNT"),
    ],
)
def test_a_bucket_of_every_cloud_is_mounted_whole_and_the_run_lies_in_it(job, workdir, mount, mode):
    task = yaml.safe_load(job("sky", f"--workdir={workdir}", "--accelerator=L4"))
    ((path, how),) = task["file_mounts"].items()
    assert how == mount | {"mode": mode}
    assert shlex.split(task["run"])[-1] == f"--workdir={path}/a/b"
    assert "infra" not in task["resources"]


def test_changed_fields_reach_the_command_quoted_for_the_shell(job):
    fields = ["--config.data.ignore=('a b','$HOME')", "--config.train.duration=10 steps", "--config.seed=7"]
    wanted = ["--config.data.ignore=('a b', '$HOME')", "--config.train.duration=10 steps", "--config.seed=7"]
    last = {
        "sky": yaml.safe_load(job("sky", *fields))["run"].splitlines()[-1],
        "slurm": job("slurm", *fields).splitlines()[-1].removeprefix("srun "),
        "xpk": re.search(r"exec (.*)\nCOMMAND", job("xpk", *fields))[1],
    }
    for launcher, line in last.items():
        words = shlex.split(line)
        assert words[:-1] == [*TRAIN.split(), *wanted], launcher


def test_a_slurm_file_asks_for_a_process_a_gpu_and_is_queued_again_on_exit_code_42(job, tmp_path):
    text = job("slurm", "--nodes=2", "--options=--partition=gpu --time 24:00:00")
    directives = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    for wanted in ("nodes=2", "ntasks-per-node=8", "gres=gpu:H100:8", "signal=TERM@120", "requeue", "partition=gpu"):
        assert f"--{wanted}" in directives
    assert "--time 24:00:00" in directives
    assert f"--output={tmp_path}/mlp-%j.log" in directives
    # The script itself is run, with Slurm's commands standing for the cluster.
    for code, requeued in ((42, "requeue 17\n"), (0, ""), (3, "")):
        stand_ins = f"srun() {{ return {code}; }}; scontrol() {{ echo $*; }}\n"
        finished = subprocess.run(
            ["bash", "-c", stand_ins + text], env={"SLURM_JOB_ID": "17"}, capture_output=True, text=True, check=False
        )
        assert (finished.returncode, finished.stdout) == (code, requeued)


SWEEP = "--sweep=--sampler=random --trials=9 --storage=postgresql+pg8000://user@host/db"


def test_the_machines_of_a_sweep_are_workers_that_share_a_storage(job):
    text = job("sky", SWEEP, "--accelerator=H100:8", "--nodes=3")
    run = yaml.safe_load(text)["run"]
    assert "python -m experiments.sweep --config=configs/digits_mlp.py --sampler=random --trials=9" in run
    assert "--storage=postgresql+pg8000://user@host/db" in run
    assert run.strip().endswith('--workdir=/mnt/bucket/mlp/worker-"$SKYPILOT_NODE_RANK"')
    assert "--distributed" not in run


def test_the_tasks_of_a_sweep_under_slurm_each_have_a_folder(job, tmp_path):
    text = job("slurm", SWEEP)
    line = next(line for line in text.splitlines() if line.startswith("srun "))
    shown = ["bash", "-c", line.removeprefix("srun ").replace("exec python", "echo python")]
    output = subprocess.run(shown, env=os.environ | {"SLURM_PROCID": "5"}, capture_output=True, text=True, check=True)
    assert output.stdout.startswith("python -m experiments.sweep --config=configs/digits_mlp.py --sampler=random")
    assert output.stdout.strip().endswith("--workdir=/shared/mlp/worker-5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sweep=--trials=9", "--accelerator=H100:8"], "--sweep: add --storage=URL to it"),
        ([SWEEP, POD], "--sweep: a worker searches on one machine"),
    ],
)
def test_a_wrong_sweep_is_refused(fails, tmp_path, words, message):
    assert message in fails("launch", *NEEDED["sky"], *words, f"--output={tmp_path / 'job'}")


def test_an_xpk_file_passes_the_command_as_one_word_and_python_gets_the_signals(job):
    text = job("xpk", "--spot", "--options=--zone=us-central1-a")
    script = 'xpk() { printf "%s\\n" "$@"; }\n' + text
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[:2] == ["workload", "create"]
    wanted = {"cluster=pods", "workload=mlp", "tpu-type=v5litepod-16", "storage=bucket", "spot", "zone=us-central1-a"}
    assert {f"--{word}" for word in wanted} <= set(words)
    assert words[-1].startswith("--command=pip install ")
    assert words[-1].endswith(f" && exec {TRAIN} --workdir=/mnt/bucket/mlp")
    assert "--bucket=bucket" in text
    assert "--mount-point=/mnt/bucket" in text


@pytest.mark.parametrize(
    ("launcher", "words", "message"),
    [
        ("sky", ["--on=skyy"], "--on: unknown name 'skyy'; did you mean 'sky'?"),
        ("sky", ["--accelerator=tpu-v5litepd-16"], "did you mean 'tpu-v5litepod-16'?"),
        ("sky", ["--accelerator=v5litepod-16"], "did you mean 'tpu-v5litepod-16'?"),
        ("sky", ["--accelerator=tpu-v5litepod-12"], "did you mean 'tpu-v5litepod-8'?"),
        ("sky", ["--accelerator=8xH100"], "'8xH100' is not a TPU (tpu-v5litepod-16), GPUs (H100:8) or CPU cores"),
        ("sky", ["--accelerator=H10:8"], "--accelerator: unknown name 'H10'; did you mean"),
        ("sky", ["--nodes=2"], "--nodes: 2 given, but a TPU is one node however many hosts it has"),
        ("sky", ["--nodes=0"], "nodes"),
        ("sky", ["--cloud=asure"], "--cloud: unknown name 'asure'; did you mean 'azure'?"),
        ("sky", ["--cloud=aws"], "--cloud: no TPUs on aws"),
        ("sky", ["--cloud=kubernetes"], "use --on=xpk"),
        ("sky", ["--cluster=x"], "--cluster: means nothing on SkyPilot"),
        ("sky", ["--workdir=gs://bucket"], "name a folder in it: gs://bucket/RUN"),
        ("sky", ["--workdir=ftp://host/run"], "'ftp://host/run' is not a bucket that can be mounted"),
        ("sky", ["--workdir=s3://bucket/run"], "several machines cannot write one checkpoint"),
        ("sky", ["--workdir=runs/mlp"], "'runs/mlp' is on each machine's own disk"),
        ("sky", ["--workdir=runs/mlp", "--accelerator=L4", "--spot"], "'runs/mlp' is on each machine's own disk"),
        ("sky", ["--config=/etc/hostname"], "/etc/hostname"),
        ("sky", ["--config=configs/no_such.py"], "--config: no file 'configs/no_such.py'"),
        ("sky", ["--config.optimizer.learning_rate=-1"], "optimizer.learning_rate: -1.0 given"),
        ("sky", ["--config.data.source=a\nb"], "--config.data.source: a line break cannot go into a job file"),
        ("sky", ["--options='"], "--options:"),
        ("slurm", [BUCKET], "name a folder on the cluster's shared file system"),
        ("slurm", [POD], "name its GPUs (H100:8, gpu:8) or cores (cpu:8)"),
        ("slurm", ["--spot"], "--spot: on Slurm name a preemptible partition"),
        ("xpk", ["--cluster="], "--cluster: missing"),
        ("xpk", ["--accelerator=H100:8"], "--accelerator: xpk has no 'H100:8'"),
        ("xpk", ["--nodes=2"], "--nodes: 2 given, but a TPU is one node"),
        ("xpk", ["--workdir=s3://bucket/run"], "name a bucket of Google Cloud"),
    ],
)
def test_a_job_that_a_launcher_does_not_support_is_refused_in_one_line(fails, tmp_path, launcher, words, message):
    assert message in fails("launch", *NEEDED[launcher], *words, f"--output={tmp_path / 'job'}")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("missing", ["on", "config", "workdir", "accelerator"])
def test_a_missing_flag_is_named(fails, missing):
    words = [word for word in NEEDED["sky"] if not word.startswith(f"--{missing}=")]
    assert f"--{missing}: missing" in fails("launch", *words)


def test_only_a_job_file_is_overwritten_and_one_that_differs_on_request(command, job, fails, tmp_path):
    job("sky")
    path = tmp_path / "job"
    assert command("launch", *NEEDED["sky"], f"--output={path}").stdout.startswith(f"{path}: written")
    line = fails("launch", *NEEDED["sky"], "--spot", f"--output={path}")
    assert line == f"--output: '{path}' exists and differs; --overwrite replaces it, or name another file"
    assert "use_spot" not in path.read_text()
    assert "use_spot" in job("sky", "--spot")
    (tmp_path / "job").write_text("mine")
    assert "exists and is not a job file" in fails("launch", *NEEDED["sky"], f"--output={tmp_path / 'job'}")
    assert (tmp_path / "job").read_text() == "mine"


@pytest.mark.parametrize(("launcher", "tool"), [("sky", "sky"), ("slurm", "sbatch"), ("xpk", "xpk")])
def test_submitting_without_the_tool_says_how_to_get_it_and_writes_nothing(
    command, fails, tmp_path, monkeypatch, launcher, tool
):
    monkeypatch.setattr(type(command), "environment", command.environment | {"PATH": "/nowhere"})
    line = fails("launch", *NEEDED[launcher], "--submit", f"--output={tmp_path / 'job'}")
    assert f"no '{tool}' on the path; " in line
    assert launcher == "slurm" or "-m venv" in line
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("code", [0, 7])
def test_submitting_hands_the_file_over_and_passes_the_tools_exit_code_and_last_line_on(
    command, tmp_path, monkeypatch, code
):
    tool = tmp_path / "sbatch"
    tool.write_text(f'#!/bin/sh\necho "got $*"\necho first >&2\necho "no partition" >&2\nexit {code}\n')
    tool.chmod(0o755)
    monkeypatch.setattr(type(command), "environment", command.environment | {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    path = tmp_path / "job"
    finished = command("launch", *NEEDED["slurm"], "--submit", f"--output={path}", code=code)
    assert f"got {path}\n" in finished.stdout
    last = "error: sbatch ended with exit code 7: no partition" if code else "no partition"
    assert finished.stderr.splitlines()[-1] == last


@pytest.mark.slow
def test_the_commands_of_two_machines_run_side_by_side_are_one_run(command, job, tmp_path):
    """What SkyPilot's file runs, with the variables that SkyPilot sets, as two processes of this machine."""
    workdir = tmp_path / "run"
    quick = ("--config.train.duration=30 steps", "--config.train.tensorboard=False")
    machines = (f"--workdir={workdir}", "--accelerator=cpu", "--nodes=2")
    run = yaml.safe_load(job("sky", *machines, *quick))["run"].replace(":8476", f":{free_port()}")
    environment = command.environment | {"SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1", "SKYPILOT_NUM_NODES": "2"}
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    processes = [
        subprocess.Popen(
            ["bash", "-c", "source() { :; }\n" + run], cwd=CHECKOUT, env=environment | {"SKYPILOT_NODE_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert json.loads((workdir / "status.json").read_text())["status"] == "done"
    assert json.loads((workdir / "summary.json").read_text())["processes"] == 2
