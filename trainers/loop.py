"""A run: from a config and a working directory to trained parameters, and on from wherever it was stopped.

Read `train` first: it is the list of phases. What happens at a step (log, evaluate, save) stands in `_Run.events`.
"""

import dataclasses
import importlib.metadata
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

import data
from data.batches import TrainBatches
from plumbline import UserError, __version__
from trainers import checkpoints, compilation, hyperparameters, objectives, schedules, settings
from trainers.checkpoints import Best, Checkpoint, Checkpoints
from trainers.durations import Clock, Every
from trainers.evaluation import make_evaluate, overall
from trainers.execution import Execution, Plan, make_plan
from trainers.mesh import check_batch, make_mesh, replicated
from trainers.progress import Progress
from trainers.run_directory import RunDirectory
from trainers.signals import Signals
from trainers.state import Init, Program, make_program, num_parameters
from trainers.step import make_train_step, zero_metrics
from trainers.tensorboard import scalar_writer

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def train(config: ml_collections.ConfigDict, workdir: str | os.PathLike, *, overwrite: bool = False) -> dict[str, Any]:
    """Trains by `config` in `workdir`; called again, goes on where the last call stopped.

    Args:
      config: the whole config, as `configs.defaults` describes it.
      workdir: the run directory; new, empty, or that of the same config.
      overwrite: delete what another run left in `workdir`.

    Returns:
      The summary, also in `summary.json` once the run is done. `status` is "done", "preempted" (SIGTERM or SIGINT;
      everything is saved) or "diverged".

    Raises:
      UserError: config, data or working directory are not right; the message says what to do.
    """
    began = time.perf_counter()
    settings.check(config)
    directory = RunDirectory(workdir)
    with directory.held(), Signals() as signals:
        directory.check(config, overwrite=overwrite)
        if not overwrite and directory.status().get("status") == "done":
            print(f"'{directory.path}' is done already; --overwrite trains anew", file=sys.stderr)
            return directory.summary()

        # Everything that can be wrong is found out before anything is deleted, written or compiled.
        compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
        mesh = make_mesh(config.execution.devices)
        check_batch(mesh, config.train.batch_size, config.train.accumulation_steps)
        dataset = data.load(config.data, seed=config.seed)
        clock = make_clock(config, len(dataset.splits["train"]))
        program, init = build_program(config, dataset.features, clock)
        run = _Run(config, directory, dataset, program, init, mesh, clock)

        if overwrite:
            directory.clear()
        with run.saved_states():
            run.restore_or_begin()
            directory.begin(config, dataset.features, fitted(dataset))
            with _failure_written(run):
                status, reason = run.steps(signals)
                return run.finish(status, reason, began)


def make_clock(config: ml_collections.ConfigDict, num_examples: int) -> Clock:
    """The clock of a training over `num_examples` examples.

    Raises:
      UserError: the duration is none, or shorter than a step.
    """
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size)
    total_steps = clock.steps(config.train.duration, "train.duration")
    if total_steps < 1:
        raise UserError(f"train.duration: '{config.train.duration}' is less than one step")
    return dataclasses.replace(clock, total_steps=total_steps)


def build_program(config: ml_collections.ConfigDict, features: data.Features, clock: Clock) -> tuple[Program, Init]:
    """The program of a config on such features, and the function that makes its first state.

    Raises:
      UserError: objective, schedule, model or optimizer do not fit.
    """
    objective = objectives.build(config.objective.name, features, calibration_bins=config.evaluation.calibration_bins)
    settings.check_task(config, features)
    schedule = schedules.build(config.schedule, clock)
    return make_program(config, features, objective, hyperparameters.used([config]), schedule)


def fitted(dataset: data.Dataset) -> dict[str, np.ndarray]:
    """What was fitted on the training rows, as it lies in the train state: preprocessing, and class weights if any."""
    weights = {} if dataset.class_weights is None else {"class_weights": dataset.class_weights}
    return {**dataset.preprocessing, **weights}


@dataclasses.dataclass
class _Intervals:
    log: Every
    evaluate: Every
    checkpoint: Every

    def in_steps(self) -> list[Every]:
        return [self.log, self.evaluate, self.checkpoint]

    def window(self, step: int, last: int) -> tuple[int, int]:
        """The last step up to `step` and the first after it at which something is due."""
        every = self.in_steps()
        return max(e.last_until(step) for e in every), min(e.next_after(step, last) for e in every)

    def shortest(self, last: int) -> int:
        return min(e.steps or last for e in self.in_steps())


class _Run:
    """One call of `train`, once everything has been checked."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        directory: RunDirectory,
        dataset: data.Dataset,
        program: Program,
        init: Init,
        mesh: Mesh,
        clock: Clock,
    ):
        settings_ = config.train
        self.config, self.directory, self.dataset, self.program, self.mesh = config, directory, dataset, program, mesh
        self.total_steps = clock.total_steps
        self.intervals = _Intervals(
            log=clock.every(settings_.log_every, "train.log_every"),
            evaluate=clock.every(settings_.evaluate_every, "train.evaluate_every"),
            checkpoint=clock.every(settings_.checkpoint_every, "train.checkpoint_every", wall_time=True),
        )
        self.patience = clock.every(settings_.patience, "train.patience").steps
        objective = program.objective
        self.metric = objective.best_metric if settings_.best_metric == "auto" else settings_.best_metric
        self.sign = 1 if objective.higher_is_better(self.metric) else -1
        self.evaluate = make_evaluate(program, mesh)
        self.plan = make_plan(
            config.execution.mode, config.execution.scan_steps, self.intervals.shortest(self.total_steps)
        )
        self.stopwatch = _Stopwatch()

        self.init_arguments = jnp.uint32(config.seed), hyperparameters.from_config(config), fitted(dataset)
        # Compiled once and run once: on CPU most of LLVM's work on it would be wasted.
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        quickly = {"xla_backend_optimization_level": 1} if on_cpu else None
        self.init = jax.jit(init, out_shardings=replicated(mesh), compiler_options=quickly)
        self.abstract_state = checkpoints.abstract(jax.eval_shape(self.init, *self.init_arguments), replicated(mesh))

    # ---- Phases, in the order `train` calls them.

    @contextmanager
    def saved_states(self) -> Iterator[None]:
        self.checkpoints = Checkpoints(self.directory.checkpoints, keep=self.config.train.keep_checkpoints)
        try:
            yield
        finally:
            self.checkpoints.close()

    def restore_or_begin(self) -> None:
        whole = replicated(self.mesh)
        running = jax.eval_shape(lambda: zero_metrics(self.program))
        restored = self.checkpoints.restore(self.abstract_state, checkpoints.abstract(running, whole))
        if restored:
            if restored.fingerprint != self.dataset.fingerprint:
                raise UserError(
                    f"data.source: '{self.config.data.source}' holds other data than when this run began; "
                    "bring those back, or start anew with another --workdir or --overwrite"
                )
            self.state, self.running, self.best = restored.state, restored.running, restored.best
            if plan := self.directory.execution():
                self.plan = Plan.from_json(plan)
        else:
            self.state = self.init(*self.init_arguments)
            self.running, self.best = jax.device_put(zero_metrics(self.program), whole), None
        self.step = int(self.state.step)
        self.directory.forget_metrics_after(self.step)

    def steps(self, signals: Signals) -> tuple[str, str]:
        """Takes all steps that are left; returns status and reason."""
        self._announce()
        config = self.config.train

        def write_plan(plan: Plan) -> None:
            self.directory.write_execution(dataclasses.asdict(plan))

        write_plan(self.plan)
        self.directory.write_status("running", self.step)
        batches = TrainBatches(
            self.dataset.splits["train"],
            batch_size=config.batch_size,
            seed=self.config.seed,
            workers=self.config.data.workers,
        )
        self.execution = Execution(
            make_train_step(self.program), self.mesh, batches, self.plan, self.total_steps, write_plan
        )
        self.saved_step, self.saved_at = self.step or None, time.monotonic()
        with (
            scalar_writer(self.directory.tensorboard, self.step, enabled=config.tensorboard) as self.write_scalars,
            Progress(self.total_steps, config.batch_size, self.step) as self.progress,
        ):
            try:
                ending = self._steps(signals)
                jax.block_until_ready(self.state)
                self.stopwatch.stop(self.step, self.execution.compile_seconds)
                return ending
            finally:
                batches.close()

    def finish(self, status: str, reason: str, began: float) -> dict[str, Any]:
        """The last evaluation, with the best parameters, and the summary."""
        best = self.best or Best(step=self.step, value=float("nan"), state=self.state.inference())
        metrics = {"train": self.directory.last_metrics("train")}
        if status == "done":
            splits = {name: split for name, split in self.dataset.splits.items() if name != "train"}
            metrics |= {name: self.evaluate(best.state, split) for name, split in splits.items()}
        summary = {
            "status": status,
            "reason": reason,
            "step": self.step,
            "best_step": best.step,
            "skipped_updates": sum(int(line.get("skipped", 0)) for line in self.directory.metrics()),
            "examples": {name: int((split.weights > 0).sum()) for name, split in self.dataset.splits.items()},
            "metrics": metrics,
            **self.stopwatch.figures(self.config.train.batch_size),
            "compile_seconds": self.execution.compile_seconds,
            "total_seconds": time.perf_counter() - began,
            "parameters": num_parameters(self.state.params),
            "devices": [str(device) for device in self.mesh.devices.flat],
            "execution": dataclasses.asdict(self.plan),
            "versions": {"plumbline": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES},
        }
        # Nothing may be called done, or saved, before it is on disk.
        self.checkpoints.wait()
        if status == "done":
            self.directory.write_summary(summary)
        self.directory.write_status(status, self.step, reason)
        return summary

    # ---- Inside the phases.

    def _announce(self) -> None:
        config, train_split = self.config, self.dataset.splits["train"]
        devices = self.mesh.devices.flat
        verb = f"going on at step {self.step}" if self.step else "starting"
        without_weight = int((train_split.weights == 0).sum())
        left_out = f" ({without_weight} of weight 0 or corrupt)" if without_weight else ""
        print(
            f"{config.model.name}, {num_parameters(self.state.params):,} parameters; {config.data.source}, "
            f"{len(train_split):,} training examples{left_out}; "
            f"{self.total_steps:,} steps of {config.train.batch_size}; "
            f"{len(devices)} {devices[0].device_kind} device{'s' * (len(devices) > 1)}, mesh "
            f"{dict(self.mesh.shape)}; execution {config.execution.mode}; {verb}",
            file=sys.stderr,
            flush=True,
        )

    def _steps(self, signals: Signals) -> tuple[str, str]:
        limit = self.config.train.max_skipped
        window = self.intervals.window(self.step, self.total_steps)
        while self.step < self.total_steps and not self._patience_is_over():
            if signals.received:
                self._save()
                return "preempted", f"{signals.received} at step {self.step}; run again, without --overwrite, to go on"
            self.state, self.running, self.step, skipped = self.execution.advance(
                self.state, self.running, self.step, window
            )
            if self.stopwatch.started_at is None:
                self.stopwatch.start(self.step, self.execution.compile_seconds)
                self.progress.restart_clock(self.step)
            self.progress.step(self.step)

            if at_event := self.step == window[1]:
                skipped = max(skipped, self.execution.drain())
            if skipped >= limit:
                return "diverged", f"loss or gradient not finite in {skipped} steps in a row before step {self.step}"
            if at_event:
                self._events()
                window = self.intervals.window(self.step, self.total_steps)
            elif self._checkpoint_is_overdue():
                self._save()
        self._save()
        if self.step < self.total_steps:
            return "done", f"no better {self.metric} than {self.best.value:.4g} since step {self.best.step}"
        return "done", ""

    def _events(self) -> None:
        """What is due at this step, always in this order, so that a checkpoint holds what the others did."""
        last = self.step == self.total_steps
        if last or self.intervals.log.at(self.step):
            self._log()
        if "validation" in self.dataset.splits and (last or self.intervals.evaluate.at(self.step)):
            self._follow_best()
        if self.intervals.checkpoint.at(self.step) or self._checkpoint_is_overdue():
            self._save()
        self.progress.show(self.step)

    def _log(self) -> None:
        pairs = jax.device_get(self.running)
        # What was never measured (all updates skipped) has no mean.
        metrics = {name: float(total / weight) for name, (total, weight) in pairs.items() if weight > 0}
        metrics["skipped"] = float(pairs["skipped"][0])  # A count, not a mean.
        self._write("train", metrics, shown=("loss",))
        self.running = jax.device_put(zero_metrics(self.program), replicated(self.mesh))

    def _follow_best(self) -> None:
        began = time.perf_counter()
        state = self.state.inference()
        metrics = overall(self.evaluate(state, self.dataset.splits["validation"]))
        self._write("validation", metrics, shown=(self.metric,))
        value = metrics[self.metric]
        # Outputs that are not finite still have an accuracy.
        if np.isfinite([value, metrics["loss"]]).all() and (
            self.best is None or self.sign * value > self.sign * self.best.value
        ):
            # The next step uses up the buffers of the state; what is best must stay.
            self.best = Best(step=self.step, value=value, state=jax.tree.map(jnp.copy, state))
        seconds = time.perf_counter() - began
        if not self.stopwatch.evaluation_seconds:
            self.progress.leave_out(seconds)  # The first evaluation compiles, and says nothing of the rest.
        self.stopwatch.evaluation_seconds += seconds

    def _write(self, split: str, metrics: dict[str, float], shown: Sequence[str]) -> None:
        self.directory.append_metrics(self.step, split, metrics)
        self.write_scalars(self.step, split, metrics)
        self.progress.metrics(split, {name: metrics[name] for name in shown if name in metrics})

    def _patience_is_over(self) -> bool:
        # Of the last evaluation, not of this step: a run must not be stopped between two of them.
        evaluated = self.intervals.evaluate.last_until(self.step)
        return bool(self.patience and self.best) and evaluated - self.best.step >= self.patience

    def _checkpoint_is_overdue(self) -> bool:
        seconds = self.intervals.checkpoint.seconds
        return seconds is not None and time.monotonic() - self.saved_at >= seconds

    def _save(self) -> None:
        if self.saved_step == self.step:
            return
        began = time.perf_counter()
        self.checkpoints.save(
            Checkpoint(state=self.state, running=self.running, best=self.best, fingerprint=self.dataset.fingerprint)
        )
        self.saved_step, self.saved_at = self.step, time.monotonic()
        self.stopwatch.checkpoint_seconds += time.perf_counter() - began
        self.directory.write_status("running", self.step)


class _Stopwatch:
    """Speed of the steps of one call, the first dispatch (which compiles) left out."""

    def __init__(self):
        self.started_at: float | None = None
        self.evaluation_seconds = self.checkpoint_seconds = 0.0

    def start(self, step: int, compile_seconds: float) -> None:
        self.started_at, self._first_step, self._compiled_before = time.perf_counter(), step, compile_seconds

    def stop(self, step: int, compile_seconds: float) -> None:
        if self.started_at is not None:
            self._steps = step - self._first_step
            self._seconds = time.perf_counter() - self.started_at - (compile_seconds - self._compiled_before)

    def figures(self, batch_size: int) -> dict[str, float]:
        """Rates count logging and checkpoints, but neither compilation nor evaluation."""
        seconds = self._seconds - self.evaluation_seconds if self.started_at is not None else 0.0
        rate = self._steps / seconds if seconds > 0 else float("nan")
        return {
            "steps_per_second": rate,
            "examples_per_second": rate * batch_size,
            "evaluation_seconds": self.evaluation_seconds,
            "checkpoint_seconds": self.checkpoint_seconds,
        }


@contextmanager
def _failure_written(run: _Run) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        run.directory.write_status("failed", run.step, f"{type(error).__name__}: {error}")
        raise
