"""Whether pretraining helped: the same training from scratch, and the difference on the test examples."""

import dataclasses
import os
import sys
from typing import Any

import ml_collections
import numpy as np

from diagnostics.statistics import Interval, clustered_interval, within
from plumbline import UserError, pluralize
from trainers.processes import coordination
from trainers.run import transfer
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import FIELDS, override
from trainers.step.objectives import bounds

# Without patterns no adapter reads rank and alpha.
_FROM_SCRATCH = {
    path: field.default
    for path, field in FIELDS.items()
    if path.startswith("transfer.") and path not in ("transfer.lora.rank", "transfer.lora.alpha")
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A fine-tuned run, compared with the same training from scratch.

    Attributes:
      metric: the objective's best metric.
      higher_is_better: its direction.
      transfer: metric of the run on its test split.
      scratch: metric of the training from scratch.
      difference: the first minus the second, with its 95 % interval over test examples or their groups. It does not
        cover the randomness of training, as there is one training of each.
      over: unit of the interval, as in "382 examples".
    """

    metric: str
    higher_is_better: bool
    transfer: float
    scratch: float
    difference: Interval
    over: str

    @property
    def verdict(self) -> str:
        """Better or worse than from scratch if the interval excludes 0; else unclear."""
        _, low, high = self.difference
        if not (low > 0 or high < 0):
            return "unclear"
        return "better" if (low > 0) == self.higher_is_better else "worse"

    def describe(self) -> str:
        """Describes the result in one line."""
        conclusion = {
            "better": "transfer helped",
            "worse": "NEGATIVE TRANSFER, the source did harm: start from scratch, or use another source",
            "unclear": "these test examples do not show that transfer helped",
        }[self.verdict]
        mean, low, high = self.difference
        interval = f"95 % interval {low:+.4f} to {high:+.4f} over {self.over}"
        if not np.isfinite(low):
            interval = f"no interval for {self.over}"
        return (
            f"{conclusion}: test {self.metric} {self.transfer:.4f}, from scratch {self.scratch:.4f}, difference "
            f"{mean:+.4f} ({interval}; one training each)"
        )

    def figures(self) -> dict[str, Any]:
        """Returns the figures for a JSON file."""
        mean, low, high = self.difference
        return {
            "metric": self.metric,
            "transfer": self.transfer,
            "scratch": self.scratch,
            "difference": {"mean": mean, "low": low, "high": high, "confidence": 0.95, "over": self.over},
            "verdict": self.verdict,
        }


def check_possible() -> None:
    """Checks that both trainings can run here, one after the other.

    Raises:
      UserError: there are several processes.
    """
    if coordination.process_count() > 1:
        raise UserError(
            "transfer.check: needs a single process; train from scratch in a run of its own, with transfer.source='', "
            "and compare the two"
        )


def check(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> tuple[dict[str, Any], Comparison | None]:
    """Trains from scratch in `scratch` of a finished run, or resumes that, and compares the two.

    Call `check_possible` before the run begins. If the training from scratch ends early, the reason is printed on
    stderr.

    Args:
      config: of the run.
      workdir: of the run.

    Returns:
      The summary of the training from scratch; and the comparison, which `compare` writes, or None if that training was
      preempted or diverged.

    Raises:
      UserError: as `compare`.
    """
    summary = train(scratch_config(config, workdir), RunDirectory(workdir).scratch)
    if summary["status"] == "done":
        return summary, compare(workdir)
    print(f"{summary['status']} while training from scratch: {summary['reason']}", file=sys.stderr)
    return summary, None


def scratch_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """Returns the config of the same training from scratch: as long, on the same rows, in the same order.

    Args:
      config: of the run.
      workdir: of the run.
    """
    return override(transfer.resolve(config, RunDirectory(workdir)), _FROM_SCRATCH)


def compare(workdir: str | os.PathLike) -> Comparison:
    """Compares a finished run with the one in its `scratch`, and writes `transfer_check.json`.

    Raises:
      UserError: one of them is missing, or the data have changed since.
    """
    directory = RunDirectory(workdir)
    run, scratch = FinishedRun(directory.path), FinishedRun(directory.scratch)
    (values, weights, groups), (others, _, _) = run.evaluate_each("test"), scratch.evaluate_each("test")
    clusters = np.arange(len(values)) if groups is None else groups
    # Corrupt images have weight 0.
    there = weights > 0
    values, others, weights, clusters = (each[there] for each in (values, others, weights, clusters))
    metric, objective = run.program.objective.best_metric, run.program.objective
    least, most = bounds(metric)
    difference = clustered_interval(values - others, clusters, weights)
    comparison = Comparison(
        metric=metric,
        higher_is_better=objective.higher_is_better(metric),
        transfer=float(np.average(values, weights=weights)),
        scratch=float(np.average(others, weights=weights)),
        difference=within(difference, least - most, most - least),
        over=pluralize(len(np.unique(clusters)), "example" if groups is None else "group"),
    )
    directory.write_transfer_check(comparison.figures())
    return comparison
