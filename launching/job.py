"""What a launcher is told, and what it has to know."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

from launching.accelerators import Accelerator
from plumbline import UserError

# The line that job files begin with; a file without it is not ours to overwrite.
WRITTEN_BY = "Written by experiments.launch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One training on machines that are somewhere else.

    Attributes:
      name: of the run, fit to be the name of a cluster or a pod.
      path: where the job file will be.
      config: the config file.
      training: the words of the command, `experiments.train` or a sweep's, without --workdir.
      sweeps: the machines are workers of one sweep; otherwise they train one run together.
      workdir: the run directory as the user gave it: a path, or the URL of a folder in a bucket.
      accelerator: of each node.
      nodes: machines (a TPU pod is one) that train together.
      spot: preemptible machines.
      cloud: for SkyPilot; None lets it choose.
      cluster: the GKE cluster, for xpk.
      options: more words for the launcher itself.
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
        """The command, quoted for a shell, with the run directory as the machines see it.

        Args:
          workdir: the directory.
          worker: the shell's variable with the number of a worker of a sweep, each of which has a folder in it.
        """
        folder = f'/worker-"${worker}"' if self.sweeps else ""
        return shlex.join([*self.training, f"--workdir={workdir}"]) + folder

    def title(self) -> str:
        """What is trained where, in a few words."""
        machines = f"{self.nodes} nodes with " if self.nodes > 1 else ""
        return f"{self.name}: {self.config} on {machines}{self.accelerator}{', preemptible' if self.spot else ''}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launcher:
    """A tool that takes job files.

    Attributes:
      tool: the program that a job file is handed to.
      suffix: of its job files.
      install: how to get the tool, said when it is missing.
      job_file: the text of a job's file; raises `UserError` for what the launcher cannot do.
      submission: the words that hand the file over.
    """

    tool: str
    suffix: str
    install: str
    job_file: Callable[[Job], str]
    submission: Callable[[Job], list[str]]


def run_name(workdir: str) -> str:
    """A name made of the run directory's last part: lower-case letters, digits and hyphens, 40 characters at most."""
    last = re.sub(r"[^a-z0-9]+", "-", workdir.rstrip("/").rpartition("/")[2].lower()).strip("-")
    return (last if last[:1].isalpha() else f"run-{last}".strip("-"))[:40].rstrip("-")


def training_command(config: str, changed: Mapping[str, object], sweep: Sequence[str] | None = None) -> tuple[str, ...]:
    """The words that train by a config, or search.

    Args:
      config: the config file, with its argument if it has one.
      changed: fields given on the command line, and their values.
      sweep: flags of `experiments.sweep`, if that is to be run.

    Raises:
      UserError: a value has a line break, which job files do not take, or a sweep's workers have no storage to share.
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


def refuse(launcher: str, **given: object) -> None:
    """Raises `UserError` for the first flag that was given although the launcher has no use for it."""
    for flag, value in given.items():
        if value:
            raise UserError(f"--{flag}: means nothing on {launcher}; leave it out")


def check_checkout(job: Job) -> None:
    """Checks that the machines will find code and config in what is copied to them: the folder one stands in.

    Raises:
      UserError: this is not Plumbline's checkout, or the config lies outside.
    """
    here = pathlib.Path.cwd()
    if not (here / "experiments" / "train.py").is_file():
        raise UserError(f"launch: '{here}' is not Plumbline's checkout, which is what the machines get; run it there")
    if pathlib.Path(job.config).is_absolute() or not pathlib.Path(job.config).resolve().is_relative_to(here.resolve()):
        raise UserError(
            f"--config: '{job.config}' does not lie in the checkout, which is what the machines get; "
            "name a file in it, as in --config=configs/x.py"
        )
