"""Populations: any number of trainings in as few compiled programs as they need.

Hyperparameters, seeds and rows are data of a program, so all members that differ in nothing else share one program.
Members whose overrides change more than data are grouped, and each group has its own program. When a member ends,
pauses or diverges, the next waiting member takes its lane.
"""

import collections
import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from trainers.populations.population_file import NAME, PopulationCheckpoint, read, write
from trainers.populations.scheduler import Scheduler
from trainers.processes.signals import Signals
from trainers.run import transfer
from trainers.run.identity import defining_fields
from trainers.run.progress import PopulationProgress
from trainers.step import hyperparameters
from trainers.step.state import Start

__all__ = ["Member", "Outcome", "Population", "train_population"]

# Lanes of a device, unless the config says otherwise or memory is short.
_LANES_ON_CPU, _LANES = 8, 64
# On CPU, where lanes take turns, most lanes for members that are all known: with more of them all wait for Python less.
_MOST_LANES_ON_CPU = 32
# The host waits once this many dispatches are in flight.
_IN_FLIGHT = 8
# Seconds between saves if the config counts them in steps, since each member is at a step of its own.
_SAVE_SECONDS = 60.0
# Fields that were added after populations began to record theirs, so that no earlier one has them.
_ADDED_SINCE = ("data.decimal", "data.delimiter", "data.encoding", "data.header", "data.unlabelled")
# Fields that a population can be resumed with another value of, and that are in the fingerprints of earlier versions.
_COULD_NOT_CHANGE = (
    "evaluation.batch_size",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_skipped",
    "train.on_divergence",
)


def train_population(
    config: ml_collections.ConfigDict,
    pool: Pool,
    members: Sequence[Member],
    *,
    directory: str | os.PathLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    predict: bool = False,
    dead_units: bool = False,
) -> dict[str, Outcome]:
    """Trains members once; arguments, outcomes and errors as in `Population` and `Population.train`."""
    population = Population(config, pool, directory=directory, devices=devices, progress=progress)
    return population.train(members, predict=predict, dead_units=dead_units)


class Population:
    """Trains members; keeps programs and the states of paused members between calls.

    Attributes:
      summary: of the calls so far: `mode` and `lanes` of the last group, `programs`, `compile_seconds`,
        `total_seconds`, `trainings` and `busy`, the share of the lanes' time that went into steps.
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
        shown_metric: str = "",
    ):
        """Nothing is compiled yet.

        Args:
          config: shared by all members, which override it.
          pool: of the rows.
          directory: where the population is saved, so that it can resume; None saves nothing.
          devices: that members are spread over; all devices of this process by default.
          progress: whether to show progress.
          used: hyperparameters that later members use. If they are known from the start, programs, and so the last bit
            of the results, do not depend on which members are passed to which call.
          shown_metric: metric of which the progress shows the best value; "": the one that chooses a member's best
            step.

        Raises:
          UserError: the config is not right, or the directory holds a population of another config or other data.
        """
        settings.check(config)
        if config.population.mode not in ("auto", *lanes.MODES):
            raise unknown_name("population.mode", config.population.mode, ("auto", *lanes.MODES))
        compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
        self._config, self._pool = config.copy_and_resolve_references(), pool
        self._devices = list(devices or jax.local_devices())
        self._show, self._shown_metric = progress, shown_metric
        self._path = None if directory is None else pathlib.Path(directory) / NAME
        self._used: dict[str, frozenset[str]] = collections.defaultdict(lambda: used)
        self._trainings: dict[tuple[str, frozenset[str]], tuple[Training, Start]] = {}
        self._starts: dict[str, Start] = {}
        self._engines: dict[tuple[str, frozenset[str]], Engine] = {}
        self._saved = self._open()
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
        """Members that train at the same time, if memory allows: the best number to pass to a call, if not all."""
        per_device = _LANES_ON_CPU if self._on_cpu else _LANES
        return self._round_up(self._config.population.lanes or per_device * len(self._devices))

    def check(self, member: Member) -> None:
        """Builds the program of a member and keeps it, unless there is one already.

        Raises:
          UserError: the overrides of the member do not fit, or do not fit together.
        """
        state = MemberState(self._config, self._pool, member, 1.0, predict=False, dead_units=False)
        self._build(program_key(state.config), state)

    def train(
        self,
        members: Sequence[Member],
        *,
        until: float = 1.0,
        predict: bool = False,
        dead_units: bool = False,
        gone: Mapping[str, int] | None = None,
    ) -> dict[str, Outcome]:
        """Trains members, or resumes those that paused.

        The result of a member does not depend on its lane, its neighbours or its pauses.

        Args:
          members: with unique names.
          until: the share of its training after which each member pauses; 1 trains to the end.
          predict: whether to return predictions for the held-out rows.
          dead_units: whether to count the dead units of each member.
          gone: numbers of members of earlier calls, by their status, which the progress shows as well.

        Returns:
          The outcomes, by name.

        Raises:
          UserError: an override names no field, or one that all members share, or its value does not fit; or a member
            has no training rows.
          Preempted: a signal was received.
        """
        began = time.perf_counter()
        if len({member.name for member in members}) < len(members):
            raise ValueError("names of members must be unique")
        states = []
        for member in members:
            with _name_member(member):
                state = MemberState(self._config, self._pool, member, until, predict=predict, dead_units=dead_units)
            states.append(state)
        outcomes = {state.name: known for state in states if (known := self._saved.outcomes.get(state.key))}
        groups: dict[str, list[MemberState]] = collections.defaultdict(list)
        for state in states:
            key = program_key(state.config)
            # Members that are done count too, so that a population that was killed resumes with the same program.
            self._used[key] |= hyperparameters.used([state.config])
            if state.name not in outcomes:
                groups[key].append(state)
        # All are built before the first is trained, so that errors are raised at once.
        for key, group in groups.items():
            with _name_member(group[0].member):
                self._build(key, group[0])
        total = sum(state.stop for state in states)
        progress = PopulationProgress(total, len(states), until=until, gone=gone, shown=self._show)
        progress.advance(sum(state.stop for state in states if state.name in outcomes), len(outcomes))
        with Signals() as signals, progress:
            for key, group in groups.items():
                outcomes |= self._train_group(key, group, signals, progress)
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
        self, key: str, states: list[MemberState], signals: Signals, progress: PopulationProgress
    ) -> dict[str, Outcome]:
        engine = self._engine(key, states)
        scheduler = Scheduler(engine, states, self._saved, progress, self._shown_metric)
        since = 0
        while not scheduler.is_over():
            scheduler.fill()
            useful, capacity = scheduler.dispatch()
            self._useful, self._capacity = self._useful + useful, self._capacity + capacity
            if scheduler.has_events():
                scheduler.handle_events()
                since = 0
            elif (since := since + 1) % _IN_FLIGHT == 0:
                jax.block_until_ready(engine.lanes.states.step)
            if signals.received or time.monotonic() - self._saved_at >= self._save_seconds:
                scheduler.save_members()
                self._save()
            if signals.received:
                raise Preempted(f"{signals.received}; run the same command again to resume")
        self.summary |= {
            "mode": engine.lanes.mode,
            "lanes": engine.lanes.count,
            "busy": self._useful / max(1, self._capacity),
        }
        return scheduler.outcomes

    def _build(self, key: str, state: MemberState) -> None:
        self._used[key] |= hyperparameters.used([state.config])
        identity = key, self._used[key]
        if identity not in self._trainings:
            training = build_training(
                state.config,
                self._pool.features,
                state.arguments[2],
                num_examples=len(state.member.train),
                mesh=data_mesh(self._devices[:1]),
                used=self._used[key],
            )
            if key not in self._starts:
                self._starts[key], _ = transfer.load_start(state.config.transfer, training.program)
            self._trainings[identity] = training, self._starts[key]

    def _engine(self, key: str, states: list[MemberState]) -> Engine:
        """The lanes of a group; new ones if there are none yet, or too few."""
        identity = key, self._used[key]
        most = self.lanes
        if self._on_cpu and not self._config.population.lanes and self._config.population.mode != "vmap":
            most = _MOST_LANES_ON_CPU * len(self._devices)
        wanted = min(most, self._round_up(len(states)))
        engine = self._engines.get(identity)
        # An empty lane costs time only where lanes are stacked.
        if engine is None or (engine.lanes.mode != "loop" and engine.wanted < wanted):
            began = time.perf_counter()
            maker = EngineMaker(*self._trainings[identity], self._pool, self._devices, states)
            mode = self._config.population.mode
            if mode == "auto":
                mode = self._saved.modes.get(_digest([key]), mode)
            engine = maker.make(mode, wanted)
            self._saved.modes[_digest([key])] = engine.lanes.mode
            # At once: a population that was killed might choose another mode, which may differ in the last bit.
            self._save()
            self._engines[identity] = engine
            self.summary["programs"] += 1
            self.summary["compile_seconds"] += time.perf_counter() - began
        return engine

    @property
    def _on_cpu(self) -> bool:
        return self._devices[0].platform == "cpu"

    def _round_up(self, count: int) -> int:
        """At least `count` lanes, the same number on each device."""
        devices = len(self._devices)
        return -(-count // devices) * devices

    def _open(self) -> PopulationCheckpoint:
        """Reads what is saved, if anything is."""
        config, rows = self._config.to_dict(), [self._pool.fingerprint, sorted(self._pool.splits)]
        fields = defining_fields(config)
        examples = self._pool.digest()
        new = PopulationCheckpoint(fingerprint=_digest([fields, *rows]), fields=tuple(fields), examples=examples)
        if self._path is None:
            return new
        remove_unfinished(self._path)
        if not self._path.exists():
            return new
        saved = read(self._path)
        # Fields that were added since then are not in the fingerprint; they must have their defaults. Fields that may
        # change now, but could not then, are in it.
        there = saved.fields or {*fields, *_COULD_NOT_CHANGE}.difference(_ADDED_SINCE)
        fields = {n: v for n, v in fields.items() if n in there or v != settings.FIELDS[n].default}
        fields |= {n: v for n, v in settings.used_fields(config).items() if n in there}
        if saved.fingerprint != _digest([fields, *rows]):
            raise UserError(
                f"--workdir: '{self._path.parent}' holds trainings of another config or other data; "
                "choose another --workdir, or --overwrite"
            )
        if saved.examples not in ("", examples):
            raise UserError(
                f"--workdir: '{self._path.parent}' holds trainings on the same files, but with other classes, groups, "
                "columns or splits; use the versions of Plumbline and of its packages that began them, or --overwrite"
            )
        saved.examples = examples
        return saved

    def _save(self) -> None:
        began = time.monotonic()
        if self._path is not None:
            write(self._path, self._saved)
        # Saving takes at most a tenth of the time.
        self._saved_at = time.monotonic() + 9 * (time.monotonic() - began)


@contextmanager
def _name_member(member: Member) -> Iterator[None]:
    """Puts the name of the member before an error about a field that the member overrides."""
    try:
        yield
    except UserError as error:
        if str(error).partition(":")[0] in member.overrides:
            raise UserError(f"'{member.name}': {error}") from None
        raise


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
