"""The programs of members that can share them: how lanes are run, by timing, and how many there are, by memory."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import numpy as np
import psutil

from data.pool import Pool
from trainers.building import Training
from trainers.devices.execution_plan import steps_per_dispatch
from trainers.populations.lanes import Lanes
from trainers.populations.member_state import MemberState
from trainers.step.state import Program, Start

# All members together have to take this many times as long as a compilation, or no other mode is tried.
_WORTH_COMPILATIONS = 5
# A mode is timed for this long.
_TRIAL_SECONDS = 0.15
# A step of a lane that takes longer is not worth compiling for again; one that takes less is a matter of dispatching.
_LONG_STEP_SECONDS, _SHORT_STEP_SECONDS = 0.05, 5e-4
# Parameters times examples: up to here a dense model's step is so short that a loop is not tried first.
_SMALL_STEP = 1e7
# Of the memory that is free.
_MEMORY_SHARE = 0.7


@dataclasses.dataclass
class Engine:
    """The programs of a group; `wanted` lanes were asked for, of which memory may have allowed fewer."""

    program: Program
    lanes: Lanes
    wanted: int


class EngineMaker:
    """Chooses how the lanes of a group are run, by timing, and how many there are, by memory."""

    def __init__(
        self,
        training: Training,
        start: Start,
        pool: Pool,
        devices: Sequence[jax.Device],
        tasks: Sequence[MemberState],
    ):
        self._pool, self._devices, self._tasks = pool, devices, tasks
        self._training, self._start = training, start

    def make(self, mode: str, wanted: int) -> Engine:
        """The programs in this mode, or in the fastest if it is "auto"."""
        if mode != "auto":
            return self._within_memory(mode, wanted)
        on_cpu = self._devices[0].platform == "cpu"
        in_one = "map" if on_cpu else "vmap"
        numbers = self._training.num_parameters * self._training.config.train.batch_size
        first, second = (in_one, "loop") if numbers < _SMALL_STEP or not on_cpu else ("loop", in_one)
        began = time.perf_counter()
        engine = self._within_memory(first, wanted)
        compile_seconds = time.perf_counter() - began
        seconds = self._seconds_per_step(engine.lanes)
        enough = seconds < _SHORT_STEP_SECONDS if first != "loop" else seconds > _LONG_STEP_SECONDS
        left = seconds * sum(task.stop for task in self._tasks)
        if enough or left < _WORTH_COMPILATIONS * compile_seconds:
            return engine
        other = self._within_memory(second, wanted)
        return other if self._seconds_per_step(other.lanes) < seconds else engine

    def _within_memory(self, mode: str, wanted: int) -> Engine:
        devices = len(self._devices)
        if mode == "loop":
            return Engine(self._training.program, self._lanes(mode, devices), wanted)
        made = self._lanes(mode, wanted)
        allowed = _free_memory(self._devices[0], devices) * _MEMORY_SHARE
        if made.memory > allowed and wanted > devices:
            fewer = max(1, int(wanted / devices * allowed / made.memory)) * devices
            made = self._lanes(mode, fewer)
        return Engine(self._training.program, made, wanted)

    def _lanes(self, mode: str, count: int) -> Lanes:
        most = max(len(rows) for task in self._tasks for rows in (task.member.held_out, task.member.validation))
        task = self._tasks[0]
        interval = task.rules.evaluate.steps or task.total
        steps = steps_per_dispatch(interval, self._training.config.execution.scan_steps)
        return Lanes(
            self._training,
            self._pool,
            [self._tasks[lane % len(self._tasks)].arguments for lane in range(count)],
            self._start,
            mode=mode,
            steps=1 if mode == "loop" else steps,
            devices=self._devices,
            evaluated=most,
        )

    def _seconds_per_step(self, made: Lanes) -> float:
        """Of one lane, with all of them at work on the first member's first batches; what they hold is lost.

        The least time counts: what else the machine has to do can only add to it.
        """
        task = self._tasks[0]
        task.open_window()
        rows = np.resize(task.positions(made.steps), (made.count, made.steps, self._training.config.train.batch_size))

        def timed(until: int) -> float:
            began = time.perf_counter()
            made.advance(rows, np.full(made.count, until, np.int32))
            jax.block_until_ready(made.states.step)
            return time.perf_counter() - began

        # One step to warm up, and one to see: where it takes long, a whole dispatch could take minutes.
        timed(1)
        seconds, steps = timed(2), 1
        if seconds * made.steps < _TRIAL_SECONDS:
            steps, forever, until = made.steps, np.iinfo(np.int32).max, time.perf_counter() + _TRIAL_SECONDS
            seconds = timed(forever)
            while time.perf_counter() < until:
                seconds = min(seconds, timed(forever))
        return seconds / (steps * made.count)


def _free_memory(device: jax.Device, devices: int) -> float:
    """Bytes that a device may take; the devices of a CPU share the host's."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return psutil.virtual_memory().available / devices
