"""xpk: a TPU on Google Kubernetes Engine."""

import re

from launching.buckets import parse_bucket
from launching.job import Job, Launcher, check_checkout, refuse_flags
from launching.templating import render
from plumbline import UserError

_GENERATIONS = ("v4", "v5litepod", "v5p", "v6e")


def _make_job_file(job: Job) -> str:
    refuse_flags("xpk", cloud=job.cloud)
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
    bucket = parse_bucket(job.workdir)
    if (bucket is None and not job.workdir.startswith("/")) or (bucket and bucket.store != "gs"):
        raise UserError(
            f"--workdir: '{job.workdir}' cannot be mounted on GKE; name a bucket of Google Cloud (gs://BUCKET/RUN), "
            "or an absolute path on storage that xpk has attached to the cluster"
        )
    storage = re.sub(r"[^a-z0-9]+", "-", bucket.name) if bucket else None
    attach = [f"--cluster={job.cluster}", "--type=gcsfuse", f"--bucket={bucket.name}", *job.options] if bucket else []
    return render(
        "xpk.sh",
        job,
        _submission(job),
        bucket=bucket,
        storage=storage,
        attach_words=attach,
        words=_workload_words(job, storage),
        command=job.command(bucket.workdir if bucket else job.workdir),
    )


def _workload_words(job: Job, storage: str | None) -> list[str]:
    return [
        f"--cluster={job.cluster}",
        f"--workload={job.name}",
        f"--tpu-type={job.accelerator.name}",
        "--num-slices=1",
        *([f"--storage={storage}"] if storage else []),
        *(["--spot"] if job.spot else []),
        "--max-restarts=100",
        "--termination-grace-period-seconds=120",
        "--base-docker-image=python:3.11",
        "--script-dir=.",
        *job.options,
    ]


def _submission(job: Job) -> list[str]:
    return ["bash", str(job.path)]


LAUNCHER = Launcher(
    tool="xpk",
    suffix=".sh",
    install=(
        "install it in a separate environment: python3 -m venv ~/.xpk-venv && ~/.xpk-venv/bin/pip install xpk, "
        "then put ~/.xpk-venv/bin on the path, beside gcloud and kubectl"
    ),
    make_job_file=_make_job_file,
    submission=_submission,
)
