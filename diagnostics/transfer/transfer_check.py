"""Whether a pretrained start was worth it: the same training from scratch, and the difference on the test examples."""

import dataclasses
import os
from typing import Any

import ml_collections
import numpy as np

from diagnostics.statistics import Interval, clustered_interval, within
from plumbline import UserError, counted
from trainers.processes import coordination
from trainers.run import transfer
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
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
    """A run that began with a source, against the same from scratch.

    Attributes:
      metric: the objective's best metric.
      higher_is_better: its direction.
      transfer: of the run, on its test split.
      scratch: of the one from scratch.
      difference: the first less the second, with its 95 % interval over test examples, or their groups. One training
        of each is compared: what chance in training does is not in it.
      over: what the interval is over, as "382 examples".
    """

    metric: str
    higher_is_better: bool
    transfer: float
    scratch: float
    difference: Interval
    over: str

    @property
    def verdict(self) -> str:
        """Better or worse than from scratch where the interval leaves out 0; else unclear."""
        _, low, high = self.difference
        if not (low > 0 or high < 0):
            return "unclear"
        return "better" if (low > 0) == self.higher_is_better else "worse"

    def told(self) -> str:
        """In one line."""
        conclusion = {
            "better": "transfer helped",
            "worse": "NEGATIVE TRANSFER, the source did harm: start from scratch, or take another source",
            "unclear": "transfer did not help as far as these test examples can tell",
        }[self.verdict]
        mean, low, high = self.difference
        interval = f"95 % interval {low:+.4f} to {high:+.4f} over {self.over}"
        if not np.isfinite(low):
            interval = f"no interval, of {self.over}"
        return (
            f"{conclusion}: test {self.metric} {self.transfer:.4f}, from scratch {self.scratch:.4f}, difference "
            f"{mean:+.4f} ({interval}; one training each)"
        )

    def figures(self) -> dict[str, Any]:
        """For a JSON file."""
        mean, low, high = self.difference
        return {
            "metric": self.metric,
            "transfer": self.transfer,
            "scratch": self.scratch,
            "difference": {"mean": mean, "low": low, "high": high, "confidence": 0.95, "over": self.over},
            "verdict": self.verdict,
        }


def check_possible() -> None:
    """Checks that both trainings can follow each other here.

    Raises:
      UserError: there are several processes.
    """
    if coordination.process_count() > 1:
        raise UserError(
            "transfer.check: is for one process; train from scratch by a run of its own, with transfer.source='', and "
            "compare the two"
        )


def scratch_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """The config of the same training from scratch: as long, on the same rows, in the same order.

    Args:
      config: of the run.
      workdir: of the run.
    """
    return override(transfer.resolve(config, RunDirectory(workdir)), _FROM_SCRATCH)


def compare(workdir: str | os.PathLike) -> Comparison:
    """Compares a finished run with the one in its `scratch`, and writes `transfer_check.json`.

    Raises:
      UserError: one of them is not there, or the data are no longer what they were trained on.
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
        over=counted(len(np.unique(clusters)), "example" if groups is None else "group"),
    )
    directory.write_transfer_check(comparison.figures())
    return comparison
