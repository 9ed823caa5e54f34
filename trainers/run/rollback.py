"""Rollback after divergence: the last checkpoint is restored, and the batches of the failure are skipped."""

import dataclasses
import sys

from trainers.processes import coordination
from trainers.run import resume
from trainers.run.checkpoints import Checkpoints
from trainers.run.run_state import Run, RunState


def roll_back(run: Run, checkpoints: Checkpoints, at: RunState, reason: str) -> RunState:
    """Restores the last checkpoint before the failure; later checkpoints are moved aside.

    Args:
      run: that has diverged.
      checkpoints: of the run.
      at: where it has diverged; nothing of it may be in flight.
      reason: one line, for the user.
    """
    checkpoints.wait()
    with run.goodput.during("restart"):
        # A run that was stopped during the failure has a checkpoint from there too.
        before = at.step - int(at.state.skipped)
        back = resume.start_from(run, resume.restore(run, checkpoints, at_most=before), at.plan)
    checkpoints.move_aside(back.step, "diverged")
    rollback = {"step": back.step, "batches": at.step - back.step, "reason": reason}
    run.directory.write_rollback(rollback)
    run.goodput.go_back(back.step)
    if coordination.process_index() == 0:
        print(
            f"{reason}: rolled back to step {back.step}; continuing with the batches after step {at.step}",
            file=sys.stderr,
            flush=True,
        )
    return dataclasses.replace(back, rollback=rollback, has_evaluated=at.has_evaluated)
