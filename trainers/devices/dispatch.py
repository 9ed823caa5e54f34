"""How train steps are dispatched: read the batch, call the compiled program, limit what is in flight.

Steps between two events of a run (a log line, an evaluation, a checkpoint) are always divided into dispatches in the
same way. Which mode takes which step is the plan's (`trainers.devices.execution_plan`); the plan is made here, by
timing the run's own steps.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable

import jax

from data.batches import TrainBatches
from trainers.devices.execution_plan import LARGEST_STACK_BYTES, Plan, Trial, judge_trial
from trainers.devices.mesh import in_flight
from trainers.devices.step_programs import READ_BY_STEPS, Request, StepPrograms, Token
from trainers.step.state import TrainState
from trainers.step.train_step import Metrics


@dataclasses.dataclass
class Notes:
    """What has become known of dispatches.

    Attributes:
      skipped: the most updates that were skipped in a row.
      request: the highest request of any process.
    """

    skipped: int = 0
    request: Request = Request.NONE


class Dispatcher:
    """Takes steps by the plan, and makes the plan where it is not decided.

    Attributes:
      plan: the plan so far.
      compile_seconds: spent on first dispatches, which compile.
    """

    def __init__(
        self,
        programs: StepPrograms,
        batches: TrainBatches,
        plan: Plan,
        total_steps: int,
        *,
        write_plan: Callable[[Plan], None],
        add_seconds: Callable[[str, float], None],
    ):
        """Nothing is compiled yet.

        Args:
          programs: of the step.
          batches: what step `t` reads; this process's rows of it.
          plan: the plan so far.
          total_steps: of the training.
          write_plan: called whenever the plan changes.
          add_seconds: called with "data" or "compile" and the seconds that were spent on it.
        """
        self.plan = plan
        self.compile_seconds = 0.0
        self._programs, self._batches, self._total_steps = programs, batches, total_steps
        self._write_plan, self._add_seconds = write_plan, add_seconds
        self._compiled: set[str] = set()
        self._tokens: collections.deque[Token] = collections.deque()
        self._notes = Notes()
        self._trials = {mode: Trial() for mode in StepPrograms.modes}
        self._most_in_flight, self._left_in_flight = in_flight(programs.mesh)

    def advance(
        self,
        state: TrainState,
        running: Metrics,
        step: int,
        window: tuple[int, int],
        request: Request = Request.NONE,
    ) -> tuple[TrainState, Metrics, int]:
        """Makes one dispatch. The buffers of `state` and `running` are donated.

        Args:
          state: the state after `step` steps.
          running: sums of metrics, to which those of the new steps are added.
          step: steps taken so far.
          window: steps of the last event and of the next one; no dispatch crosses it.
          request: of this process; ignored with one process.

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
        if timed and not self._trials[mode].is_running:
            jax.block_until_ready(state)
            self._trials[mode].begin(step)
        # While steps are in flight, reading costs no time.
        idle = not self._tokens or self._tokens[-1][0].is_ready()
        began = time.perf_counter()
        batch = self._batches.read(step, count) if mode == "scan" else self._batches.read(step)
        batch = {name: batch[name] for name in READ_BY_STEPS}
        batch_bytes = sum(leaf.nbytes for leaf in batch.values())
        if idle:
            self._add_seconds("data", time.perf_counter() - began)

        began, programs = time.perf_counter(), self._programs
        result = programs.compiled[mode](state, running, programs.place(mode, batch), programs.requests.get(request))
        state, running, token = programs.unify(result)
        new_step = step + length
        self._tokens.append(token)
        if mode not in self._compiled:
            jax.block_until_ready(token)
            self._compiled.add(mode)
            seconds = time.perf_counter() - began
            self.compile_seconds += seconds
            self._add_seconds("compile", seconds)
        elif timed:
            self._time(mode, new_step, token, batch_bytes // length * count, last=new_step + length > end)
        self._limit_in_flight(batch_bytes)
        return state, running, new_step

    def drain(self) -> None:
        """Waits for all dispatches."""
        self._read_tokens(len(self._tokens))

    def take_notes(self) -> Notes:
        """What has become known since the last call; some dispatches may still be in flight."""
        notes, self._notes = self._notes, Notes()
        return notes

    def close(self) -> None:
        """Ends the processes that read batches."""
        self._batches.close()

    def _limit_in_flight(self, batch_bytes: int) -> None:
        """Waits if too much is in flight. All processes wait at the same steps, so they learn of requests together."""
        most = max(self._left_in_flight, min(self._most_in_flight, LARGEST_STACK_BYTES // batch_bytes))
        if len(self._tokens) > most:
            self._read_tokens(len(self._tokens) - self._left_in_flight)

    def _read_tokens(self, count: int) -> None:
        for _ in range(count):
            skipped, request = self._tokens.popleft()
            self._notes.skipped = max(self._notes.skipped, int(skipped))
            if request is not None:
                self._notes.request = max(self._notes.request, Request(int(request)))

    def _time(self, mode: str, new_step: int, token: Token, stack_bytes: int, *, last: bool) -> None:
        """Times the plan's mode until its last dispatch of a window; changes the plan once it has been timed enough.

        What follows in the window (the remaining single steps, the events) is left out.
        """
        trial = self._trials[mode]
        if not last and not trial.is_long_enough:
            return
        jax.block_until_ready(token)
        trial.end(new_step)
        if trial.is_long_enough:
            mode, decided = judge_trial(
                mode,
                self._trials,
                steps_left=self._total_steps - new_step,
                stack_bytes=stack_bytes,
                compile_seconds=self.compile_seconds,
            )
            self.plan = self.plan.change(new_step, mode, decided=decided)
            self._write_plan(self.plan)
