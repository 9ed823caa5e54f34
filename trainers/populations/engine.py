"""The lanes of members that share a program: how they are run is chosen by timing, their number by memory."""

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

# Another mode is tried only if all members together take this many times as long as a compilation.
_WORTH_COMPILATIONS = 5
# Each mode is timed for this long.
_TRIAL_SECONDS = 0.15
# Where a step of a lane takes longer, another compilation does not pay; where it takes less, dispatching dominates.
_LONG_STEP_SECONDS, _SHORT_STEP_SECONDS = 0.05, 5e-4
# Parameters times examples. Below it the step of a dense model is so short that the loop is not tried first.
_SMALL_STEP = 1e7
# Share of the free memory that lanes may take.
_MEMORY_SHARE = 0.7


@dataclasses.dataclass
class Engine:
    """The lanes of a group of members.

    Attributes:
      program: that the members share.
      lanes: their compiled programs and states.
      wanted: number of lanes that were requested; memory may have allowed fewer.
    """

    program: Program
    lanes: Lanes
    wanted: int


class EngineMaker:
    """Makes the lanes of a group."""

    def __init__(
        self,
        training: Training,
        start: Start,
        pool: Pool,
        devices: Sequence[jax.Device],
        members: Sequence[MemberState],
    ):
        """Nothing is compiled yet.

        Args:
          training: of one of the members; all share its program.
          start: arrays that all members begin with in place of fresh values.
          pool: of the rows.
          devices: that the lanes are spread over.
          members: of the group.
        """
        self._pool, self._devices, self._members = pool, devices, members
        self._training, self._start = training, start

    def make(self, mode: str, wanted: int) -> Engine:
        """Makes lanes in this mode or, if it is "auto", in the faster one.

        Args:
          mode: "auto" or one of `lanes.MODES`.
          wanted: number of lanes.
        """
        if mode != "auto":
            return self._fit_to_memory(mode, wanted)
        on_cpu = self._devices[0].platform == "cpu"
        in_one = "map" if on_cpu else "vmap"
        numbers = self._training.num_parameters * self._training.config.train.batch_size
        first, second = (in_one, "loop") if numbers < _SMALL_STEP or not on_cpu else ("loop", in_one)
        began = time.perf_counter()
        engine = self._fit_to_memory(first, wanted)
        compile_seconds = time.perf_counter() - began
        seconds = self._seconds_per_step(engine.lanes)
        enough = seconds < _SHORT_STEP_SECONDS if first != "loop" else seconds > _LONG_STEP_SECONDS
        left = seconds * sum(member.stop for member in self._members)
        if enough or left < _WORTH_COMPILATIONS * compile_seconds:
            return engine
        other = self._fit_to_memory(second, wanted)
        return other if self._seconds_per_step(other.lanes) < seconds else engine

    def _fit_to_memory(self, mode: str, wanted: int) -> Engine:
        devices = len(self._devices)
        if mode == "loop":
            return Engine(self._training.program, self._lanes(mode, devices), wanted)
        lanes = self._lanes(mode, wanted)
        allowed = _free_memory(self._devices[0], devices) * _MEMORY_SHARE
        if lanes.memory > allowed and wanted > devices:
            fewer = max(1, int(wanted / devices * allowed / lanes.memory)) * devices
            lanes = self._lanes(mode, fewer)
        return Engine(self._training.program, lanes, wanted)

    def _lanes(self, mode: str, count: int) -> Lanes:
        most = max(len(rows) for each in self._members for rows in (each.member.held_out, each.member.validation))
        member = self._members[0]
        interval = member.rules.evaluate.steps or member.total
        steps = steps_per_dispatch(interval, self._training.config.execution.scan_steps)
        return Lanes(
            self._training,
            self._pool,
            [self._members[lane % len(self._members)].arguments for lane in range(count)],
            self._start,
            mode=mode,
            steps=1 if mode == "loop" else steps,
            devices=self._devices,
            evaluated=most,
        )

    def _seconds_per_step(self, lanes: Lanes) -> float:
        """Seconds per step of one lane, while all lanes train on the first batches of the first member.

        The shortest time counts, since other load on the machine only adds time. The states of the lanes are lost.
        """
        member = self._members[0]
        member.open_window()
        rows = np.resize(
            member.positions(lanes.steps), (lanes.count, lanes.steps, self._training.config.train.batch_size)
        )

        def measure(until: int) -> float:
            began = time.perf_counter()
            lanes.advance(rows, np.full(lanes.count, until, np.int32))
            jax.block_until_ready(lanes.states.step)
            return time.perf_counter() - began

        # One step to warm up, and one to measure: if a step is slow, a whole dispatch could take minutes.
        measure(1)
        seconds, steps = measure(2), 1
        if seconds * lanes.steps < _TRIAL_SECONDS:
            steps, forever, until = lanes.steps, np.iinfo(np.int32).max, time.perf_counter() + _TRIAL_SECONDS
            seconds = measure(forever)
            while time.perf_counter() < until:
                seconds = min(seconds, measure(forever))
        return seconds / (steps * lanes.count)


def _free_memory(device: jax.Device, devices: int) -> float:
    """Bytes of free memory for a device; the devices of a CPU share the host's memory."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return psutil.virtual_memory().available / devices
