"""All checks that a training makes before it compiles its step, without a training."""

import dataclasses
import os
import time
from collections.abc import Sequence

import jax
import ml_collections

from data import description
from trainers import settings
from trainers.devices.execution_plan import make_plan
from trainers.processes import coordination
from trainers.run import extension, transfer
from trainers.run.announcement import describe
from trainers.run.directory import RunDirectory
from trainers.run.goodput import Goodput
from trainers.run.loop import prepare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """A training that is possible.

    Attributes:
      config: the resolved config.
      description: model, data, length and devices, in one line; "" if the run is done already.
      status: "done", "starts" or "resumes".
      data_lines: what the data hold, in lines; () if the run is done already.
    """

    config: ml_collections.ConfigDict
    description: str
    status: str
    data_lines: tuple[str, ...] = ()


def check(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike | None,
    *,
    overwrite: bool = False,
    extend: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> Checked:
    """Checks what `trainers.run.loop.train` checks before it compiles a step.

    Nothing is written to the run directory. Data that are not in the cache are decoded into it, as in a training.

    Args:
      config: the whole config.
      workdir: the run directory; None: a new one on the file system of the current folder.
      overwrite: whether the files of another run in `workdir` may be deleted.
      extend: as for `train`.
      devices: to train on; None: all devices.

    Raises:
      UserError: `train` would raise it.
    """
    directory = RunDirectory(workdir or ".", writes=coordination.process_index() == 0)
    is_new = overwrite or workdir is None
    config = transfer.resolve(config, None if is_new else directory)
    settings.check(config)
    if workdir is not None:
        directory.check_available()
        directory.check(config, overwrite=overwrite, extend=extend)
    extends = coordination.broadcast(extend and directory.can_extend() and directory.differs(config))
    if coordination.broadcast(not is_new and directory.is_done()) and not extends:
        return Checked(config=config, description="", status="done")
    begins = coordination.broadcast(is_new or not directory.has_checkpoint())
    run, _ = prepare(config, directory, Goodput(time.time()), devices, begins=begins)
    if extends:
        extension.check_length(run.rules.total_steps, coordination.broadcast(directory.status()["step"]))
    make_plan(config.execution.mode, config.execution.scan_steps, run.rules.shortest_interval)
    lines = tuple(description.describe(run.dataset, run.training.config.data))
    status = "starts" if begins else "resumes"
    return Checked(config=config, description=describe(run), status=status, data_lines=lines)
