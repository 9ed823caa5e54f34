"""A run: from a config and a working directory to trained parameters, continued where it was stopped.

`train` is the list of phases. Each phase has a module of its own beside this one.
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
from trainers.building import build_training, fitted_arrays, training_mesh
from trainers.devices import compilation
from trainers.devices.execution_plan import make_plan
from trainers.processes import coordination
from trainers.processes.signals import Signals
from trainers.run import cached_features, extension, preflight, profiling, transfer
from trainers.run.announcement import announce
from trainers.run.directory import RunDirectory
from trainers.run.evaluation import make_run_evaluate
from trainers.run.goodput import Goodput
from trainers.run.identity import defining_fields
from trainers.run.resume import open_checkpoints, restore_or_begin
from trainers.run.rules import make_rules
from trainers.run.run_state import Run, record_failure
from trainers.run.steps import take_steps
from trainers.run.summary import finish, versions


def train(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike,
    *,
    overwrite: bool = False,
    extend: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Trains by `config` in `workdir`. Called again, resumes where the last call stopped.

    Args:
      config: the whole config, as `configs.defaults` describes it.
      workdir: the run directory; new, empty, or that of the same config.
      overwrite: delete what another run left in `workdir`.
      extend: the run in `workdir` may be done, and continues with the fields of `extension.FIELDS` in `config`.
      devices: to train on; all there are by default.

    Returns:
      The summary, also in `summary.json` once the run is done. `status` is "done", "preempted" (SIGTERM or SIGINT;
      everything is saved) or "diverged".

    Raises:
      UserError: config, data or working directory are not right; the message says what to do.
    """
    goodput = Goodput(time.time())
    directory = RunDirectory(workdir, writes=coordination.process_index() == 0)
    config = transfer.resolve(config, None if overwrite else directory)
    settings.check(config)
    with directory.hold(), Signals() as signals:
        directory.check_shared(coordination.broadcast(directory.mark))
        directory.check(config, overwrite=overwrite, extend=extend)
        extends = coordination.broadcast(extend and directory.can_extend() and directory.differs(config))
        if coordination.broadcast(not overwrite and directory.is_done()) and not extends:
            remedy = "give a longer train.duration to extend it" if extend else "overwrite it to train it again"
            print(f"'{directory.path}' is done already; {remedy}", file=sys.stderr)
            return directory.summary()

        # Everything that can be wrong is found before anything is deleted, written or compiled.
        begins = coordination.broadcast(overwrite or not directory.has_checkpoint())
        run, origin = prepare(config, directory, goodput, devices, begins=begins)
        execution = config.execution
        plan = make_plan(execution.mode, execution.scan_steps, run.rules.shortest_interval)

        if extends:
            extension.check_length(run.rules.total_steps, coordination.broadcast(directory.status()["step"]))
            directory.record_extension()
        if overwrite:
            directory.clear()
        keep = config.train.keep_checkpoints
        with open_checkpoints(directory, keep=keep) as checkpoints, coordination.fail_together():
            at = restore_or_begin(run, checkpoints, plan)
            coordination.agree({"step": at.step, "execution": dataclasses.asdict(at.plan)})
            directory.begin(config, run.dataset, fitted_arrays(run.dataset), origin)
            begins_at = at.step
            with record_failure(directory, lambda: begins_at):
                if config.transfer.cache_features:
                    run = cached_features.cache_features(run, at.state.inference())
                announce(run, at)
            # Steps replace the best parameters; a reference here would keep those of the checkpoint beside them.
            first, at = [at], None
            at, ending = take_steps(run, checkpoints, first.pop, signals)
            with record_failure(directory, lambda: at.step):
                return finish(run, checkpoints, at, ending)


def prepare(
    config: ml_collections.ConfigDict,
    directory: RunDirectory,
    goodput: Goodput,
    devices: Sequence[jax.Device] | None,
    *,
    begins: bool,
) -> tuple[Run, str]:
    """Opens the data, builds the training and checks it. Writes nothing to the run directory and compiles no step.

    Args:
      config: the resolved config.
      directory: the run directory.
      goodput: of the run.
      devices: to train on; None: all devices.
      begins: the run starts from its initial parameters; otherwise it is resumed.

    Returns:
      The run, and a table of the sources of its initial parameters; "" without `transfer.source`.

    Raises:
      UserError: the training is not possible, or processes disagree about it.
    """
    compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
    coordination.agree({"devices of each process": jax.local_device_count()})
    mesh = training_mesh(config, devices)
    # A run that is resumed needs neither the file of its tokenizer, nor that of an audit, nor its transfer source.
    dataset = data.load(config.data, seed=config.seed, assets=None if begins else directory.assets())
    num_examples = len(dataset.splits["train"])
    training = build_training(config, dataset.features, fitted_arrays(dataset), num_examples=num_examples, mesh=mesh)
    if config.transfer.cache_features:
        cached_features.check(training.program)
    start, origin = transfer.load_start(config.transfer, training.program) if begins else ({}, "")
    rules = make_rules(config, training.clock, training.program.objective)
    profiling.check(config.train.profile, rules.total_steps)
    run = Run(
        training=training,
        dataset=dataset,
        rules=rules,
        evaluate=make_run_evaluate(training),
        directory=directory,
        goodput=goodput,
        start=start,
    )
    preflight.check_training(directory.path, training)
    data_and_code = {"data": dataset.identity, "versions": versions()}
    coordination.agree({"config": defining_fields(config.to_dict()), **data_and_code})
    return run, origin
