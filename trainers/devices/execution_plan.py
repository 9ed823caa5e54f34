"""Which step is taken in which mode: one step in a dispatch ("loop") or several ("scan").

A program compiled for several steps may differ in the last bit from the program for a single step. So the mode of a
step depends on the step alone: the plan is written down once it is made, and a run that is resumed follows it.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import jax

from plumbline import unknown_name

MODES = ("auto", "loop", "scan")
LARGEST_STACK_BYTES = 2**28
"""The batches of a scan, and those in flight, are in memory together. Larger stacks are not tried."""

# Each mode is timed for this long.
_TRIAL_SECONDS = 0.3
# The cost of a dispatch is negligible beside a step that takes longer than this.
_LONGEST_STEP_SECONDS = 0.05
# A trial costs a compilation and perhaps some slow steps. The rest of the run must take this many times as long.
_WORTH_COMPILATIONS = 5


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which mode takes which step.

    Attributes:
      segments: (first step, mode) pairs. The last segment lasts until the end.
      scan_steps: steps in one dispatch of "scan".
      decided: no other mode will be tried.
    """

    segments: tuple[tuple[int, str], ...]
    scan_steps: int
    decided: bool

    @property
    def mode(self) -> str:
        """The mode of the last segment."""
        return self.segments[-1][1]

    def at(self, step: int) -> tuple[int, str, int | float]:
        """First step, mode and end of the segment that `step` lies in. The last segment ends at infinity."""
        number = max(index for index, (first, _) in enumerate(self.segments) if first <= step)
        ends = [first for first, _ in self.segments[number + 1 :]] + [math.inf]
        return *self.segments[number], ends[0]

    def change(self, step: int, mode: str, *, decided: bool) -> "Plan":
        """Returns the plan with this mode from `step` on."""
        added = () if mode == self.mode else ((step, mode),)
        return dataclasses.replace(self, segments=self.segments + added, decided=decided)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Plan":
        """Reads a plan from the fields that `dataclasses.asdict` wrote."""
        segments = tuple((step, mode) for step, mode in fields["segments"])
        return cls(segments, fields["scan_steps"], fields["decided"])


def make_plan(mode: str, scan_steps: int, shortest_interval: int) -> Plan:
    """The plan of a new run.

    Args:
      mode: "auto", "loop" or "scan".
      scan_steps: most steps in one dispatch.
      shortest_interval: steps between the most frequent events of the run. No dispatch is longer.

    Raises:
      UserError: the mode is unknown.
    """
    if mode not in MODES:
        raise unknown_name("execution.mode", mode, MODES)
    scan_steps = steps_per_dispatch(shortest_interval, scan_steps)
    # Several processes would each measure something else.
    decided = mode != "auto" or scan_steps == 1 or jax.process_count() > 1
    return Plan(((0, "scan" if mode == "scan" else "loop"),), scan_steps, decided)


def steps_per_dispatch(interval: int, most: int) -> int:
    """At most `most` steps, so that an interval takes few dispatches and leaves few single steps over."""
    return interval // math.ceil(interval / most)


class Trial:
    """Time and steps of a mode, over stretches that end with the device idle."""

    def __init__(self):
        self.steps, self.seconds = 0, 0.0
        self._began: tuple[int, float] | None = None

    @property
    def seconds_per_step(self) -> float:
        """Mean over all stretches."""
        return self.seconds / self.steps

    @property
    def is_running(self) -> bool:
        """Whether a stretch has begun and not ended."""
        return self._began is not None

    @property
    def is_long_enough(self) -> bool:
        """Whether the time measured so far, with that of the present stretch, allows a judgement."""
        return (self.seconds if self._began is None else self._age()) >= _TRIAL_SECONDS

    def begin(self, step: int) -> None:
        """Begins a stretch at `step`."""
        self._began = (step, time.perf_counter())

    def end(self, step: int) -> None:
        """Ends the stretch at `step`."""
        self.steps += step - self._began[0]
        self.seconds += self._age()
        self._began = None

    def _age(self) -> float:
        return time.perf_counter() - self._began[1]


def judge_trial(
    mode: str, trials: Mapping[str, Trial], *, steps_left: int, stack_bytes: int, compile_seconds: float
) -> tuple[str, bool]:
    """The mode of the next steps once `mode` has been timed, and whether that is final.

    Args:
      mode: "loop" or "scan".
      trials: by mode; of a run that was resumed during the trial of "scan", that of "loop" is empty.
      steps_left: of the training.
      stack_bytes: size of the batches of one scan.
      compile_seconds: spent on compiling so far.
    """
    if mode == "loop":
        seconds = trials["loop"].seconds_per_step
        is_worthwhile = (
            seconds < _LONGEST_STEP_SECONDS
            and stack_bytes <= LARGEST_STACK_BYTES
            and steps_left * seconds > _WORTH_COMPILATIONS * compile_seconds
        )
        return ("scan", False) if is_worthwhile else ("loop", True)
    loop, scan = trials["loop"], trials["scan"]
    loop_is_faster = loop.steps > 0 and loop.seconds_per_step < scan.seconds_per_step
    return "loop" if loop_is_faster else "scan", True
