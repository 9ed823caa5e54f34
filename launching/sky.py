"""SkyPilot: a task on Google Cloud (TPU pods, GPUs), AWS, Azure or Kubernetes; a managed job where preemptible."""

from launching.buckets import Bucket, parse_bucket
from launching.job import Job, Launcher, check_checkout, refuse_flags
from launching.templating import render
from plumbline import UserError, unknown_name

_CLOUDS = ("aws", "azure", "gcp", "kubernetes")

# SkyPilot's names. For another GPU that SkyPilot supports, add its name.
_GPUS = (
    *("A10", "A100", "A100-80GB", "A10G", "B200", "B300", "GB200", "GH200", "H100", "H100-MEGA", "H200", "H200-SXM"),
    *("L4", "L40", "L40S", "M60", "P100", "P4", "RTXPRO6000", "T4", "T4g", "V100", "V100-32GB"),
)

# Software of a Cloud TPU VM that JAX needs, by generation. SkyPilot's default for v5litepod is that of v5p.
_RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}


def _make_job_file(job: Job) -> str:
    refuse_flags("SkyPilot", cluster=job.cluster)
    _check_machines(job)
    check_checkout(job)
    bucket = parse_bucket(job.workdir)
    _check_workdir(job, bucket)
    accelerator = job.accelerator
    cloud = job.cloud or ("gcp" if accelerator.kind == "tpu" else None)
    return render(
        "sky.yaml",
        job,
        _submission(job),
        cloud=cloud,
        runtime=_RUNTIMES[accelerator.generation] if accelerator.kind == "tpu" and cloud == "gcp" else None,
        bucket=bucket,
        command=job.command(bucket.workdir if bucket else job.workdir, "SKYPILOT_NODE_RANK"),
        joins_nodes=job.nodes > 1 and not job.sweeps,
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
            f"--accelerator: '{accelerator}' has {accelerator.hosts} hosts, which SkyPilot cannot ask Kubernetes "
            "for; use --on=xpk"
        )
    if job.nodes > 1:
        raise UserError(
            f"--nodes: {job.nodes} given, but a TPU is one node however many hosts it has ('{accelerator}': "
            f"{accelerator.hosts}); leave it out and name a larger TPU"
        )


def _check_workdir(job: Job, bucket: Bucket | None) -> None:
    several = job.nodes > 1 or job.accelerator.hosts > 1
    if bucket and bucket.store != "gs" and several:
        raise UserError(
            f"--workdir: several machines cannot write one checkpoint through a mount of '{bucket.source}'; "
            "name a bucket of Google Cloud (gs://BUCKET/RUN, from any cloud) or a path that all machines share"
        )
    if bucket is None and not job.workdir.startswith("/") and (several or job.spot):
        raise UserError(
            f"--workdir: '{job.workdir}' is on each machine's own disk and is lost with it; "
            "name a bucket (gs://BUCKET/RUN) or an absolute path that all machines share"
        )


def _submission(job: Job) -> list[str]:
    words = ["sky", "jobs", "launch"] if job.spot else ["sky", "launch", f"--cluster={job.name}"]
    return [*words, *job.options, str(job.path)]


LAUNCHER = Launcher(
    tool="sky",
    suffix=".yaml",
    install=(
        "install it in a separate environment: python3 -m venv ~/.sky-venv && "
        "~/.sky-venv/bin/pip install 'skypilot[gcp,aws,azure,kubernetes]', then put ~/.sky-venv/bin on the path"
    ),
    make_job_file=_make_job_file,
    submission=_submission,
)
