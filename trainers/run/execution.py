"""How train steps are dispatched: one at a time, or several in one program; chosen by timing on the run's own steps.

A program compiled for several steps may differ from the one for a single step in the last bit. So which of them takes
which step depends on the step alone: the choice is written down once made and repeated on resume, and the steps
between two events of the run (a log line, an evaluation, a checkpoint) are always cut up in the same way.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from data.batches import TrainBatches
from plumbline import unknown_name
from trainers.devices.dispatch import READ_BY_STEPS, Dispatch, Token, Wish
from trainers.devices.mesh import in_flight
from trainers.run.goodput import Goodput
from trainers.step.state import TrainState
from trainers.step.train_step import Metrics

MODES = ("auto", "loop", "scan")

# A mode is timed for this long.
_TRIAL_SECONDS = 0.3
# Above this time of a step, what a dispatch costs is nothing beside it.
_LONGEST_STEP_SECONDS = 0.05
# The batches of a scan, and those in flight, are in memory together; more than this is not tried.
_LARGEST_STACK_BYTES = 2**28
# A trial costs a compilation and maybe some slow steps: the rest of the run has to be this many times as long.
_WORTH_COMPILATIONS = 5


@dataclasses.dataclass
class Plan:
    """Which mode takes which step.

    Attributes:
      segments: (first step, mode) pairs; the last one goes on to the end.
      scan_steps: steps in one dispatch of "scan".
      decided: no other mode is to be tried.
    """

    segments: list[tuple[int, str]]
    scan_steps: int
    decided: bool

    @property
    def mode(self) -> str:
        """The mode that goes on to the end."""
        return self.segments[-1][1]

    def at(self, step: int) -> tuple[int, str, int | float]:
        """First step, mode and end of the segment that `step` lies in; the last segment ends at infinity."""
        number = max(index for index, (first, _) in enumerate(self.segments) if first <= step)
        ends = [first for first, _ in self.segments[number + 1 :]] + [math.inf]
        return *self.segments[number], ends[0]

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Plan":
        """The plan that `dataclasses.asdict` made, back from a file."""
        return cls([(step, mode) for step, mode in fields["segments"]], fields["scan_steps"], fields["decided"])


def make_plan(mode: str, scan_steps: int, shortest_interval: int) -> Plan:
    """The plan of a run that begins.

    Args:
      mode: "auto", "loop" or "scan".
      scan_steps: most steps in one dispatch.
      shortest_interval: steps between the run's most frequent events; a dispatch is never longer.

    Raises:
      UserError: the mode is unknown.
    """
    if mode not in MODES:
        raise unknown_name("execution.mode", mode, MODES)
    # As few dispatches as possible, of such a length that next to nothing is left over for single steps.
    scan_steps = shortest_interval // math.ceil(shortest_interval / scan_steps)
    # Several processes would each measure something else.
    decided = mode != "auto" or scan_steps == 1 or jax.process_count() > 1
    return Plan([(0, "scan" if mode == "scan" else "loop")], scan_steps, decided)


@dataclasses.dataclass
class Notes:
    """What has become known of dispatches since this was last asked for.

    Attributes:
      skipped: the most updates that were skipped in a row.
      wish: the greatest wish of any process.
    """

    skipped: int = 0
    wish: Wish = Wish.NONE


class Execution:
    """Takes steps by the plan, and makes the plan where it is still to be made.

    Attributes:
      plan: the plan so far.
      compile_seconds: spent on first dispatches, each of which compiles.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        batches: TrainBatches,
        plan: Plan,
        total_steps: int,
        on_plan: Callable[[Plan], None],
        goodput: Goodput,
    ):
        """Nothing is compiled yet.

        Args:
          dispatch: the step's programs.
          batches: what step `t` reads; this process's rows of it.
          plan: the plan so far.
          total_steps: of the training.
          on_plan: called whenever the plan changes.
          goodput: the clock of the run.
        """
        self.plan = plan
        self.compile_seconds = 0.0
        self._goodput = goodput
        self._dispatch, self._batches, self._total_steps, self._on_plan = dispatch, batches, total_steps, on_plan
        self._compiled: set[str] = set()
        self._tokens: collections.deque[Token] = collections.deque()
        self._notes = Notes()
        self._trials = {mode: _Trial() for mode in Dispatch.modes}
        self._most_in_flight, self._left_in_flight = in_flight(dispatch.mesh)

    def advance(
        self, state: TrainState, running: Metrics, step: int, window: tuple[int, int], wish: Wish = Wish.NONE
    ) -> tuple[TrainState, Metrics, int]:
        """Makes one dispatch; the arguments `state` and `running` are used up.

        Args:
          state: the state after `step` steps.
          running: sums of metrics that those of the new steps are added to.
          step: steps taken so far.
          window: steps of the last event and of the next, which a dispatch does not reach across.
          wish: of this process; with one process it is not looked at.

        Returns:
          The new state, sums and steps taken.
        """
        since, planned, until = self.plan.at(step)
        start, end, count = max(window[0], since), min(window[1], until), self.plan.scan_steps
        fits = (step - start) % count == 0 and step + count <= end
        mode = "scan" if planned == "scan" and fits else "loop"
        length = count if mode == "scan" else 1
        # Only the last segment is on trial: a run that was resumed before it repeats what it did.
        on_trial = not self.plan.decided and until == math.inf
        timed = on_trial and mode == planned and mode in self._compiled
        if timed and not self._trials[mode].under_way:
            jax.block_until_ready(state)
            self._trials[mode].begin(step)
        # While steps are under way, reading costs no time.
        idle = not self._tokens or self._tokens[-1][0].is_ready()
        began = time.perf_counter()
        batch = self._batches.read(step, count) if mode == "scan" else self._batches.read(step)
        batch = {name: batch[name] for name in READ_BY_STEPS}
        batch_bytes = sum(leaf.nbytes for leaf in batch.values())
        if idle:
            self._goodput.add("data", time.perf_counter() - began)

        began = time.perf_counter()
        state, running, token = self._dispatch(mode, state, running, batch, wish)
        new_step = step + length
        self._tokens.append(token)
        if mode not in self._compiled:
            jax.block_until_ready(token)
            self._compiled.add(mode)
            seconds = time.perf_counter() - began
            self.compile_seconds += seconds
            self._goodput.add("compile", seconds)
        elif timed:
            self._time(mode, new_step, token, batch_bytes // length * count, last=new_step + length > end)
        self._wait(batch_bytes)
        return state, running, new_step

    def drain(self) -> None:
        """Waits for all dispatches."""
        self._read_tokens(len(self._tokens))

    def notes(self) -> Notes:
        """What has become known since the last call; some dispatches may still be under way."""
        notes, self._notes = self._notes, Notes()
        return notes

    def _wait(self, batch_bytes: int) -> None:
        """Waits if too much is under way. The same on all processes, so that they learn of wishes at the same step."""
        most = max(self._left_in_flight, min(self._most_in_flight, _LARGEST_STACK_BYTES // batch_bytes))
        if len(self._tokens) > most:
            self._read_tokens(len(self._tokens) - self._left_in_flight)

    def _read_tokens(self, count: int) -> None:
        for _ in range(count):
            skipped, wish = self._tokens.popleft()
            self._notes.skipped = max(self._notes.skipped, int(skipped))
            if wish is not None:
                self._notes.wish = max(self._notes.wish, Wish(int(wish)))

    def _time(self, mode: str, new_step: int, token: Token, stack_bytes: int, *, last: bool) -> None:
        """Times the plan's mode until its last dispatch of a window, and changes or settles the plan in the end.

        What follows in the window (single steps that fill it up, the events) is left out.
        """
        trial = self._trials[mode]
        if not last and trial.age() < _TRIAL_SECONDS:
            return
        jax.block_until_ready(token)
        trial.end(new_step)
        if trial.seconds < _TRIAL_SECONDS:
            return
        if mode == "loop":
            left = (self._total_steps - new_step) * trial.seconds_per_step
            worthwhile = (
                trial.seconds_per_step < _LONGEST_STEP_SECONDS
                and stack_bytes <= _LARGEST_STACK_BYTES
                and left > _WORTH_COMPILATIONS * self.compile_seconds
            )
            self._change(new_step, "scan" if worthwhile else "loop", decided=not worthwhile)
        else:
            loop = self._trials["loop"]  # Not timed in this process if the run was resumed during the scan's trial.
            loop_is_faster = loop.steps > 0 and loop.seconds_per_step < trial.seconds_per_step
            self._change(new_step, "loop" if loop_is_faster else "scan", decided=True)

    def _change(self, step: int, mode: str, *, decided: bool) -> None:
        if mode != self.plan.mode:
            self.plan.segments.append((step, mode))
        self.plan.decided = decided
        self._on_plan(self.plan)


class _Trial:
    """Time and steps of a mode, over stretches that end with the device idle."""

    def __init__(self):
        self.steps, self.seconds = 0, 0.0
        self._began: tuple[int, float] | None = None

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps

    @property
    def under_way(self) -> bool:
        return self._began is not None

    def begin(self, step: int) -> None:
        self._began = (step, time.perf_counter())

    def age(self) -> float:
        return time.perf_counter() - self._began[1]

    def end(self, step: int) -> None:
        self.steps += step - self._began[0]
        self.seconds += self.age()
        self._began = None
