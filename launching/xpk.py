"""xpk: a TPU, of many hosts or one, on Google Kubernetes Engine."""

import re
import shlex

from launching.job import WRITTEN_BY, Job, Launcher, check_checkout, refuse
from launching.storage import Bucket, bucket
from plumbline import UserError

# What xpk does for a workload, in the order of the file. The command is one line, as xpk wants it.
_FILE = """\
#!/bin/bash
# {title}
# {written_by} for xpk. Submit with: {submission}
set -euo pipefail
{attach}
# The image is the base image and this folder, without what .dockerignore names.
# Exit code 42 (preempted after a save) and 127 to 255 (a host died) start the workload again, so often.
xpk workload create \\
{words} \\
  --command="$(cat <<'COMMAND'
pip install --quiet --constraint constraints.txt --editable '.[tpu]' && exec {command}
COMMAND
)"
"""

_ATTACH = """
# Once for each cluster and bucket, so that it can be mounted (directories are renamed when a checkpoint is whole):
#   xpk storage attach {storage} {place} \\
#     {mount}
"""

_GENERATIONS = ("v4", "v5litepod", "v5p", "v6e")


def _job_file(job: Job) -> str:
    refuse("xpk", cloud=job.cloud)
    if not job.cluster:
        raise UserError("--cluster: missing; see --help")
    accelerator = job.accelerator
    if accelerator.kind != "tpu" or accelerator.generation not in _GENERATIONS:
        raise UserError(
            f"--accelerator: xpk has no '{accelerator}'; name a TPU ({', '.join(_GENERATIONS)}) "
            "as in tpu-v5litepod-16, or use --on=sky"
        )
    if job.nodes > 1:
        raise UserError(f"--nodes: {job.nodes} given, but a TPU is one node; leave it out and name a larger TPU")
    check_checkout(job)
    place = bucket(job.workdir)
    if (place is None and not job.workdir.startswith("/")) or (place and place.store != "gs"):
        raise UserError(
            f"--workdir: '{job.workdir}' cannot be mounted on GKE; name a bucket of Google Cloud (gs://BUCKET/RUN), "
            "or an absolute path on storage that xpk has attached to the cluster"
        )
    return _FILE.format(
        title=job.title(),
        written_by=WRITTEN_BY,
        submission=shlex.join(_submission(job)),
        attach=_attach(job, place) if place else "",
        words=" \\\n".join(f"  {shlex.quote(word)}" for word in _words(job, place)),
        command=job.command(place.workdir if place else job.workdir),
    )


def _attach(job: Job, place: Bucket) -> str:
    return _ATTACH.format(
        storage=_storage_name(place),
        place=shlex.join([f"--cluster={job.cluster}", "--type=gcsfuse", f"--bucket={place.name}", *job.options]),
        mount=f"--mount-point={place.mount} --size=1000 --readonly=false --auto-mount=false "
        "--mount-options=implicit-dirs,rename-dir-limit=10000",
    )


def _words(job: Job, place: Bucket | None) -> list[str]:
    return [
        f"--cluster={job.cluster}",
        f"--workload={job.name}",
        f"--tpu-type={job.accelerator.name}",
        "--num-slices=1",
        *([f"--storage={_storage_name(place)}"] if place else []),
        *(["--spot"] if job.spot else []),
        "--max-restarts=100",
        "--termination-grace-period-seconds=120",
        "--base-docker-image=python:3.11",
        "--script-dir=.",
        *job.options,
    ]


def _storage_name(place: Bucket) -> str:
    return re.sub(r"[^a-z0-9]+", "-", place.name)


def _submission(job: Job) -> list[str]:
    return ["bash", str(job.path)]


LAUNCHER = Launcher(
    tool="xpk",
    suffix=".sh",
    install=(
        "get it in an environment of its own: python3 -m venv ~/.xpk-venv && ~/.xpk-venv/bin/pip install xpk, "
        "then put ~/.xpk-venv/bin on the path, beside gcloud and kubectl"
    ),
    job_file=_job_file,
    submission=_submission,
)
