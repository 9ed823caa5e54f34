"""What happens at a step where something is due: a log line, an evaluation, a checkpoint."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import jax

from trainers.run import batch_statistics, rules
from trainers.run.checkpoints import Best, Checkpoint, Checkpoints
from trainers.run.evaluation import overall
from trainers.run.goodput import training_figures
from trainers.run.progress import Progress
from trainers.run.run_state import Run, RunState
from trainers.run.tensorboard import WriteScalars
from trainers.step.train_step import mean_metrics


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """Where events are written, besides the run directory."""

    checkpoints: Checkpoints
    progress: Progress
    write_scalars: WriteScalars


def handle_events(run: Run, outputs: Outputs, at: RunState) -> RunState:
    """Does what is due at this step, always in this order, so that a checkpoint holds what the others did."""
    if rules.is_logged(run.rules, at.step):
        at = log(run, outputs, at)
    if "validation" in run.dataset.splits and rules.is_evaluated(run.rules, at.step):
        at = evaluate(run, outputs, at)
    at = batch_statistics.recompute_at_end(run, at)
    if rules.is_saved(run.rules, at.step):
        at = save(run, outputs.checkpoints, at)
    outputs.progress.show(at.step)
    return at


def log(run: Run, outputs: Outputs, at: RunState) -> RunState:
    """Writes the training metrics since the last log line, and how well the hardware was used."""
    _write(run, outputs, at.step, "train", mean_metrics(jax.device_get(at.running)), shown=("loss",))
    figures = training_figures(run.goodput, run.training, at.step)
    run.directory.append_goodput(at.step, figures)
    shown = {name: figures[name] for name in ("goodput", "mfu") if figures.get(name) is not None}
    outputs.write_scalars(at.step, "run", shown)
    return dataclasses.replace(at, running=run.zero_sums())


def evaluate(run: Run, outputs: Outputs, at: RunState) -> RunState:
    """Evaluates on the validation split; keeps a copy of the parameters if they are the best so far."""
    began = time.perf_counter()
    state, best = at.state.inference(), at.best
    metrics = overall(run.evaluate(state, run.dataset.splits["validation"]))
    _write(run, outputs, at.step, "validation", metrics, shown=(run.rules.metric,))
    value = metrics[run.rules.metric]
    is_pruned = bool(rules.are_pruned(run.training.program.pruning, at.state.opt_state))
    if rules.is_better(run.rules, value, metrics["loss"], best and best.value, is_pruned=is_pruned):
        best = Best(step=at.step, value=value, state=run.copy(state))
    seconds = time.perf_counter() - began
    if not at.has_evaluated:
        outputs.progress.leave_out(seconds)  # The first evaluation compiles, so it does not predict the others.
    run.goodput.add("evaluation", seconds)
    return dataclasses.replace(at, best=best, has_evaluated=True)


def save(run: Run, checkpoints: Checkpoints, at: RunState, *, even_while_skipping: bool = False) -> RunState:
    """Saves a checkpoint, unless there is one of this step or, by default, the last updates were skipped.

    So the checkpoints that are kept are from before a possible failure.

    Args:
      run: to save.
      checkpoints: of the run.
      at: what to save.
      even_while_skipping: save though the last updates were skipped.
    """
    at = dataclasses.replace(at, has_requested_save=False, saved_at=time.monotonic())
    if at.saved_step == at.step or (int(at.state.skipped) and not even_while_skipping):
        return at
    with run.goodput.during("checkpoint"):
        checkpoints.save(
            Checkpoint(
                state=at.state,
                running=at.running,
                best=at.best,
                fingerprint=run.dataset.identity,
                extra=run.goodput.to_save(),
            )
        )
    run.directory.write_status("running", at.step)
    return dataclasses.replace(at, saved_step=at.step)


def _write(
    run: Run, outputs: Outputs, step: int, split: str, metrics: Mapping[str, float], *, shown: Sequence[str]
) -> None:
    run.directory.append_metrics(step, split, metrics)
    outputs.write_scalars(step, split, metrics)
    outputs.progress.metrics(split, {name: metrics[name] for name in shown if name in metrics})
