"""Whether pretraining helped: the same training from scratch, on several seeds, and the difference on the test rows."""

import dataclasses
import os
import sys
from typing import Any

import ml_collections
import numpy as np

from diagnostics.crossed import LEAST_SEEDS, crossed_interval
from diagnostics.statistics import Interval, clustered_interval, within
from diagnostics.transfer import repetitions
from diagnostics.transfer.repetitions import Repetitions
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
      transfer: metric on the test split of the trainings with the source, by seed; the first is that of the run.
      scratch: the same of the trainings from scratch.
      seeds: of both.
      difference: the mean of the first minus the second, with its 95 % interval; of several seeds it is over seeds and
        over test examples or their groups, of one seed over the latter alone.
      over: unit of the test rows, as in "382 examples".
      missing: why there is one seed although there should be several; "" otherwise.
    """

    metric: str
    higher_is_better: bool
    transfer: tuple[float, ...]
    scratch: tuple[float, ...]
    seeds: tuple[int, ...]
    difference: Interval
    over: str
    missing: str = ""

    @property
    def verdict(self) -> str:
        """Better or worse than from scratch if the interval excludes 0; else unclear.

        One training each shows at most that the two models differ on these rows: "differs".
        """
        _, low, high = self.difference
        if not (low > 0 or high < 0):
            return "unclear"
        if len(self.seeds) < LEAST_SEEDS:
            return "differs"
        return "better" if (low > 0) == self.higher_is_better else "worse"

    def describe(self) -> str:
        """Describes the result in one line."""
        alone = len(self.seeds) < LEAST_SEEDS
        unclear = (
            "these rows show no difference between the two models"
            if alone
            else ("these trainings and test rows do not show that transfer helped")
        )
        conclusion = {
            "better": "transfer helped",
            "worse": "NEGATIVE TRANSFER, the source did harm: start from scratch, or use another source",
            "differs": "these two models differ on these rows",
            "unclear": unclear,
        }[self.verdict]
        mean, low, high = self.difference
        digits = _digits(self.difference)
        both = self.over if alone else f"{pluralize(len(self.seeds), 'seed')} and {self.over}"
        interval = f"95 % interval {low:+.{digits}f} to {high:+.{digits}f} over {both}"
        if not np.isfinite(low):
            interval = f"no interval for {both}"
        remark = ""
        if alone:
            remark = "; one training each: another seed may reverse it" + (f"; {self.missing}" if self.missing else "")
        return (
            f"{conclusion}: test {self.metric} {np.mean(self.transfer):.{digits}f}, from scratch "
            f"{np.mean(self.scratch):.{digits}f}, difference {mean:+.{digits}f} ({interval}{remark})"
        )

    def figures(self) -> dict[str, Any]:
        """Returns the figures for a JSON file."""
        mean, low, high = self.difference
        return {
            "metric": self.metric,
            "transfer": float(np.mean(self.transfer)),
            "scratch": float(np.mean(self.scratch)),
            "seeds": list(self.seeds),
            "by_seed": {"transfer": list(self.transfer), "scratch": list(self.scratch)},
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
    """Trains from scratch in `scratch` of a finished run, repeats both on further seeds, and compares.

    Call `check_possible` before the run begins. What was interrupted is resumed. If the training from scratch ends
    early, the reason is printed on stderr.

    Args:
      config: of the run.
      workdir: of the run.

    Returns:
      The summary of the training from scratch; and the comparison, which is also written to `transfer_check.json`, or
      None if that training was preempted or diverged.

    Raises:
      UserError: a run is missing, or the data have changed since.
      Preempted: a signal to stop has come while both are repeated.
    """
    directory = RunDirectory(workdir)
    summary = train(scratch_config(config, workdir), directory.scratch)
    if summary["status"] != "done":
        print(f"{summary['status']} while training from scratch: {summary['reason']}", file=sys.stderr)
        return summary, None
    run, scratch = FinishedRun(directory.path), FinishedRun(directory.scratch)
    evaluated = run.evaluate_each("test")
    others, _, _ = scratch.evaluate_each("test")
    resolved = transfer.resolve(config, directory)
    repeated = repetitions.train(resolved, run, directory, _FROM_SCRATCH, len(others))
    comparison = _compare(run, evaluated, others, repeated, config.seed)
    directory.write_transfer_check(comparison.figures())
    return summary, comparison


def scratch_config(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> ml_collections.ConfigDict:
    """Returns the config of the same training from scratch: as long, on the same rows, in the same order.

    Args:
      config: of the run.
      workdir: of the run.
    """
    return override(transfer.resolve(config, RunDirectory(workdir)), _FROM_SCRATCH)


def _compare(
    run: FinishedRun,
    evaluated: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    others: np.ndarray,
    repeated: Repetitions,
    seed: int,
) -> Comparison:
    """Compares the test rows' scores of a run, of the one from scratch, and of their repetitions."""
    values, weights, groups = evaluated
    there = weights > 0  # Corrupt images have weight 0.
    weights, groups = weights[there], None if groups is None else groups[there]
    transferred, fresh = (
        np.concatenate([own[None], more])[:, there]
        for own, more in ((values, repeated.transfer), (others, repeated.scratch))
    )
    metric, objective = run.program.objective.best_metric, run.program.objective
    least, most = bounds(metric)
    clusters = np.arange(len(weights)) if groups is None else groups
    difference = (
        crossed_interval(transferred - fresh, weights, groups)
        if len(transferred) >= LEAST_SEEDS
        else clustered_interval((transferred - fresh)[0], clusters, weights)
    )
    return Comparison(
        metric=metric,
        higher_is_better=objective.higher_is_better(metric),
        transfer=tuple(float(np.average(each, weights=weights)) for each in transferred),
        scratch=tuple(float(np.average(each, weights=weights)) for each in fresh),
        seeds=(seed, *repeated.seeds),
        difference=within(difference, least - most, most - least),
        over=pluralize(len(np.unique(clusters)), "example" if groups is None else "group"),
        missing=repeated.missing,
    )


def _digits(interval: Interval) -> int:
    """Returns the decimals that an interval supports: two figures of its half width; four without one."""
    half = (interval[2] - interval[1]) / 2
    return int(np.clip(1 - np.floor(np.log10(half)), 0, 6)) if np.isfinite(half) and half > 0 else 4
