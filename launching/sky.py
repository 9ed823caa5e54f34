"""SkyPilot: a task on Google Cloud (TPU pods, GPUs), AWS, Azure or Kubernetes; a managed job where preemptible."""

import shlex
import textwrap

from launching.job import WRITTEN_BY, Job, Launcher, check_checkout, refuse
from launching.storage import Bucket, bucket
from plumbline import UserError, unknown_name

_CLOUDS = ("aws", "azure", "gcp", "kubernetes")

# SkyPilot's names; a GPU that it knows and this does not needs only its name here.
_GPUS = (
    *("A10", "A100", "A100-80GB", "A10G", "B200", "B300", "GB200", "GH200", "H100", "H100-MEGA", "H200", "H200-SXM"),
    *("K80", "L4", "L40", "L40S", "M60", "MI300", "P100", "P4", "RTXPRO6000", "T4", "T4g", "V100", "V100-32GB"),
)

# Software of a Cloud TPU VM that JAX wants, by generation. SkyPilot's own default for v5litepod is that of v5p.
_RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}

_FILE = """\
# {title}
# {written_by} for SkyPilot. Submit with: {submission}
name: "{name}"

# The checkout is copied to every machine, without what git ignores.
workdir: .

{nodes}
resources:
{resources}
{storage}
setup: |
  set -e
  pip install --quiet uv
  uv venv --quiet --allow-existing --python 3.11 .venv
  uv pip install --quiet --python .venv --constraint constraints.txt --editable '.{extra}'

{remark}
run: |
  source .venv/bin/activate
{command}
"""


def _job_file(job: Job) -> str:
    refuse("SkyPilot", cluster=job.cluster)
    _check_machines(job)
    check_checkout(job)
    place = bucket(job.workdir)
    _check_workdir(job, place)
    return _FILE.format(
        title=job.title(),
        written_by=WRITTEN_BY,
        submission=shlex.join(_submission(job)),
        name=job.name,
        nodes=_nodes(job),
        resources=textwrap.indent(_resources(job, place), "  "),
        storage=_storage(job, place),
        extra=job.accelerator.extra,
        remark="# A run that exits with code 42 was preempted after it had saved: the same command goes on with it.",
        command=textwrap.indent(_command(job, place), "  "),
    )


def _check_machines(job: Job) -> None:
    accelerator = job.accelerator
    if job.cloud is not None and job.cloud not in _CLOUDS:
        raise unknown_name("--cloud", job.cloud, _CLOUDS)
    if accelerator.kind == "gpu" and accelerator.name not in _GPUS:
        raise unknown_name("--accelerator", accelerator.name, _GPUS)
    if accelerator.kind != "tpu":
        return
    if job.cloud not in (None, "gcp", "kubernetes"):
        raise UserError(f"--cloud: no TPUs on {job.cloud}; leave it out for Google Cloud")
    if job.cloud == "kubernetes" and accelerator.hosts > 1:
        raise UserError(
            f"--accelerator: '{accelerator}' stands in {accelerator.hosts} hosts, which SkyPilot cannot ask Kubernetes "
            "for; use --on=xpk"
        )
    if job.nodes > 1:
        raise UserError(
            f"--nodes: {job.nodes} given, but a TPU is one node however many hosts it has ('{accelerator}': "
            f"{accelerator.hosts}); leave it out and name a larger TPU"
        )


def _check_workdir(job: Job, place: Bucket | None) -> None:
    several = job.nodes > 1 or job.accelerator.hosts > 1
    if place and place.store != "gs" and several:
        raise UserError(
            f"--workdir: several machines cannot write one checkpoint through a mount of '{place.source}'; "
            "name a bucket of Google Cloud (gs://BUCKET/RUN, from any cloud) or a path that all machines share"
        )
    if place is None and not job.workdir.startswith("/") and (several or job.spot):
        raise UserError(
            f"--workdir: '{job.workdir}' is on each machine's own disk and goes with it; "
            "name a bucket (gs://BUCKET/RUN) or an absolute path that all machines share"
        )


def _nodes(job: Job) -> str:
    hosts = job.accelerator.hosts
    about = (
        f"  # A pod is one node; its {hosts} hosts all run the command below, and find one another."
        if hosts > 1
        else ""
    )
    return f"num_nodes: {job.nodes}{about}"


def _resources(job: Job, place: Bucket | None) -> str:
    accelerator = job.accelerator
    lines = []
    cloud = job.cloud or ("gcp" if accelerator.kind == "tpu" else None)
    if cloud:
        lines.append(f"infra: {cloud}")
    if accelerator.kind != "cpu":
        lines.append(f"accelerators: {accelerator}")
    elif accelerator.count:
        lines.append(f"cpus: {accelerator.count}+")
    if accelerator.kind == "tpu" and cloud == "gcp":
        lines += ["accelerator_args:", f"  runtime_version: {_RUNTIMES[accelerator.generation]}"]
    if job.spot:
        lines += ["use_spot: true", "job_recovery:", "  # Preempted after a save: again, as often as it takes."]
        lines += ["  recover_on_exit_codes: [42]", "  # Anything else: three times.", "  max_restarts_on_errors: 3"]
    elif place:
        lines += ["# The run is in the bucket, so the machines can go soon after.", "autostop:"]
        lines += ["  idle_minutes: 10", "  down: true"]
    return "\n".join(lines or ["{}"])


def _storage(job: Job, place: Bucket | None) -> str:
    if place is None:
        if job.workdir.startswith("/"):
            return f"\n# '{job.workdir}' must be a disk that outlives the machines, and that all of them share.\n"
        return (
            f"\n# The run stays on the machine's own disk. Fetch it before `sky down {job.name}`:\n"
            f"#   rsync -a {job.name}:sky_workdir/{shlex.quote(job.workdir)}/ {shlex.quote(job.workdir)}/\n"
        )
    # Google Cloud's mount writes through, and can append and rename folders. Those of S3 and Azure cannot, or other
    # machines see it late; SkyPilot's cached one can, for one machine.
    mode, why = {
        "gs": ("MOUNT", "A file is in the bucket once it is closed."),
        "s3": ("MOUNT_CACHED", "Written to disk first and uploaded in the background, seconds later."),
        "azure": ("MOUNT_CACHED", "Written to disk first and uploaded in the background, seconds later."),
    }[place.store]
    return f"\nfile_mounts:\n  {place.mount}:\n    source: {place.source}\n    # {why}\n    mode: {mode}\n"


def _command(job: Job, place: Bucket | None) -> str:
    command = job.command(place.workdir if place else job.workdir, "SKYPILOT_NODE_RANK")
    if job.nodes == 1 or job.sweeps:
        return command
    return (
        f"{command} \\\n"
        '  --distributed=explicit --coordinator="$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):8476" \\\n'
        '  --processes="$SKYPILOT_NUM_NODES" --process-id="$SKYPILOT_NODE_RANK"'
    )


def _submission(job: Job) -> list[str]:
    words = ["sky", "jobs", "launch"] if job.spot else ["sky", "launch", f"--cluster={job.name}"]
    return [*words, *job.options, str(job.path)]


LAUNCHER = Launcher(
    tool="sky",
    suffix=".yaml",
    install=(
        "get it in an environment of its own: python3 -m venv ~/.sky-venv && "
        "~/.sky-venv/bin/pip install 'skypilot[gcp,aws,azure,kubernetes]', then put ~/.sky-venv/bin on the path"
    ),
    job_file=_job_file,
    submission=_submission,
)
