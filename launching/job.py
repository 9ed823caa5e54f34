"""Jobs and launchers."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

from launching.accelerators import Accelerator
from plumbline import UserError

# Part of the second line of a job file. A file without it is not overwritten.
WRITTEN_BY = "Written by experiments.launch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A training on remote machines.

    Attributes:
      name: of the run, valid as the name of a cluster or a pod.
      path: of the job file.
      config: the config file.
      training: words of the command that trains or sweeps, without --workdir.
      sweeps: whether the machines are workers of one sweep; otherwise they train one run together.
      workdir: the run directory as given: a path, or the URL of a folder in a bucket.
      accelerator: of each node.
      nodes: number of machines that train together; a TPU pod counts as one.
      spot: whether the machines are preemptible.
      cloud: for SkyPilot; None lets it choose.
      cluster: the GKE cluster, for xpk.
      options: more words for the launcher.
    """

    name: str
    path: pathlib.Path
    config: str
    training: tuple[str, ...]
    sweeps: bool
    workdir: str
    accelerator: Accelerator
    nodes: int = 1
    spot: bool = False
    cloud: str | None = None
    cluster: str | None = None
    options: tuple[str, ...] = ()

    def command(self, workdir: str, worker: str = "") -> str:
        """Returns the command, quoted for a shell.

        Args:
          workdir: the run directory on the machines.
          worker: shell variable with the number of a worker of a sweep; each worker has a folder in the directory.
        """
        folder = f'/worker-"${worker}"' if self.sweeps else ""
        return shlex.join([*self.training, f"--workdir={workdir}"]) + folder

    def title(self) -> str:
        """Returns a sentence that says what is trained where."""
        machines = f"{self.nodes} nodes with " if self.nodes > 1 else ""
        return f"{self.name}: {self.config} on {machines}{self.accelerator}{', preemptible' if self.spot else ''}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launcher:
    """A tool that runs job files.

    Attributes:
      tool: program that a job file is submitted with.
      suffix: of its job files.
      install: how to install the tool, for the message that it is missing.
      make_job_file: returns the text of a job file; raises `UserError` if the launcher does not support the job.
      submission: returns the words of the command that submits the job file.
    """

    tool: str
    suffix: str
    install: str
    make_job_file: Callable[[Job], str]
    submission: Callable[[Job], list[str]]


def make_run_name(workdir: str) -> str:
    """Returns a name from the last part of the run directory: up to 40 lower-case letters, digits and hyphens."""
    last = re.sub(r"[^a-z0-9]+", "-", workdir.rstrip("/").rpartition("/")[2].lower()).strip("-")
    return (last if last[:1].isalpha() else f"run-{last}".strip("-"))[:40].rstrip("-")


def make_training_command(
    config: str, changed: Mapping[str, object], sweep: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Returns the words of the command that trains or sweeps.

    Args:
      config: the config file, with its argument if it has one.
      changed: fields given on the command line, and their values.
      sweep: flags of the sweep; None to train.

    Raises:
      UserError: a value has a line break, which job files do not take, or the workers of a sweep share no storage.
    """
    if sweep is not None and not any(word.startswith("--storage=") for word in sweep):
        raise UserError("--sweep: add --storage=URL to it: the workers share their study there; see docs/sweeps.md")
    words = [f"--config={config}", *(f"--config.{field}={value}" for field, value in changed.items()), *(sweep or ())]
    for word in words:
        if len(word.splitlines()) > 1:
            raise UserError(
                f"{word.partition('=')[0]}: a line break cannot go into a job file; set it in the config file"
            )
    return ("python", "-m", "experiments.train" if sweep is None else "experiments.sweep", *words)


def refuse_flags(launcher: str, **given: object) -> None:
    """Raises `UserError` for the first given flag, because the launcher does not use it."""
    for flag, value in given.items():
        if value:
            raise UserError(f"--{flag}: means nothing on {launcher}; leave it out")


def check_checkout(job: Job) -> None:
    """Checks that the current folder, which is copied to the machines, has the code and the config.

    Raises:
      UserError: the folder is not Plumbline's checkout, or the config is outside of it.
    """
    here = pathlib.Path.cwd()
    if not (here / "experiments" / "train.py").is_file():
        raise UserError(f"launch: '{here}' is not Plumbline's checkout, which is what the machines get; run it there")
    if pathlib.Path(job.config).is_absolute() or not pathlib.Path(job.config).resolve().is_relative_to(here.resolve()):
        raise UserError(
            f"--config: '{job.config}' is not in the checkout, which is what the machines get; "
            "name a file in it, as in --config=configs/x.py"
        )
