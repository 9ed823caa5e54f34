"""Job files against golden files, which are complete files to read. What is in them is tested in test_launch.py.

To write them again after a deliberate change: `PYTHONPATH=. python tests/launching/test_job_files.py`.
"""

import dataclasses
import pathlib

import pytest

from launching import sky, slurm, xpk
from launching.accelerators import parse_accelerator
from launching.job import Job, make_training_command
from plumbline import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden"
LAUNCHERS = {"sky": sky.LAUNCHER, "slurm": slurm.LAUNCHER, "xpk": xpk.LAUNCHER}
JOB = Job(
    name="mlp",
    path=pathlib.Path("/jobs/mlp"),
    config="configs/digits_mlp.py",
    training=make_training_command("configs/digits_mlp.py", {"data.ignore": ("a b", "$HOME"), "seed": 7}),
    sweeps=False,
    workdir="gs://my_bucket/a/b",
    accelerator=parse_accelerator("tpu-v5litepod-16"),
)
FLAGS = ["--sampler=tpe", "--storage=postgresql://u@h/d"]
SWEEP = {"training": make_training_command("configs/digits_mlp.py", {}, FLAGS), "sweeps": True}
JOBS = {
    "pod.sky": {"spot": True},
    "gpus.sky": {"accelerator": "H100:8", "nodes": 3, "cloud": "aws", "workdir": "/shared/run"},
    "s3.sky": {"accelerator": "L4", "workdir": "s3://bucket/run"},
    "cpu.sky": {"accelerator": "cpu", "workdir": "runs/m l"},
    "sweep.sky": {"accelerator": "cpu:4", "nodes": 2, **SWEEP},
    "v100.sky": {"accelerator": "V100", "workdir": "s3://bucket/run"},
    "gpus.slurm": {
        "accelerator": "H100:8",
        "workdir": "/shared/run",
        "options": ("--time", "24:00:00", "--comment=a b"),
    },
    "sweep.slurm": {"accelerator": "cpu:4", "workdir": "/shared/run", **SWEEP},
    "pod.xpk": {"cluster": "pods", "spot": True, "options": ("--zone=us-central1-a",)},
    "path.xpk": {"cluster": "pods", "workdir": "/shared/run"},
}


def make_file(name):
    changes = dict(JOBS[name])
    if "accelerator" in changes:
        changes["accelerator"] = parse_accelerator(changes["accelerator"])
    launcher = LAUNCHERS[name.partition(".")[2]]
    return launcher.make_job_file(dataclasses.replace(JOB, **changes)).replace(str(pathlib.Path.cwd()), "/checkout")


@pytest.mark.parametrize("name", JOBS)
def test_a_job_file_equals_its_golden_file(name):
    assert make_file(name) == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("H100:8", "[gpu]"),
        ("T4", "[gpu]"),
        ("gpu:2", "[gpu]"),
        ("a100-80gb", "[gpu]"),
        ("V100-32GB:8", "[gpu-cuda12]"),
        ("tesla_p100", "[gpu-cuda12]"),
        ("P4", "[gpu-cuda12]"),
        ("M60", "[gpu-cuda12]"),
        ("cpu:4", ""),
    ],
)
def test_the_extra_follows_from_the_accelerator(name, extra):
    assert parse_accelerator(name).extra == extra


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("K80:4", "'K80' has compute capability 3.7, and JAX needs at least 5.2; choose a newer GPU"),
        ("tesla-k40", "'tesla-k40' has compute capability 3.5"),
        ("MI300:8", "'MI300' is no NVIDIA GPU"),
        ("mi250x", "'mi250x' is no NVIDIA GPU"),
    ],
)
def test_a_gpu_that_jax_does_not_support_is_refused(name, message):
    with pytest.raises(UserError, match=f"^--accelerator: {message}"):
        parse_accelerator(name)


@pytest.mark.parametrize("option", ["--cpus-per-task=16", "-c 16", "-c16", "--cpus-per-gpu=8"])
def test_the_cores_of_a_task_under_slurm_are_those_of_the_options(option):
    job = dataclasses.replace(
        JOB, accelerator=parse_accelerator("H100:8"), workdir="/shared/run", options=tuple(option.split())
    )
    text = slurm.LAUNCHER.make_job_file(job)
    assert [line for line in text.splitlines() if "--cpus-per" in line or "SBATCH -c" in line] == [f"#SBATCH {option}"]


def test_every_golden_file_is_compared():
    assert {path.name for path in GOLDEN.iterdir()} == set(JOBS)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_words_with_quotes_reach_a_job_file_as_one_word(launcher):
    changes = {
        "sky": {},
        "slurm": {"accelerator": parse_accelerator("gpu:2"), "workdir": "/shared/it's"},
        "xpk": {"cluster": "pods"},
    }[launcher]
    job = dataclasses.replace(JOB, options=("--comment=it's; rm -rf ~",), **changes)
    assert """'--comment=it'"'"'s; rm -rf ~'""" in LAUNCHERS[launcher].make_job_file(job)


def test_a_bucket_of_another_cloud_is_refused_by_xpk():
    with pytest.raises(UserError, match="name a bucket of Google Cloud"):
        xpk.LAUNCHER.make_job_file(dataclasses.replace(JOB, cluster="pods", workdir="s3://bucket/run"))


if __name__ == "__main__":
    for each in JOBS:
        (GOLDEN / each).write_text(make_file(each), encoding="utf-8")
