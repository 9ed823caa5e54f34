"""Populations: any number of trainings in as few compiled programs as they need.

Hyperparameters, seeds and rows are data of a program, so that one serves all members that differ in nothing else. Those
whose overrides change more than data are put into groups, each with a program of its own. A member that ends, pauses or
diverges leaves its lane to the next one waiting.
"""

import collections
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import psutil

from data import order
from data.pool import Pool
from plumbline import Preempted, UserError, unknown_name
from trainers import compilation, hyperparameters, lanes, settings
from trainers.durations import Clock
from trainers.evaluation import overall
from trainers.lanes import Lanes
from trainers.loop import build_program, make_clock
from trainers.members import Member, Outcome, check_shared, overridden, program_key
from trainers.population_file import Paused, Saved, read, write
from trainers.progress import PopulationProgress
from trainers.run_directory import compared
from trainers.signals import Signals
from trainers.state import Program, num_parameters

__all__ = ["Member", "Outcome", "Population", "overridden", "train_population"]

# Lanes of a device, unless the config says otherwise or memory is short.
_LANES_ON_CPU, _LANES = 8, 64
# Positions of examples are made for so many steps at once.
_LONGEST_WINDOW = 1024
# Dispatches under way at which the host waits.
_IN_FLIGHT = 8
# A mode is timed for this long.
_TRIAL_SECONDS = 0.3
# A step of a lane that takes longer is not worth compiling for again; one that takes less is a matter of dispatching.
_LONG_STEP_SECONDS, _SHORT_STEP_SECONDS = 0.05, 5e-4
# Parameters times examples: up to here a dense model's step is so short that a loop is not tried first.
_SMALL_STEP = 1e7
# Of the memory that is free.
_MEMORY_SHARE = 0.7


def train_population(
    config: ml_collections.ConfigDict, pool: Pool, members: Sequence[Member], **options: Any
) -> dict[str, Outcome]:
    """Trains members once; arguments and errors as in `Population` and `Population.train`."""
    predict = options.pop("predict", False)
    return Population(config, pool, **options).train(members, predict=predict)


class Population:
    """Trains members; keeps programs, and the states of members that pause, between calls.

    Attributes:
      summary: what the calls so far took: `mode` and `lanes` of the last group, `programs`, `compile_seconds`,
        `total_seconds`, `trainings`, `steps` and `busy`, the share of the lanes' time that was spent on steps.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        pool: Pool,
        *,
        directory: str | os.PathLike | None = None,
        devices: Sequence[jax.Device] | None = None,
        progress: bool = True,
        used: frozenset[str] = frozenset(),
    ):
        """Nothing is compiled yet.

        Args:
          config: what all members have in common.
          pool: of the rows.
          directory: where it saves itself, to go on after a kill; None saves nothing.
          devices: that members are spread over; all of this process by default.
          progress: show it.
          used: hyperparameters that later members use; known from the start, they make programs, and so the last bit
            of what members come to, the same in whatever parts members are handed in.

        Raises:
          UserError: the config is not right, or the directory holds a population of another config or other data.
        """
        settings.check(config)
        if config.population.mode not in ("auto", *lanes.MODES):
            raise unknown_name("population.mode", config.population.mode, ("auto", *lanes.MODES))
        compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
        self._config, self._pool = config.copy_and_resolve_references(), pool
        self._devices = list(devices or jax.local_devices())
        self._show = progress
        self._path = None if directory is None else pathlib.Path(directory) / "population.npz"
        self._fingerprint = _digest([compared(self._config.to_dict()), pool.fingerprint, sorted(pool.splits)])
        self._used: dict[str, frozenset[str]] = collections.defaultdict(lambda: used)
        self._engines: dict[tuple, _Engine] = {}
        self._saved = Saved(fingerprint=self._fingerprint)
        if self._path is not None and self._path.exists():
            self._saved = read(self._path)
            if self._saved.fingerprint != self._fingerprint:
                raise UserError(
                    f"--workdir: '{self._path.parent}' holds trainings of another config or other data; "
                    "choose another --workdir, or --overwrite"
                )
        every = Clock(num_examples=1, batch_size=1, total_steps=1).every(
            config.train.checkpoint_every, "train.checkpoint_every", wall_time=True
        )
        self._save_seconds = every.seconds or 60.0
        self._saved_at = time.monotonic()
        self._useful = self._capacity = 0
        self.summary: dict[str, Any] = {"programs": 0, "compile_seconds": 0.0, "total_seconds": 0.0, "trainings": 0}

    @property
    def lanes(self) -> int:
        """Members that are trained at once, if there are as many and memory allows."""
        on_cpu = self._devices[0].platform == "cpu"
        per_device = _LANES_ON_CPU if on_cpu else _LANES
        return self._rounded(self._config.population.lanes or per_device * len(self._devices))

    def train(self, members: Sequence[Member], *, until: float = 1.0, predict: bool = False) -> dict[str, Outcome]:
        """Trains members, or goes on with those that paused.

        What a member comes to depends on nothing but itself: not on its lane, on its neighbours, or on pauses.

        Args:
          members: with unique names.
          until: the share of its training at which each one pauses; 1 trains to the end.
          predict: the outcomes shall have predictions.

        Returns:
          The outcomes, by name.

        Raises:
          UserError: overrides name no field or one that all members share, or a value does not fit; a member has no
            training rows.
          Preempted: a signal came.
        """
        began = time.perf_counter()
        if len({member.name for member in members}) < len(members):
            raise ValueError("names of members must be unique")
        tasks = [_Task(self._config, self._pool, member, until, predict) for member in members]
        outcomes = {task.name: known for task in tasks if (known := self._saved.outcomes.get(task.key))}
        groups: dict[str, list[_Task]] = collections.defaultdict(list)
        for task in tasks:
            if task.name not in outcomes:
                groups[program_key(task.config)].append(task)
        total = sum(task.stop for task in tasks)
        shown = PopulationProgress(total, len(tasks), shown=self._show)
        shown.advance(sum(task.stop for task in tasks if task.name in outcomes), len(outcomes))
        with Signals() as signals, shown:
            for key, group in groups.items():
                outcomes |= self._train_group(key, group, signals, shown)
        self._save()
        self.summary["trainings"] += sum(map(len, groups.values()))
        self.summary["total_seconds"] += time.perf_counter() - began
        return {member.name: outcomes[member.name] for member in members}

    def drop(self, names: Iterable[str]) -> None:
        """Forgets the states and outcomes of these members."""
        names = set(names)
        self._saved.paused = {n: p for n, p in self._saved.paused.items() if n not in names}
        self._saved.outcomes = {k: o for k, o in self._saved.outcomes.items() if o.name not in names}

    def _train_group(
        self, key: str, tasks: list["_Task"], signals: Signals, shown: PopulationProgress
    ) -> dict[str, Outcome]:
        engine = self._engine(key, tasks)
        queue = _Queue(engine, tasks, self._saved, shown)
        since = 0
        while not queue.is_over():
            queue.fill()
            useful, capacity = queue.dispatch()
            self._useful, self._capacity = self._useful + useful, self._capacity + capacity
            if queue.has_events():
                queue.events()
                since = 0
            elif (since := since + 1) % _IN_FLIGHT == 0:
                jax.block_until_ready(engine.lanes.states.step)
            if signals.received or time.monotonic() - self._saved_at >= self._save_seconds:
                queue.park()
                self._save()
            if signals.received:
                raise Preempted(f"{signals.received}; run the same command again to go on")
        self.summary |= {"mode": engine.lanes.mode, "lanes": engine.lanes.count, "busy": self._useful / self._capacity}
        return queue.outcomes

    def _engine(self, key: str, tasks: list["_Task"]) -> "_Engine":
        """The programs of a group, made anew where those at hand do not serve it."""
        used = self._used[key] | hyperparameters.used([task.config for task in tasks])
        self._used[key] = used
        follow_best = any(len(task.member.validation) for task in tasks)
        identity = key, used, follow_best
        wanted = min(self.lanes, self._rounded(len(tasks)))
        engine = self._engines.get(identity)
        # A lane that nobody is in takes no time, but where lanes are stacked.
        if engine is None or (engine.lanes.mode != "loop" and engine.wanted < wanted):
            began = time.perf_counter()
            maker = _EngineMaker(self._pool, self._devices, tasks, used, follow_best)
            remembered = self._saved.modes.get(_digest([key]))
            engine = maker.make(remembered or self._config.population.mode, wanted)
            self._saved.modes[_digest([key])] = engine.lanes.mode
            # At once: after a kill, another mode may be found the fastest, which may differ in the last bit.
            self._save()
            self._engines[identity] = engine
            self.summary["programs"] += 1
            self.summary["compile_seconds"] += time.perf_counter() - began
        return engine

    def _rounded(self, count: int) -> int:
        """At least `count` lanes, the same number on each device."""
        devices = len(self._devices)
        return -(-count // devices) * devices

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self._path is not None:
            write(self._path, self._saved)


@dataclasses.dataclass
class _Engine:
    """The programs of a group; `wanted` lanes were asked for, of which memory may have allowed fewer."""

    program: Program
    lanes: Lanes
    wanted: int


class _Task:
    """A member on its way: what it needs to begin, where it stands, and what is due next."""

    def __init__(self, config: ml_collections.ConfigDict, pool: Pool, member: Member, until: float, predict: bool):
        check_shared(member.overrides)
        if not len(member.train):
            raise UserError(f"population: '{member.name}' has no rows to train on")
        self.member, self.name, self.predict = member, member.name, predict
        self.config = config = overridden(config, {**member.overrides, "seed": member.seed})
        settings.check(config)
        self.clock = make_clock(config, len(member.train))
        self.total = self.clock.total_steps
        self.stop = self.total if until >= 1 else max(1, round(until * self.total))
        self.key = f"{member.name}/{member.digest()}/{self.stop}/{predict}"
        fitted = pool.fit(member.train, config.data)
        values = hyperparameters.from_config(config, self.clock)
        self.arguments = jax.tree.map(np.asarray, (np.uint32(member.seed), jax.device_get(values), fitted))
        self.every = self.clock.every(config.train.evaluate_every, "train.evaluate_every")
        self.patience = self.clock.every(config.train.patience, "train.patience").steps
        self.step, self.history = 0, []
        self.best: tuple[int, float] | None = None
        self._window, self.goal = np.zeros((0, 0), np.int32), 0

    def open_window(self) -> None:
        """Makes the positions of the examples that are read until something is due again, at `goal`."""
        due = min(self.stop, self.every.next_after(self.step, self.total))
        count = min(due - self.step, _LONGEST_WINDOW)
        rows, size = self.member.train, self.config.train.batch_size
        positions = order.positions(len(rows), size, self.member.seed, self.step, count)
        self._window = rows[positions].astype(np.int32).reshape(count, size)
        self.goal = self.step + count

    def paused(self, state: tuple) -> Paused:
        """The member as it stands, in this state."""
        where = {"digest": self.member.digest(), "step": self.step, "history": list(self.history), "best": self.best}
        return Paused.of(state, **where)

    def positions(self, steps: int) -> np.ndarray:
        """(up to `steps`, B) int32, positions in the pool of the examples that the next steps read."""
        start = len(self._window) - (self.goal - self.step)
        return self._window[start : start + steps]


class _Queue:
    """Members in lanes and members waiting."""

    def __init__(self, engine: _Engine, tasks: list[_Task], saved: Saved, shown: PopulationProgress):
        self._lanes, self._program, self._saved, self._shown = engine.lanes, engine.program, saved, shown
        self._objective = engine.program.objective
        config = engine.program.config
        self._metric = config.train.best_metric
        self._waiting = collections.deque(tasks)
        self._seats: list[_Task | None] = [None] * engine.lanes.count
        self._parameters = num_parameters(engine.lanes.states.params) // engine.lanes.count
        self.outcomes: dict[str, Outcome] = {}

    def is_over(self) -> bool:
        return not self._waiting and not any(self._seats)

    def fill(self) -> None:
        """Gives free lanes to those who wait, the same number to each device as far as that goes."""
        fresh = {}
        while self._waiting and (lane := self._free_lane()) is not None:
            task = self._waiting.popleft()
            self._seats[lane] = task
            paused = self._saved.paused.pop(task.name, None)
            if paused is not None and paused.digest == task.member.digest() and paused.step <= task.stop:
                self._lanes.put(lane, *paused.restored(self._lanes.form))
                task.step, task.history, task.best = paused.step, paused.history, paused.best
                self._shown.advance(task.step, 0)
            else:
                fresh[lane] = task.arguments
            task.open_window()
        if fresh:
            self._lanes.begin(fresh)

    def dispatch(self) -> tuple[int, int]:
        """Takes steps; returns how many were useful, and how many the time would have sufficed for."""
        lanes_, steps = self._lanes, self._lanes.steps
        size = self._program.config.train.batch_size
        positions = np.zeros((lanes_.count, steps, size), np.int32)
        until, taken = np.zeros(lanes_.count, np.int32), np.zeros(lanes_.count, np.int64)
        for lane, task in self._occupied():
            rows = task.positions(steps)
            positions[lane, : len(rows)] = rows
            until[lane], taken[lane] = task.goal, len(rows)
        lanes_.advance(positions, until)
        for lane, task in self._occupied():
            task.step += int(taken[lane])
        self._shown.advance(int(taken.sum()), 0)
        if lanes_.mode == "vmap":
            return int(taken.sum()), lanes_.count * steps
        of_devices = taken.reshape(self._devices, -1).sum(axis=1)
        return int(taken.sum()), self._devices * int(of_devices.max())

    def has_events(self) -> bool:
        """Whether something is due in some lane."""
        return any(task.step == task.goal for _, task in self._occupied())

    def events(self) -> None:
        """Evaluates, and frees the lanes of members that have ended, paused or diverged."""
        steps, skipped = self._lanes.progress()
        due = {lane: task for lane, task in self._occupied() if task.step == task.goal}
        gone = {lane for lane in due if skipped[lane] >= self._program.config.train.max_skipped}
        for lane in gone:
            due[lane].step = int(steps[lane])
            self._finish(lane, "diverged", {}, None)
        due = {lane: task for lane, task in due.items() if lane not in gone}
        judged = self._evaluate({lane: task for lane, task in due.items() if self._is_evaluated(task)})
        ended = {lane: task for lane, task in due.items() if self._has_ended(task)}
        self._end(ended, judged)
        for lane, task in due.items():
            if lane not in ended:
                task.open_window()
        self._shown.show(len(self._waiting), sum(1 for _ in self._occupied()))

    def park(self) -> None:
        """Notes where the members in lanes stand, as if they paused here."""
        for lane, task in self._occupied():
            self._saved.paused[task.name] = task.paused(self._lanes.take(lane))

    @property
    def _devices(self) -> int:
        return len(self._lanes.states.step.sharding.device_set)

    def _occupied(self) -> list[tuple[int, _Task]]:
        return [(lane, task) for lane, task in enumerate(self._seats) if task is not None]

    def _free_lane(self) -> int | None:
        """A free lane of the device that has most of them."""
        free = np.array([task is None for task in self._seats]).reshape(self._devices, -1)
        if not free.any():
            return None
        device = int(free.sum(axis=1).argmax())
        return device * free.shape[1] + int(free[device].argmax())

    @staticmethod
    def _is_evaluated(task: _Task) -> bool:
        return task.every.at(task.step) or task.step == task.total

    def _has_ended(self, task: _Task) -> bool:
        waited = task.patience and task.best and task.every.last_until(task.step) - task.best[0] >= task.patience
        return task.step == task.stop or bool(waited)

    def _evaluate(self, due: Mapping[int, _Task]) -> dict[int, dict[str, float]]:
        """Adds to the histories, and follows the best; returns all metrics of each lane."""
        rows = {
            lane: task.member.validation if len(task.member.validation) else task.member.held_out
            for lane, task in due.items()
        }
        rows = {lane: positions for lane, positions in rows.items() if len(positions)}
        metrics = self._metrics(rows, best=False)
        better = np.zeros(self._lanes.count, bool)
        for lane, figures in metrics.items():
            task = due[lane]
            task.history.append({"step": float(task.step), **overall(figures)})
            if len(task.member.validation):
                metric = self._objective.best_metric if self._metric == "auto" else self._metric
                sign = 1 if self._objective.higher_is_better(metric) else -1
                value = figures[metric]
                # Outputs that are not finite still have an accuracy.
                finite = np.isfinite([value, figures["loss"]]).all()
                if finite and (task.best is None or sign * value > sign * task.best[1]):
                    better[lane], task.best = True, (task.step, value)
        if better.any():
            self._lanes.keep_best(better)
        return metrics

    def _end(self, ended: Mapping[int, _Task], judged: Mapping[int, dict[str, float]]) -> None:
        metrics: dict[int, dict[str, float]] = {}
        predictions: dict[int, np.ndarray] = {}
        for best in (False, True):
            rows = {
                lane: task.member.held_out
                for lane, task in ended.items()
                if bool(task.best) == best and len(task.member.held_out)
            }
            # Without validation rows, the last evaluation was of just these.
            known = {lane: judged[lane] for lane in rows if not len(ended[lane].member.validation) and lane in judged}
            metrics |= known | self._metrics({n: r for n, r in rows.items() if n not in known}, best=best)
            asked = {lane: positions for lane, positions in rows.items() if ended[lane].predict}
            if asked:
                predictions |= self._lanes.predict(asked, best=best)
        for lane, task in ended.items():
            paused = task.step == task.stop and task.stop < task.total
            if paused:
                self._saved.paused[task.name] = task.paused(self._lanes.take(lane))
            self._finish(lane, "paused" if paused else "done", metrics.get(lane, {}), predictions.get(lane))

    def _metrics(self, rows: dict[int, np.ndarray], *, best: bool) -> dict[int, dict[str, float]]:
        if not rows:
            return {}
        totals = self._lanes.evaluate(rows, best=best)
        return {lane: self._objective.metrics(totals[lane], self._seats[lane].arguments[2]) for lane in rows}

    def _finish(self, lane: int, status: str, metrics: dict[str, float], predictions: np.ndarray | None) -> None:
        task, self._seats[lane] = self._seats[lane], None
        self._shown.advance(max(0, task.stop - task.step), 1)
        outcome = Outcome(
            name=task.name,
            status=status,
            step=task.step,
            total_steps=task.total,
            best_step=task.best[0] if task.best else task.step,
            metrics=metrics,
            history=list(task.history),
            parameters=self._parameters,
            predictions=predictions,
        )
        self.outcomes[task.name] = self._saved.outcomes[task.key] = outcome
        if metrics:
            metric = self._objective.best_metric if self._metric == "auto" else self._metric
            self._shown.result(metric, metrics[metric], self._objective.higher_is_better(metric))


class _EngineMaker:
    """Chooses how the lanes of a group are run, by timing, and how many there are, by memory."""

    def __init__(
        self,
        pool: Pool,
        devices: Sequence[jax.Device],
        tasks: Sequence[_Task],
        used: frozenset[str],
        follow_best: bool,
    ):
        self._pool, self._devices, self._tasks, self._follow_best = pool, devices, tasks, follow_best
        self._program, self._init = build_program(tasks[0].config, pool.features, used=used)

    def make(self, mode: str, wanted: int) -> _Engine:
        """The programs in this mode, or in the fastest if it is "auto"."""
        if mode != "auto":
            return self._within_memory(mode, wanted)
        on_cpu = self._devices[0].platform == "cpu"
        in_one = "map" if on_cpu else "vmap"
        params = jax.eval_shape(self._init, *self._tasks[0].arguments).params
        numbers = num_parameters(params) * self._program.config.train.batch_size
        first, second = (in_one, "loop") if numbers < _SMALL_STEP or not on_cpu else ("loop", in_one)
        engine = self._within_memory(first, wanted)
        seconds = self._seconds_per_step(engine.lanes)
        enough = seconds < _SHORT_STEP_SECONDS if first != "loop" else seconds > _LONG_STEP_SECONDS
        if enough or len(self._tasks) == 1:
            return engine
        other = self._within_memory(second, wanted)
        return other if self._seconds_per_step(other.lanes) < seconds else engine

    def _within_memory(self, mode: str, wanted: int) -> _Engine:
        devices = len(self._devices)
        if mode == "loop":
            return _Engine(self._program, self._lanes(mode, devices), wanted)
        made = self._lanes(mode, wanted)
        allowed = _free_memory(self._devices[0], devices) * _MEMORY_SHARE
        if made.memory > allowed and wanted > devices:
            fewer = max(1, int(wanted / devices * allowed / made.memory)) * devices
            made = self._lanes(mode, fewer)
        return _Engine(self._program, made, wanted)

    def _lanes(self, mode: str, count: int) -> Lanes:
        most = max(len(rows) for task in self._tasks for rows in (task.member.held_out, task.member.validation))
        task = self._tasks[0]
        interval = task.every.steps or task.total
        steps = 1 if mode == "loop" else interval // math.ceil(interval / self._program.config.execution.scan_steps)
        return Lanes(
            self._program,
            self._init,
            self._pool,
            [self._tasks[lane % len(self._tasks)].arguments for lane in range(count)],
            mode=mode,
            steps=steps,
            devices=self._devices,
            evaluated=most,
            follow_best=self._follow_best,
        )

    def _seconds_per_step(self, made: Lanes) -> float:
        """Of one lane, with all of them at work on the first member's first batches; they begin anew after it."""
        task = self._tasks[0]
        task.open_window()
        rows = np.resize(task.positions(made.steps), (made.count, made.steps, self._program.config.train.batch_size))
        snapshot, until = made.snapshot(), np.full(made.count, np.iinfo(np.int32).max, np.int32)
        made.advance(rows, until)
        jax.block_until_ready(made.states)
        began, dispatches = time.perf_counter(), 0
        while time.perf_counter() - began < _TRIAL_SECONDS:
            made.advance(rows, until)
            jax.block_until_ready(made.states.step)
            dispatches += 1
        seconds = (time.perf_counter() - began) / (dispatches * made.steps * made.count)
        made.restore(snapshot)
        return seconds


def _free_memory(device: jax.Device, devices: int) -> float:
    """Bytes that a device may take; the devices of a CPU share the host's."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return psutil.virtual_memory().available / devices


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
