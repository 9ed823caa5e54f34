r"""Writes the job file that runs a training on a cloud or a cluster, and submits it on request.

    plumbline launch --on=sky --config=configs/imagenet_vit_s16.py --workdir=gs://bucket/vit \
        --accelerator=tpu-v5litepod-16 --spot
    plumbline launch --on=slurm --config=configs/digits_vit.py --workdir=/shared/vit --accelerator=H100:8 \
        --nodes=2 --options='--partition=gpu --time=24:00:00' --submit

Run it in the checkout, which is copied to the machines. Read the job file and change it as needed; it ends with the
command that you would type yourself.

Flags:
    --on=sky|slurm|xpk         SkyPilot (Google Cloud, AWS, Azure, Kubernetes), Slurm, or xpk (TPUs on GKE)
    --config=FILE[:ARGUMENT]   a config file; fields are changed with --config.FIELD=VALUE
    --workdir=URL|DIR          the run directory: gs://BUCKET/RUN, s3://BUCKET/RUN (sky), https://ACCOUNT.blob.core.
                               windows.net/CONTAINER/RUN (sky), or a path on a disk that all machines share
    --accelerator=NAME         of each node: tpu-v5litepod-16 (a pod is one node), H100:8, or cpu:8 (cores)
    --nodes=N                  machines with GPUs or CPUs that train together (default 1)
    --sweep='FLAGS'            each machine (each GPU, on Slurm) is a worker of one plumbline sweep with such flags as
                               '--sampler=tpe --trials=200 --folds=5 --storage=postgresql+pg8000://USER:PASSWORD@HOST/DB'
                               and has a folder of its own in --workdir (sky, slurm)
    --spot                     preemptible machines (sky, xpk); the run resumes when they come back
    --cloud=NAME               sky: gcp, aws, azure or kubernetes; by default SkyPilot takes the cheapest
    --cluster=NAME             xpk: the GKE cluster
    --options='WORDS'          more words for the launcher itself, such as --partition=gpu or --zone=us-central1-a
    --output=FILE              the job file (default: runs/jobs/RUN with the launcher's suffix)
    --overwrite                replace a job file that is there and differs
    --submit                   submit the file with sky, sbatch or xpk, which must be on PATH
"""

import pathlib
import shlex

from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.path_flags import check_output, define_path
from launching import sky, slurm, xpk
from launching.accelerators import parse_accelerator
from launching.job import Job, make_run_name, make_training_command
from launching.submission import check_on_path, submit, write_job_file
from plumbline import UserError, exit_codes, unknown_name

LAUNCHERS = {"sky": sky.LAUNCHER, "slurm": slurm.LAUNCHER, "xpk": xpk.LAUNCHER}

_ON = flags.DEFINE_string("on", None, "Launcher.")
_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run directory.")
_ACCELERATOR = flags.DEFINE_string("accelerator", None, "Accelerator of each node.")
_NODES = flags.DEFINE_integer("nodes", 1, "Machines.", lower_bound=1)
_SWEEP = flags.DEFINE_string("sweep", None, "Flags of plumbline sweep.")
_SPOT = flags.DEFINE_bool("spot", False, "Preemptible machines.")
_CLOUD = flags.DEFINE_string("cloud", None, "Cloud, for sky.")
_CLUSTER = flags.DEFINE_string("cluster", None, "GKE cluster, for xpk.")
_OPTIONS = flags.DEFINE_string("options", "", "More words for the launcher.")
_OUTPUT = define_path("output", None, "Job file.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a job file that differs.")
_SUBMIT = flags.DEFINE_bool("submit", False, "Submit the job file.")


def main(words: list[str]) -> int:
    r"""Writes the job file, submits it or prints how to, and returns the exit code."""
    command.refuse(words)
    command.require(on=_ON.value, config=_CONFIG.value, workdir=_WORKDIR.value, accelerator=_ACCELERATOR.value)
    check_output(_OUTPUT.value)
    if _ON.value not in LAUNCHERS:
        raise unknown_name("--on", _ON.value, LAUNCHERS)
    launcher = LAUNCHERS[_ON.value]
    name = make_run_name(_WORKDIR.value)
    path = pathlib.Path(_OUTPUT.value or f"runs/jobs/{name}{launcher.suffix}")
    job = _job(name, path)
    text = launcher.make_job_file(job)
    words = launcher.submission(job)
    # Last, as the import takes a while. An error here is cheaper than one on machines that cost money.
    from trainers import settings

    settings.check(_CONFIG.value)
    if _SUBMIT.value:
        check_on_path(launcher)
    write_job_file(path, text, overwrite=_OVERWRITE.value)
    if _SUBMIT.value:
        print(f"{path}: written; submitted with\n{shlex.join(words)}", flush=True)
        return submit(words, launcher.tool)
    print(f"{path}: written; read it, then submit it with\n{shlex.join(words)}")
    return exit_codes.DONE


def _job(name: str, path: pathlib.Path) -> Job:
    config = flags.FLAGS["config"]
    sweep = None if _SWEEP.value is None else _split_words("sweep", _SWEEP.value)
    machine = parse_accelerator(_ACCELERATOR.value)
    if sweep is not None and (_ON.value == "xpk" or machine.hosts > 1):
        raise UserError("--sweep: a worker searches on one machine; use sky or slurm, and an accelerator on one host")
    return Job(
        name=name,
        path=path,
        config=config_flags.get_config_filename(config).partition(":")[0],
        training=make_training_command(
            config_flags.get_config_filename(config), config_flags.get_override_values(config), sweep
        ),
        sweeps=sweep is not None,
        workdir=_WORKDIR.value,
        accelerator=machine,
        nodes=_NODES.value,
        spot=_SPOT.value,
        cloud=_CLOUD.value,
        cluster=_CLUSTER.value,
        options=_split_words("options", _OPTIONS.value),
    )


def _split_words(flag: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"--{flag}: {text!r} cannot be split into words ({error})") from None


if __name__ == "__main__":
    command.run(main)
