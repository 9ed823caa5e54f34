"""A run: from a config and a working directory to trained parameters, and on from wherever it was stopped.

`train` is the list of phases; `trainers.run` has what happens in them.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

import data
from trainers import settings
from trainers.building import build_program, make_clock
from trainers.devices import compilation
from trainers.devices.dispatch import check_parallel_mode
from trainers.devices.mesh import check_batch, make_mesh
from trainers.processes import coordination
from trainers.processes.signals import Signals
from trainers.run import cached_features, transfer
from trainers.run.directory import RunDirectory, compared
from trainers.run.goodput import Goodput
from trainers.run.phases import Run, failure_written, fitted, versions


def train(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike,
    *,
    overwrite: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Trains by `config` in `workdir`; called again, goes on where the last call stopped.

    Args:
      config: the whole config, as `configs.defaults` describes it.
      workdir: the run directory; new, empty, or that of the same config.
      overwrite: delete what another run left in `workdir`.
      devices: to train on; all there are by default.

    Returns:
      The summary, also in `summary.json` once the run is done. `status` is "done", "preempted" (SIGTERM or SIGINT;
      everything is saved) or "diverged".

    Raises:
      UserError: config, data or working directory are not right; the message says what to do.
    """
    goodput = Goodput(time.time())
    directory = RunDirectory(workdir, writes=coordination.process_index() == 0)
    config = transfer.resolved(config, None if overwrite else directory)
    settings.check(config)
    with directory.held(), Signals() as signals:
        directory.check_shared(coordination.broadcast(directory.mark))
        directory.check(config, overwrite=overwrite)
        if coordination.broadcast(not overwrite and directory.status().get("status") == "done"):
            print(f"'{directory.path}' is done already; --overwrite trains anew", file=sys.stderr)
            return directory.summary()

        # Everything that can be wrong is found out before anything is deleted, written or compiled.
        compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
        coordination.agree({"devices of each process": jax.local_device_count()})
        mesh = make_mesh(config.mesh, devices)
        check_parallel_mode(config.parallel.mode, mesh)
        check_batch(mesh, config.train.batch_size, config.train.accumulation_steps)
        # One that goes on has no need of its tokenizer's file, nor of an audit's, nor of its source.
        begins = coordination.broadcast(overwrite or not directory.has_checkpoint())
        dataset = data.load(config.data, seed=config.seed, kept=None if begins else directory.kept())
        clock = make_clock(config, len(dataset.splits["train"]))
        program, init = build_program(config, dataset.features)
        if config.transfer.cache_features:
            cached_features.check(program)
        start, origin = transfer.begin_from(config.transfer, program) if begins else ({}, "")
        run = Run(config, directory, dataset, program, init, mesh, clock, goodput, start)
        run.check_resources()
        coordination.agree({"config": compared(config.to_dict()), "data": dataset.fingerprint, "versions": versions()})

        if overwrite:
            directory.clear()
        with run.saved_states(), coordination.fail_together():
            run.restore_or_begin()
            coordination.agree({"step": run.step, "execution": dataclasses.asdict(run.plan)})
            directory.begin(config, dataset, fitted(dataset), origin)
            with failure_written(run):
                if config.transfer.cache_features:
                    run.cache_features()
                status, reason = run.steps(signals)
                return run.finish(status, reason)
