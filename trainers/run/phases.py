"""One call of `train` once everything has been checked: restored or begun, its steps, what is due at them, its end.

What happens at a step (log, evaluate, save) stands in `Run._events`, and in which order all else in `Run._steps`.
"""

import dataclasses
import functools
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

import data
from data.batches import TrainBatches
from plumbline import UserError, __version__
from trainers.devices import flops, hardware
from trainers.devices.dispatch import Dispatch, Wish
from trainers.devices.mesh import local_rows, replicated
from trainers.devices.sharding import placements, state_shardings
from trainers.devices.workload import model_flops
from trainers.durations import Clock, Every
from trainers.processes import coordination
from trainers.processes.signals import Signals
from trainers.run import cached_features, checkpoints, preflight
from trainers.run.checkpoints import Best, Checkpoint, Checkpoints
from trainers.run.directory import RunDirectory
from trainers.run.evaluation import evaluation_batch_size, make_evaluate, overall
from trainers.run.execution import Execution, Plan, make_plan
from trainers.run.goodput import Goodput
from trainers.run.profiling import Profile
from trainers.run.progress import Progress
from trainers.run.tensorboard import scalar_writer
from trainers.step import hyperparameters
from trainers.step.state import InferenceState, Init, Program, Start, num_parameters
from trainers.step.train_step import make_train_step, zero_metrics

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """The versions of what figures in a result, by package."""
    return {"plumbline": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}


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


class Run:
    """The phases of a training, in the order in which `train` calls them."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        directory: RunDirectory,
        dataset: data.Dataset,
        program: Program,
        init: Init,
        mesh: Mesh,
        clock: Clock,
        goodput: Goodput,
        start: Start,
    ):
        settings_ = config.train
        self.config, self.directory, self.dataset, self.program, self.mesh = config, directory, dataset, program, mesh
        self.goodput, self.start = goodput, start
        self.total_steps = clock.total_steps
        self.intervals = _Intervals(
            log=clock.every(settings_.log_every, "train.log_every"),
            evaluate=clock.every(settings_.evaluate_every, "train.evaluate_every"),
            checkpoint=clock.every(settings_.checkpoint_every, "train.checkpoint_every", wall_time=True),
        )
        if settings_.profile.steps and settings_.profile.start >= self.total_steps:
            raise UserError(
                f"train.profile.start: {settings_.profile.start} is not reached in {self.total_steps} steps; lower it"
            )
        self.patience = clock.every(settings_.patience, "train.patience").steps
        self.metric, self.sign = program.objective.monitored_metric(settings_.best_metric)
        self.plan = make_plan(
            config.execution.mode, config.execution.scan_steps, self.intervals.shortest(self.total_steps)
        )
        self.alone, self.first = coordination.process_count() == 1, coordination.process_index() == 0
        self.asked_to_save = self.has_evaluated = False

        self.init_arguments = jnp.uint32(config.seed), hyperparameters.from_config(config, clock), fitted(dataset)
        shapes = jax.eval_shape(init, *self.init_arguments)
        self.shardings = state_shardings(program, mesh, shapes)
        self.abstract_state = checkpoints.abstract(shapes, self.shardings)
        self.abstract_best, self.best_shardings = self.abstract_state.inference(), self.shardings.inference()
        self.evaluate = self._make_evaluate()
        # Compiled once and run once: on CPU most of LLVM's work on it would be wasted.
        self.on_cpu = mesh.devices.flat[0].platform == "cpu"
        quickly = {"xla_backend_optimization_level": 1} if self.on_cpu else None
        self.zeros = jax.jit(lambda: zero_metrics(program), out_shardings=replicated(mesh))
        self.copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=self.best_shardings)
        self.init = jax.jit(init, out_shardings=self.shardings, compiler_options=quickly)

    # ---- Phases, in the order `train` calls them.

    def check_resources(self) -> None:
        """Finds out before anything is compiled whether disk and memory will do."""
        state, params = (
            placements(tree, shardings)
            for tree, shardings in ((self.abstract_state, self.shardings), (self.abstract_best, self.best_shardings))
        )
        # One copy of this process's part for the save under way; on CPU, the device's own memory is the host's as well:
        # the state, the best parameters, and a gradient.
        local_devices = len(self.mesh.local_devices)
        state_bytes, params_bytes = (local_devices * sum(p.device_bytes for p in group) for group in (state, params))
        preflight.check(
            self.directory.path,
            state_bytes=sum(p.total_bytes for p in state),
            best_bytes=sum(p.total_bytes for p in params),
            keep=self.config.train.keep_checkpoints,
            host_bytes=2 * state_bytes + 2 * params_bytes if self.on_cpu else state_bytes,
        )

    @contextmanager
    def saved_states(self) -> Iterator[None]:
        """Opens the checkpoints, and waits for the last save at the end."""
        self.checkpoints = Checkpoints(self.directory.checkpoints, keep=self.config.train.keep_checkpoints)
        try:
            yield
        finally:
            self.checkpoints.close()

    def restore_or_begin(self) -> None:
        """Makes the state to go on from: that of the newest whole checkpoint, or a new one."""
        # What process 0 reads counts, should it be written anew meanwhile.
        plan, self.rollback = coordination.broadcast([self.directory.execution(), self.directory.rollback()])
        restored = self._restore()
        if restored and restored.fingerprint != self.dataset.fingerprint:
            raise UserError(
                f"data.source: '{self.config.data.source}' holds other data than when this run began; "
                "bring those back, or start anew with another --workdir or --overwrite"
            )
        self._take_over(restored)
        if restored and plan:
            self.plan = Plan.from_json(plan)
            # What one process began to time, several do not go on with: each would measure something else.
            self.plan.decided = self.plan.decided or not self.alone
        self.goodput.go_on_from(restored.extra if restored else {})

    def cache_features(self) -> None:
        """Computes what the head reads of all examples, which from here on is read in place of them."""
        size = evaluation_batch_size(self.config)
        compute = cached_features.make_compute(self.program, self.mesh, self.best_shardings, batch_size=size)
        self.dataset = cached_features.cached(self.dataset, functools.partial(compute, self.state.inference()))
        self.program = dataclasses.replace(self.program, reads_features=True)
        self.evaluate = self._make_evaluate()

    def steps(self, signals: Signals) -> tuple[str, str]:
        """Takes all steps that are left; returns status and reason."""
        self._announce()
        config = self.config.train
        self._write_plan(self.plan)
        self.directory.write_status("running", self.step)
        train_step = make_train_step(self.program)
        self.dispatch = Dispatch(
            train_step, self.mesh, self.shardings, batch_size=config.batch_size, mode=self.config.parallel.mode
        )
        self._prepare_execution()
        folder = self.directory.tensorboard
        with (
            scalar_writer(folder, self.step, enabled=config.tensorboard and self.first) as self.write_scalars,
            Progress(self.total_steps, config.batch_size, self.step, shown=self.first) as self.progress,
        ):
            self.profile = Profile(config.profile, folder, self.step)
            try:
                ending = self._steps(signals)
                jax.block_until_ready(self.state)
                self.rates = self.goodput.rates(self.step, config.batch_size)
                return ending
            finally:
                self.profile.close()
                self.batches.close()

    def finish(self, status: str, reason: str) -> dict[str, Any]:
        """The last evaluation, with the best parameters, and the summary."""
        best = self.best or Best(step=self.step, value=float("nan"), state=self.state.inference())
        metrics = {"train": self.directory.last_metrics("train")}
        if status == "done":
            splits = {name: split for name, split in self.dataset.splits.items() if name != "train"}
            with self.goodput.during("evaluation"):
                metrics |= {name: self.evaluate(best.state, split) for name, split in splits.items()}
        seconds = self.goodput.seconds()
        summary = {
            "status": status,
            "reason": reason,
            "step": self.step,
            "best_step": best.step,
            "skipped_updates": sum(int(line.get("skipped", 0)) for line in self.directory.metrics()),
            "examples": {name: int((split.weights > 0).sum()) for name, split in self.dataset.splits.items()},
            "metrics": metrics,
            **self.rates,
            "evaluation_seconds": seconds["evaluation"],
            "checkpoint_seconds": seconds["checkpoint"],
            "compile_seconds": seconds["compile"],
            "total_seconds": sum(seconds.values()),
            "goodput": self._figures(whole_call=True),
            "parameters": num_parameters(self.state.params),
            **(self._sparsity(best.state.params) if status == "done" else {}),
            "devices": [str(device) for device in self.mesh.devices.flat],
            "mesh": dict(self.mesh.shape),
            "processes": coordination.process_count(),
            "execution": dataclasses.asdict(self.plan),
            "versions": versions(),
        }
        # Nothing may be called done, or saved, before it is on disk.
        self.checkpoints.wait()
        if status == "done":
            self.directory.write_summary(summary)
        self.directory.write_status(status, self.step, reason)
        return summary

    # ---- Inside the phases.

    def _make_evaluate(self) -> Callable[[InferenceState, data.Split], dict[str, float]]:
        size = evaluation_batch_size(self.config)
        return make_evaluate(self.program, self.mesh, self.best_shardings, batch_size=size)

    def _restore(self, at_most: int | None = None) -> Checkpoint | None:
        running = jax.eval_shape(lambda: zero_metrics(self.program))
        return self.checkpoints.restore(
            self.abstract_state, checkpoints.abstract(running, replicated(self.mesh)), at_most=at_most
        )

    def _take_over(self, restored: Checkpoint | None) -> None:
        """Goes on from a checkpoint, or begins if there is none."""
        if restored:
            self.state, self.running, self.best = restored.state, restored.running, restored.best
        else:
            self.state = self.init(*self.init_arguments, self._placed_start())
            self.running, self.best = self.zeros(), None
        self.step = int(self.state.step)
        self.saved_step, self.saved_at = self.step if restored else None, time.monotonic()
        self.directory.forget_metrics_after(self.step)

    def _placed_start(self) -> Start:
        """What the run begins with, where its parts will lie."""

        def placed(tree: Any, shardings: Any) -> Any:
            if isinstance(tree, Mapping):
                return {name: placed(part, shardings[name]) for name, part in tree.items()}
            return jax.make_array_from_callback(tree.shape, shardings, lambda index: tree[index])

        return {name: placed(tree, getattr(self.shardings, name)) for name, tree in self.start.items()}

    def _prepare_execution(self) -> None:
        """What hands out batches and takes steps from here on."""
        config = self.config.train
        passed_over = (self.rollback["step"], self.rollback["batches"]) if self.rollback else (0, 0)
        self.batches = TrainBatches(
            self.dataset.splits["train"],
            batch_size=config.batch_size,
            seed=self.config.seed,
            rows=local_rows(self.mesh, config.batch_size),
            passed_over=passed_over,
            workers=self.config.data.workers,
        )
        self.execution = Execution(
            self.dispatch, self.batches, self.plan, self.total_steps, self._write_plan, self.goodput
        )

    def _write_plan(self, plan: Plan) -> None:
        self.directory.write_execution(dataclasses.asdict(plan))

    def _announce(self) -> None:
        if not self.first:
            return
        config, train_split = self.config, self.dataset.splits["train"]
        devices = self.mesh.devices.flat
        verb = f"going on at step {self.step}" if self.step else "starting"
        without_weight = int((train_split.weights == 0).sum())
        left_out = f" ({without_weight} of weight 0 or corrupt)" if without_weight else ""
        count = coordination.process_count()
        partition = self.program.partition
        some = num_parameters(jax.eval_shape(partition.trained, self.abstract_state.params))
        trained = f" ({some:,} of them trained)" if partition.frozen else ""
        print(
            f"{config.model.name}, {num_parameters(self.state.params):,} parameters{trained}; {config.data.source}, "
            f"{len(train_split):,} training examples{left_out}; "
            f"{self.total_steps:,} steps of {config.train.batch_size}; "
            f"{len(devices)} {devices[0].device_kind} device{'s' * (len(devices) > 1)}"
            f"{f' in {count} processes' if count > 1 else ''}, mesh {dict(self.mesh.shape)} by {config.parallel.mode}; "
            f"execution {config.execution.mode}; {verb}",
            file=sys.stderr,
            flush=True,
        )

    def _steps(self, signals: Signals) -> tuple[str, str]:
        window = self.intervals.window(self.step, self.total_steps)
        granted = Wish.NONE
        while self.step < self.total_steps and not self._patience_is_over():
            wish = self._wish(signals)
            granted = wish if self.alone else granted
            if granted == Wish.STOP:
                self._save(even_while_skipping=True)
                cause = signals.received or "a signal to another process"
                return "preempted", f"{cause} at step {self.step}; run again, without --overwrite, to go on"
            if granted == Wish.SAVE:
                self._save()
            self.state, self.running, self.step = self.execution.advance(
                self.state, self.running, self.step, window, wish
            )
            if not self.goodput.stepping:
                self.goodput.begin_stepping(self.step)
                self.progress.restart_clock(self.step)
            self.progress.step(self.step)
            self.profile.step(self.step, self.execution.drain)

            if at_event := self.step == window[1]:
                self.execution.drain()
            notes = self.execution.notes()
            granted = notes.wish
            if notes.skipped >= self.config.train.max_skipped:
                reason = f"loss or gradient not finite in {notes.skipped} steps in a row before step {self.step}"
                if self.rollback:
                    reason += f", after it had gone back to step {self.rollback['step']} already"
                if self.rollback or self.config.train.on_divergence != "rollback":
                    return "diverged", reason
                self._roll_back(reason)
                window = self.intervals.window(self.step, self.total_steps)
            elif at_event:
                self._events()
                window = self.intervals.window(self.step, self.total_steps)
        self._save(even_while_skipping=True)
        if self.step < self.total_steps:
            return "done", f"no better {self.metric} than {self.best.value:.4g} since step {self.best.step}"
        return "done", ""

    def _wish(self, signals: Signals) -> Wish:
        """What this process asks for before the next dispatch; of several, only the first watches the clock."""
        if signals.received:
            return Wish.STOP
        overdue = self.first and not self.asked_to_save and self._checkpoint_is_overdue()
        # Once: of several processes, all save when they learn of it, some dispatches later.
        self.asked_to_save = self.asked_to_save or (overdue and not self.alone)
        return Wish.SAVE if overdue else Wish.NONE

    def _roll_back(self, reason: str) -> None:
        """Back to the last checkpoint, and on with the batches that follow those of the failure."""
        self.execution.drain()
        self.checkpoints.wait()
        diverged_at = self.step
        self.batches.close()
        with self.goodput.during("restart"):
            # A run that was stopped in the middle of the failure has saved there as well.
            self._take_over(self._restore(at_most=diverged_at - int(self.state.skipped)))
        # What was asked for lies in a dispatch that nobody will look at any more.
        self.asked_to_save = False
        self.checkpoints.move_aside(self.step, "diverged")
        self.rollback = {"step": self.step, "batches": diverged_at - self.step, "reason": reason}
        self.directory.write_rollback(self.rollback)
        self._prepare_execution()
        self.goodput.go_back(self.step)
        if self.first:
            print(
                f"{reason}: back to step {self.step}, and on with the batches after those of step {diverged_at}",
                file=sys.stderr,
                flush=True,
            )

    def _events(self) -> None:
        """What is due at this step, always in this order, so that a checkpoint holds what the others did."""
        last = self.step == self.total_steps
        if last or self.intervals.log.at(self.step):
            self._log()
        if "validation" in self.dataset.splits and (last or self.intervals.evaluate.at(self.step)):
            self._follow_best()
        if self.intervals.checkpoint.at(self.step):
            self._save()
        self.progress.show(self.step)

    def _log(self) -> None:
        pairs = jax.device_get(self.running)
        # What was never measured (all updates skipped) has no mean.
        metrics = {name: float(total / weight) for name, (total, weight) in pairs.items() if weight > 0}
        metrics["skipped"] = float(pairs["skipped"][0])  # A count, not a mean.
        self._write("train", metrics, shown=("loss",))
        self.running = self.zeros()
        figures = self._figures()
        self.directory.append_goodput(self.step, figures)
        self.write_scalars(self.step, "run", {n: figures[n] for n in ("goodput", "mfu") if figures.get(n) is not None})

    def _figures(self, *, whole_call: bool = False) -> dict[str, Any]:
        """Goodput and MFU, with what they are made of."""
        device = self.mesh.devices.flat[0]
        peak = hardware.peak_flops(device.device_kind, self.config.model.dtype)
        peak = peak and peak * self.mesh.size
        return {
            **self.goodput.figures(
                self.step, flops_per_step=self.flops_per_step, peak_flops=peak, whole_call=whole_call
            ),
            "flops_per_step": self.flops_per_step,
            "peak_flops": peak,
            "rule": flops.RULE,
        }

    @functools.cached_property
    def flops_per_step(self) -> int:
        """Model FLOPs of a step over all devices."""
        with self.goodput.during("compile"):
            return model_flops(self.program, self.abstract_state)

    def _follow_best(self) -> None:
        began = time.perf_counter()
        state = self.state.inference()
        metrics = overall(self.evaluate(state, self.dataset.splits["validation"]))
        self._write("validation", metrics, shown=(self.metric,))
        value = metrics[self.metric]
        # Outputs that are not finite still have an accuracy.
        may_be_best = np.isfinite([value, metrics["loss"]]).all() and self._is_pruned()
        if may_be_best and (self.best is None or self.sign * value > self.sign * self.best.value):
            # The next step uses up the buffers of the state; what is best must stay.
            self.best = Best(step=self.step, value=value, state=self.copy(state))
        seconds = time.perf_counter() - began
        if not self.has_evaluated:
            self.progress.leave_out(seconds)  # The first evaluation compiles, and says nothing of the rest.
        self.has_evaluated = True
        self.goodput.add("evaluation", seconds)

    def _is_pruned(self) -> bool:
        """Whether the parameters are as sparse as they shall be: before, they are no answer to what was asked for."""
        pruning = self.program.pruning
        return pruning is None or bool(pruning.is_over(self.state.opt_state))

    def _sparsity(self, params: Any) -> dict[str, Any]:
        """How sparse parameters are, for the summary; nothing, where nothing is pruned."""
        pruning, partition = self.program.pruning, self.program.partition
        if pruning is None:
            return {}
        count = jax.jit(lambda params: pruning.zeros(partition.trained(params)), out_shardings=replicated(self.mesh))
        return {"pruning": pruning.reached(jax.device_get(count(params)))}

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

    def _save(self, *, even_while_skipping: bool = False) -> None:
        """Saves, unless this step is saved or, normally, the last updates were skipped.

        So the checkpoints that are kept are from before a failure that may be beginning.
        """
        self.asked_to_save, self.saved_at = False, time.monotonic()
        if self.saved_step == self.step or (int(self.state.skipped) and not even_while_skipping):
            return
        with self.goodput.during("checkpoint"):
            self.checkpoints.save(
                Checkpoint(
                    state=self.state,
                    running=self.running,
                    best=self.best,
                    fingerprint=self.dataset.fingerprint,
                    extra=self.goodput.to_save(),
                )
            )
        self.saved_step = self.step
        self.directory.write_status("running", self.step)


@contextmanager
def failure_written(run: Run) -> Iterator[None]:
    """Writes into the run's status by what exception the block ended, if it does."""
    try:
        yield
    except Exception as error:
        # On a full disk, which may be what failed, this fails as well.
        with suppress(UserError):
            run.directory.write_status("failed", run.step, f"{type(error).__name__}: {error}")
        raise
