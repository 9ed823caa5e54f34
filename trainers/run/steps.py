"""The loop of a run: steps are dispatched until the next event, until the training ends."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import jax

from data.batches import TrainBatches
from trainers.devices.dispatch import Dispatcher
from trainers.devices.execution_plan import Plan
from trainers.devices.mesh import local_rows
from trainers.devices.step_programs import Request, StepPrograms
from trainers.processes import coordination
from trainers.processes.signals import Signals
from trainers.run import rules
from trainers.run.checkpoints import Checkpoints
from trainers.run.directory import RunDirectory
from trainers.run.events import Outputs, handle_events, save
from trainers.run.profiling import Profile
from trainers.run.progress import Progress
from trainers.run.rollback import roll_back
from trainers.run.run_state import Run, RunState, record_failure
from trainers.run.tensorboard import scalar_writer


@dataclasses.dataclass(frozen=True)
class Ending:
    """How the steps of a call ended.

    Attributes:
      status: "done", "preempted" or "diverged".
      reason: one line, for the user; may be empty.
      rates: `steps_per_second` and `examples_per_second` of this call.
    """

    status: str
    reason: str
    rates: dict[str, float] = dataclasses.field(default_factory=dict)


def take_steps(
    run: Run, checkpoints: Checkpoints, begin: Callable[[], RunState], signals: Signals
) -> tuple[RunState, Ending]:
    """Takes all steps that are left.

    Args:
      run: that is to take steps.
      checkpoints: of the run.
      begin: returns where it stands. A value, which callers would hold, would stay in memory until the end.
      signals: received by this process.

    Returns:
      Where the run stands at the end, and how it ended.
    """
    at, is_alone, programs = begin(), coordination.process_count() == 1, run.training.step_programs()
    window, granted, ending = rules.event_window(run.rules, at.step), Request.NONE, None
    with (
        record_failure(run.directory, lambda: at.step),
        _open_outputs(run, checkpoints, at.step, at.plan) as (outputs, profile),
        ExitStack() as opened,
    ):
        dispatcher = opened.enter_context(closing(_make_dispatcher(run, programs, at)))
        while not _is_over(run, at):
            request, at = _make_request(run, at, signals)
            granted = request if is_alone else granted
            if granted == Request.STOP:
                ending = _preempted(at, signals)
                break
            if granted == Request.SAVE:
                at = save(run, checkpoints, at)
            at = _advance(dispatcher, at, window, request)
            _note_dispatch(run, outputs, at.step)
            profile.step(at.step, dispatcher.drain)
            if is_event := at.step == window[1]:
                dispatcher.drain()
            notes = dispatcher.take_notes()
            granted = notes.request
            if has_diverged := rules.has_diverged(notes.skipped, run.rules.max_skipped):
                reason = _divergence(at, notes.skipped)
                if not rules.can_roll_back(run.rules, has_rolled_back=at.rollback is not None):
                    ending = Ending("diverged", reason)
                    break
                dispatcher.drain()
                dispatcher.close()
                at = roll_back(run, checkpoints, dataclasses.replace(at, plan=dispatcher.plan), reason)
                dispatcher = opened.enter_context(closing(_make_dispatcher(run, programs, at)))
            elif is_event:
                at = handle_events(run, outputs, at)
            if has_diverged or is_event:
                window = rules.event_window(run.rules, at.step)
        if ending is None or ending.status != "diverged":
            at = save(run, checkpoints, at, even_while_skipping=True)
        jax.block_until_ready(at.state)
        at, ending = dataclasses.replace(at, plan=dispatcher.plan), ending or _done(run, at)
        rates = run.goodput.rates(at.step, run.training.config.train.batch_size)
        return at, dataclasses.replace(ending, rates=rates)


def _is_over(run: Run, at: RunState) -> bool:
    best_step = None if at.best is None else at.best.step
    return rules.is_over(run.rules, at.step, best_step)


def _make_request(run: Run, at: RunState, signals: Signals) -> tuple[Request, RunState]:
    """What this process requests with the next dispatch. Of several processes only the first watches the clock."""
    if signals.received:
        return Request.STOP, at
    is_first, is_alone = coordination.process_index() == 0, coordination.process_count() == 1
    overdue = (
        is_first and not at.has_requested_save and rules.is_save_overdue(run.rules, time.monotonic() - at.saved_at)
    )
    if not overdue:
        return Request.NONE, at
    # Once: several processes save when they learn of it, some dispatches later.
    return Request.SAVE, at if is_alone else dataclasses.replace(at, has_requested_save=True)


def _advance(dispatcher: Dispatcher, at: RunState, window: tuple[int, int], request: Request) -> RunState:
    state, running, step = dispatcher.advance(at.state, at.running, at.step, window, request)
    return dataclasses.replace(at, state=state, running=running, step=step)


def _note_dispatch(run: Run, outputs: Outputs, step: int) -> None:
    """Notes the steps taken, for the clock and the progress."""
    if not run.goodput.is_stepping:
        run.goodput.begin_stepping(step)
        outputs.progress.restart_clock(step)
    outputs.progress.step(step)


def _make_dispatcher(run: Run, programs: StepPrograms, at: RunState) -> Dispatcher:
    training = run.training
    batches = TrainBatches(
        run.dataset.splits["train"],
        batch_size=training.config.train.batch_size,
        seed=training.config.seed,
        rows=local_rows(training.mesh, training.config.train.batch_size),
        skipped=(at.rollback["step"], at.rollback["batches"]) if at.rollback else (0, 0),
        workers=training.config.data.workers,
    )
    return Dispatcher(
        programs,
        batches,
        at.plan,
        run.rules.total_steps,
        write_plan=functools.partial(_write_plan, run.directory),
        add_seconds=run.goodput.add,
    )


@contextmanager
def _open_outputs(run: Run, checkpoints: Checkpoints, step: int, plan: Plan) -> Iterator[tuple[Outputs, Profile]]:
    """Opens what a run writes to while it takes steps, and marks it as running."""
    config, is_first = run.training.config.train, coordination.process_index() == 0
    _write_plan(run.directory, plan)
    run.directory.write_status("running", step)
    folder = run.directory.tensorboard
    with (
        scalar_writer(folder, step, enabled=config.tensorboard and is_first) as write_scalars,
        Progress(run.rules.total_steps, config.batch_size, step, shown=is_first) as progress,
        closing(Profile(config.profile, folder, step)) as profile,
    ):
        yield Outputs(checkpoints=checkpoints, progress=progress, write_scalars=write_scalars), profile


def _write_plan(directory: RunDirectory, plan: Plan) -> None:
    directory.write_execution(dataclasses.asdict(plan))


def _preempted(at: RunState, signals: Signals) -> Ending:
    cause = signals.received or "a signal to another process"
    return Ending("preempted", f"{cause} at step {at.step}; run again, without --overwrite, to resume")


def _done(run: Run, at: RunState) -> Ending:
    if at.step == run.rules.total_steps:
        return Ending("done", "")
    best = f"{at.best.value:.4g} since step {at.best.step}"
    return Ending("done", f"no better {run.rules.metric} than {best}")


def _divergence(at: RunState, skipped: int) -> str:
    """One line about a divergence, for the user."""
    reason = f"loss or gradient not finite in {skipped} steps in a row before step {at.step}"
    return f"{reason}, after a rollback to step {at.rollback['step']}" if at.rollback else reason
