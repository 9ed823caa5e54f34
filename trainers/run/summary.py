"""The end of a run: the last evaluation, with the best parameters, and the summary."""

import dataclasses
import importlib.metadata
from typing import Any

import jax

from plumbline import __version__
from trainers.devices.mesh import replicated
from trainers.processes import coordination
from trainers.run.checkpoints import Best, Checkpoints
from trainers.run.goodput import training_figures
from trainers.run.run_state import Run, RunState
from trainers.run.steps import Ending

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on."""
    return {"plumbline": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}


def finish(run: Run, checkpoints: Checkpoints, at: RunState, ending: Ending) -> dict[str, Any]:
    """Evaluates all splits if the training is done, writes summary and status, and returns the summary.

    Args:
      run: that has taken its steps.
      checkpoints: of the run.
      at: where it stands.
      ending: how its steps ended.
    """
    directory, is_done = run.directory, ending.status == "done"
    best = at.best or Best(step=at.step, value=float("nan"), state=at.state.inference())
    metrics = {"train": directory.last_metrics("train")}
    if is_done:
        splits = {name: split for name, split in run.dataset.splits.items() if name != "train"}
        with run.goodput.during("evaluation"):
            metrics |= {name: run.evaluate(best.state, split) for name, split in splits.items()}
    seconds = run.goodput.seconds()
    summary = {
        "status": ending.status,
        "reason": ending.reason,
        "step": at.step,
        "best_step": best.step,
        "skipped_updates": sum(int(line.get("skipped", 0)) for line in directory.metrics()),
        "examples": {name: int((split.weights > 0).sum()) for name, split in run.dataset.splits.items()},
        "left_out": [dataclasses.asdict(entry) for entry in run.dataset.left_out],
        "unused_splits": list(run.dataset.unused_splits),
        "metrics": metrics,
        **ending.rates,
        "evaluation_seconds": seconds["evaluation"],
        "checkpoint_seconds": seconds["checkpoint"],
        "compile_seconds": seconds["compile"],
        "total_seconds": sum(seconds.values()),
        "goodput": training_figures(run.goodput, run.training, at.step, whole_call=True),
        "parameters": run.training.num_parameters,
        **(_sparsity(run, best) if is_done else {}),
        "devices": [str(device) for device in run.training.mesh.devices.flat],
        "mesh": dict(run.training.mesh.shape),
        "processes": coordination.process_count(),
        "execution": dataclasses.asdict(at.plan),
        "versions": versions(),
    }
    # A run is reported as done, or saved, only once everything is on disk.
    checkpoints.wait()
    if is_done:
        directory.write_summary(summary)
    directory.write_status(ending.status, at.step, ending.reason)
    return summary


def _sparsity(run: Run, best: Best) -> dict[str, Any]:
    """The sparsity of the best parameters; empty if nothing is pruned."""
    pruning, partition = run.training.program.pruning, run.training.program.partition
    if pruning is None:
        return {}
    whole = replicated(run.training.mesh)
    count = jax.jit(lambda params: pruning.count_zeros(partition.select(params)), out_shardings=whole)
    return {"pruning": pruning.summarize(jax.device_get(count(best.state.params)))}
