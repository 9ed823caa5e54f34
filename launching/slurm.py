"""Slurm: a batch script whose training is requeued when it was preempted or ran out of its time."""

import pathlib
import shlex

from launching.job import WRITTEN_BY, Job, Launcher, check_checkout, refuse
from launching.storage import bucket
from plumbline import UserError

_FILE = """\
#!/bin/bash
# {title}
# {written_by} for Slurm. Submit with: {submission}
#SBATCH --job-name={name}
#SBATCH --chdir={checkout}
#SBATCH --output={log}
#SBATCH --nodes={nodes}
{resources}
# Preempted or nearly out of time, the training gets SIGTERM, saves and exits with code 42. It is then queued again and
# goes on where it stopped.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
{options}
requeue_if_preempted() {{
  if [ $? -eq 42 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
}}
trap requeue_if_preempted EXIT
# Processes leave a moment apart: the first that does must not have the others killed while they save.
export SLURM_KILL_BAD_EXIT=0
if [ -d .venv ]; then source .venv/bin/activate; fi

srun {command}
"""


def _job_file(job: Job) -> str:
    refuse("Slurm", cloud=job.cloud, cluster=job.cluster)
    if job.spot:
        raise UserError("--spot: on Slurm name a preemptible partition instead, as in --options='--partition=NAME'")
    if bucket(job.workdir):
        raise UserError(
            f"--workdir: '{job.workdir}' is a bucket, which Slurm does not mount; "
            "name a folder on the cluster's shared file system, as in --workdir=/shared/runs/x"
        )
    if job.accelerator.kind == "tpu":
        raise UserError(f"--accelerator: '{job.accelerator}' on Slurm; name its GPUs (H100:8, gpu:8) or cores (cpu:8)")
    check_checkout(job)
    return _FILE.format(
        title=job.title(),
        written_by=WRITTEN_BY,
        submission=shlex.join(_submission(job)),
        name=job.name,
        checkout=shlex.quote(str(pathlib.Path.cwd())),
        log=shlex.quote(f"{job.path.parent.absolute()}/{job.name}-%j.log"),
        nodes=job.nodes,
        resources=_resources(job),
        options="".join(f"#SBATCH {option}\n" for option in _directives(job.options)),
        command=_command(job),
    )


def _command(job: Job) -> str:
    command = job.command(job.workdir, "SLURM_PROCID")
    # Each task is a worker, and only it knows its number.
    return f"bash -c {shlex.quote(f'exec {command}')}" if job.sweeps else command


def _resources(job: Job) -> str:
    accelerator = job.accelerator
    if accelerator.kind == "gpu":
        kind = "" if accelerator.name == "gpu" else f"{accelerator.name}:"
        return (
            "# One process a GPU, as JAX expects under Slurm. Where a task gets one core, add --cpus-per-task.\n"
            f"#SBATCH --ntasks-per-node={accelerator.count}\n"
            f"#SBATCH --gres=gpu:{kind}{accelerator.count}"
        )
    cores = f"\n#SBATCH --cpus-per-task={accelerator.count}" if accelerator.count else ""
    return f"#SBATCH --ntasks-per-node=1{cores}"


def _directives(options: tuple[str, ...]) -> list[str]:
    """One option a line, with its value."""
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
    job_file=_job_file,
    submission=_submission,
)
