"""Slurm: a batch script that requeues the training after preemption or at the end of its time limit."""

import pathlib
import re
import shlex

from launching.buckets import parse_bucket
from launching.job import Job, Launcher, check_checkout, refuse_flags
from launching.templating import render
from plumbline import UserError

# Slurm's default is one core for each task, which starves a GPU. Nearly all nodes have more than these.
_CORES_PER_GPU = 4


def _make_job_file(job: Job) -> str:
    refuse_flags("Slurm", cloud=job.cloud, cluster=job.cluster)
    if job.spot:
        raise UserError("--spot: on Slurm name a preemptible partition instead, as in --options='--partition=NAME'")
    if parse_bucket(job.workdir):
        raise UserError(
            f"--workdir: '{job.workdir}' is a bucket, which Slurm does not mount; "
            "name a folder on the cluster's shared file system, as in --workdir=/shared/runs/x"
        )
    if job.accelerator.kind == "tpu":
        raise UserError(f"--accelerator: '{job.accelerator}' on Slurm; name its GPUs (H100:8, gpu:8) or cores (cpu:8)")
    check_checkout(job)
    return render(
        "slurm.sbatch",
        job,
        _submission(job),
        checkout=str(pathlib.Path.cwd()),
        log=f"{job.path.parent.absolute()}/{job.name}-%j.log",
        options=_join_options(job.options),
        extra=job.accelerator.extra,
        cores=_cores(job),
        command=_make_command(job),
    )


def _make_command(job: Job) -> str:
    command = job.command(job.workdir, "SLURM_PROCID")
    # Each task of a sweep is a worker, and only the task knows its number.
    return f"bash -c {shlex.quote(f'exec {command}')}" if job.sweeps else command


def _cores(job: Job) -> int:
    """Cores of each task; 0 if the options give them, or the whole node is taken."""
    if any(re.match(r"-c|--cpus-per-", word) for word in job.options):
        return 0
    return _CORES_PER_GPU if job.accelerator.kind == "gpu" else job.accelerator.count


def _join_options(options: tuple[str, ...]) -> list[str]:
    """Returns each option with its value."""
    lines: list[list[str]] = []
    for word in options:
        if word.startswith("-") or not lines:
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def _submission(job: Job) -> list[str]:
    return ["sbatch", str(job.path)]


LAUNCHER = Launcher(
    tool="sbatch",
    suffix=".sbatch",
    install="submit from a login node of the cluster, where Slurm's commands are",
    make_job_file=_make_job_file,
    submission=_submission,
)
