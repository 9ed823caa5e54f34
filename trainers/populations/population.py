"""Populations: any number of trainings in as few compiled programs as they need.

Hyperparameters, seeds and rows are data of a program, so that one serves all members that differ in nothing else. Those
whose overrides change more than data are put into groups, each with a program of its own. A member that ends, pauses or
diverges leaves its lane to the next one waiting.
"""

import collections
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

from data.pool import Pool
from plumbline import Preempted, UserError, unknown_name
from plumbline.files import remove_unfinished
from trainers import settings
from trainers.building import Training, build_training
from trainers.devices import compilation
from trainers.devices.mesh import data_mesh
from trainers.durations import Clock
from trainers.populations import lanes
from trainers.populations.engine import Engine, EngineMaker
from trainers.populations.member_state import MemberState
from trainers.populations.members import Member, Outcome, program_key
from trainers.populations.population_file import Saved, read, write
from trainers.populations.scheduler import Scheduler
from trainers.processes.signals import Signals
from trainers.run import transfer
from trainers.run.directory import compared
from trainers.run.progress import PopulationProgress
from trainers.step import hyperparameters
from trainers.step.state import Start

__all__ = ["Member", "Outcome", "Population", "train_population"]

# Lanes of a device, unless the config says otherwise or memory is short.
_LANES_ON_CPU, _LANES = 8, 64
# On CPU, where lanes take turns, those of members that are all there: the more, the rarer all wait for Python.
_MOST_LANES_ON_CPU = 32
# Dispatches under way at which the host waits.
_IN_FLIGHT = 8
# Between saves, where the config counts them in steps: members are at steps of their own.
_SAVE_SECONDS = 60.0


def train_population(
    config: ml_collections.ConfigDict,
    pool: Pool,
    members: Sequence[Member],
    *,
    directory: str | os.PathLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    predict: bool = False,
) -> dict[str, Outcome]:
    """Trains members once; arguments, outcomes and errors as in `Population` and `Population.train`."""
    population = Population(config, pool, directory=directory, devices=devices, progress=progress)
    return population.train(members, predict=predict)


class Population:
    """Trains members; keeps programs, and the states of members that pause, between calls.

    Attributes:
      summary: what the calls so far took: `mode` and `lanes` of the last group, `programs`, `compile_seconds`,
        `total_seconds`, `trainings` and `busy`, the share of the lanes' time that was spent on steps.
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
        followed: str = "",
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
          followed: metric of which the progress shows the best value; "": the one that chooses each member's best step.

        Raises:
          UserError: the config is not right, or the directory holds a population of another config or other data.
        """
        settings.check(config)
        if config.population.mode not in ("auto", *lanes.MODES):
            raise unknown_name("population.mode", config.population.mode, ("auto", *lanes.MODES))
        compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
        self._config, self._pool = config.copy_and_resolve_references(), pool
        self._devices = list(devices or jax.local_devices())
        self._show, self._followed = progress, followed
        self._path = None if directory is None else pathlib.Path(directory) / "population.npz"
        self._fingerprint = _digest([compared(self._config.to_dict()), pool.fingerprint, sorted(pool.splits)])
        self._used: dict[str, frozenset[str]] = collections.defaultdict(lambda: used)
        self._trainings: dict[tuple[str, frozenset[str]], tuple[Training, Start]] = {}
        self._starts: dict[str, Start] = {}
        self._engines: dict[tuple[str, frozenset[str]], Engine] = {}
        self._saved = Saved(fingerprint=self._fingerprint)
        if self._path is not None:
            remove_unfinished(self._path)
            if self._path.exists():
                self._saved = read(self._path)
            if self._saved.fingerprint != self._fingerprint:
                raise UserError(
                    f"--workdir: '{self._path.parent}' holds trainings of another config or other data; "
                    "choose another --workdir, or --overwrite"
                )
        every = Clock(num_examples=1, batch_size=1, total_steps=1).every(
            config.train.checkpoint_every, "train.checkpoint_every", wall_time=True
        )
        never = not config.train.checkpoint_every.strip()
        self._save_seconds = math.inf if never else every.seconds or _SAVE_SECONDS
        self._saved_at = time.monotonic()
        self._useful = self._capacity = 0
        self.summary: dict[str, Any] = {"programs": 0, "compile_seconds": 0.0, "total_seconds": 0.0, "trainings": 0}

    @property
    def lanes(self) -> int:
        """Members that are trained at once, if memory allows: as many are best handed in together, if not all."""
        per_device = _LANES_ON_CPU if self._on_cpu else _LANES
        return self._rounded(self._config.population.lanes or per_device * len(self._devices))

    def check(self, member: Member) -> None:
        """Builds a member's program, if none at hand serves it, and keeps it.

        Raises:
          UserError: the member's overrides do not fit, or not together.
        """
        task = MemberState(self._config, self._pool, member, 1.0, False)
        self._build(program_key(task.config), task)

    def train(
        self,
        members: Sequence[Member],
        *,
        until: float = 1.0,
        predict: bool = False,
        gone: Mapping[str, int] | None = None,
    ) -> dict[str, Outcome]:
        """Trains members, or goes on with those that paused.

        What a member comes to depends on nothing but itself: not on its lane, on its neighbours, or on pauses.

        Args:
          members: with unique names.
          until: the share of its training at which each one pauses; 1 trains to the end.
          predict: the outcomes shall have predictions.
          gone: members of earlier calls that the progress shall show as well, by what became of them.

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
        tasks = [MemberState(self._config, self._pool, member, until, predict) for member in members]
        outcomes = {task.name: known for task in tasks if (known := self._saved.outcomes.get(task.key))}
        groups: dict[str, list[MemberState]] = collections.defaultdict(list)
        for task in tasks:
            key = program_key(task.config)
            # Of those that are done as well: what goes on after a kill keeps the program it began with.
            self._used[key] |= hyperparameters.used([task.config])
            if task.name not in outcomes:
                groups[key].append(task)
        # All before the first is trained: what cannot be built is told at once.
        for key, group in groups.items():
            self._build(key, group[0])
        total = sum(task.stop for task in tasks)
        shown = PopulationProgress(total, len(tasks), until=until, gone=gone, shown=self._show)
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
        self, key: str, tasks: list[MemberState], signals: Signals, shown: PopulationProgress
    ) -> dict[str, Outcome]:
        engine = self._engine(key, tasks)
        queue = Scheduler(engine, tasks, self._saved, shown, self._followed)
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
        self.summary |= {
            "mode": engine.lanes.mode,
            "lanes": engine.lanes.count,
            "busy": self._useful / max(1, self._capacity),
        }
        return queue.outcomes

    def _build(self, key: str, task: MemberState) -> None:
        self._used[key] |= hyperparameters.used([task.config])
        identity = key, self._used[key]
        if identity not in self._trainings:
            training = build_training(
                task.config,
                self._pool.features,
                task.arguments[2],
                num_examples=len(task.member.train),
                mesh=data_mesh(self._devices[:1]),
                used=self._used[key],
            )
            if key not in self._starts:
                self._starts[key], _ = transfer.begin_from(task.config.transfer, training.program)
            self._trainings[identity] = training, self._starts[key]

    def _engine(self, key: str, tasks: list[MemberState]) -> Engine:
        """The programs of a group, made anew where those at hand do not serve it."""
        identity = key, self._used[key]
        most = self.lanes
        if self._on_cpu and not self._config.population.lanes and self._config.population.mode != "vmap":
            most = _MOST_LANES_ON_CPU * len(self._devices)
        wanted = min(most, self._rounded(len(tasks)))
        engine = self._engines.get(identity)
        # A lane that nobody is in takes no time, but where lanes are stacked.
        if engine is None or (engine.lanes.mode != "loop" and engine.wanted < wanted):
            began = time.perf_counter()
            maker = EngineMaker(*self._trainings[identity], self._pool, self._devices, tasks)
            mode = self._config.population.mode
            if mode == "auto":
                mode = self._saved.modes.get(_digest([key]), mode)
            engine = maker.make(mode, wanted)
            self._saved.modes[_digest([key])] = engine.lanes.mode
            # At once: after a kill, another mode may be found the fastest, which may differ in the last bit.
            self._save()
            self._engines[identity] = engine
            self.summary["programs"] += 1
            self.summary["compile_seconds"] += time.perf_counter() - began
        return engine

    @property
    def _on_cpu(self) -> bool:
        return self._devices[0].platform == "cpu"

    def _rounded(self, count: int) -> int:
        """At least `count` lanes, the same number on each device."""
        devices = len(self._devices)
        return -(-count // devices) * devices

    def _save(self) -> None:
        began = time.monotonic()
        if self._path is not None:
            write(self._path, self._saved)
        # At most a tenth of the time goes into saving.
        self._saved_at = time.monotonic() + 9 * (time.monotonic() - began)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
