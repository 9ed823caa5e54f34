"""The rules of a training: what is due at a step, which evaluation is the best, when it ends and when it has diverged.

All of them are pure functions. A single run and the members of a population follow the same ones.
"""

import dataclasses
from typing import Any

import ml_collections
import numpy as np

from trainers.durations import Clock, Every
from trainers.step.objective import Objective
from trainers.step.pruning import Pruning


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What a config says about the course of a training, in steps.

    Attributes:
      total_steps: of the training.
      log: between log lines.
      evaluate: between evaluations.
      checkpoint: between checkpoints; may be in seconds.
      patience: steps without a better evaluation after which the training ends; None: never.
      metric: that chooses the best evaluation.
      sign: 1 where a higher metric is better, else -1.
      max_skipped: updates skipped in a row after which the training has diverged.
      rolls_back: whether a training that has diverged goes back to its last checkpoint, once.
    """

    total_steps: int
    log: Every
    evaluate: Every
    checkpoint: Every
    patience: int | None
    metric: str
    sign: int
    max_skipped: int
    rolls_back: bool

    @property
    def shortest_interval(self) -> int:
        """Steps between the most frequent events."""
        return min(every.steps or self.total_steps for every in (self.log, self.evaluate, self.checkpoint))


def make_rules(config: ml_collections.ConfigDict, clock: Clock, objective: Objective) -> Rules:
    """The rules of a config.

    Args:
      config: the whole config.
      clock: of the training.
      objective: knows the metrics.

    Raises:
      UserError: an interval is no duration, or the objective has no such metric.
    """
    train = config.train
    metric, sign = objective.monitored_metric(train.best_metric)
    return Rules(
        total_steps=clock.total_steps,
        log=clock.every(train.log_every, "train.log_every"),
        evaluate=clock.every(train.evaluate_every, "train.evaluate_every"),
        checkpoint=clock.every(train.checkpoint_every, "train.checkpoint_every", wall_time=True),
        patience=clock.every(train.patience, "train.patience").steps,
        metric=metric,
        sign=sign,
        max_skipped=train.max_skipped,
        rolls_back=train.on_divergence == "rollback",
    )


def event_window(rules: Rules, step: int) -> tuple[int, int]:
    """The last step up to `step`, and the first one after it, at which a run logs, evaluates or saves."""
    intervals = rules.log, rules.evaluate, rules.checkpoint
    last = max(every.last_until(step) for every in intervals)
    return last, min(every.next_after(step, rules.total_steps) for every in intervals)


def next_evaluation(rules: Rules, step: int) -> int:
    """The first step after `step` with an evaluation."""
    return rules.evaluate.next_after(step, rules.total_steps)


def next_checkpoint(rules: Rules, step: int) -> int:
    """The first step after `step` with a checkpoint, or the last step where checkpoints are not counted in steps."""
    return rules.checkpoint.next_after(step, rules.total_steps)


def is_logged(rules: Rules, step: int) -> bool:
    """Whether a log line is due at `step`; one always is at the last step."""
    return step == rules.total_steps or rules.log.at(step)


def is_evaluated(rules: Rules, step: int) -> bool:
    """Whether an evaluation is due at `step`; one always is at the last step."""
    return step == rules.total_steps or rules.evaluate.at(step)


def is_saved(rules: Rules, step: int) -> bool:
    """Whether a checkpoint is due at `step`."""
    return rules.checkpoint.at(step)


def is_save_overdue(rules: Rules, seconds: float) -> bool:
    """Whether a checkpoint is due `seconds` after the last one."""
    return rules.checkpoint.seconds is not None and seconds >= rules.checkpoint.seconds


def is_better(rules: Rules, value: float, loss: float, best: float | None, *, is_pruned: bool) -> bool:
    """Whether an evaluation is the best so far.

    Args:
      rules: of the training.
      value: the metric that chooses.
      loss: of the same evaluation; outputs that are not finite still have an accuracy.
      best: the metric of the best evaluation so far; None before the first.
      is_pruned: whether the parameters have their final sparsity; without it they never count as the best.
    """
    if not (is_pruned and np.isfinite([value, loss]).all()):
        return False
    return best is None or rules.sign * value > rules.sign * best


def are_pruned(pruning: Pruning | None, opt_state: Any) -> np.ndarray:
    """Whether parameters have their final sparsity: bool (), or one for each of stacked states. Waits for the state.

    Args:
      pruning: of the program; None: nothing is pruned.
      opt_state: of the optimizer.
    """
    return np.asarray(True) if pruning is None else pruning.is_over(opt_state)


def is_out_of_patience(rules: Rules, step: int, best_step: int | None) -> bool:
    """Whether the best evaluation is too long before the last evaluation.

    Args:
      rules: of the training.
      step: steps taken. Between two evaluations the answer does not change.
      best_step: of the best evaluation; None before the first.
    """
    if not rules.patience or best_step is None:
        return False
    return rules.evaluate.last_until(step) - best_step >= rules.patience


def is_over(rules: Rules, step: int, best_step: int | None) -> bool:
    """Whether a training has ended; arguments as those of `is_out_of_patience`."""
    return step >= rules.total_steps or is_out_of_patience(rules, step, best_step)


def has_diverged(skipped: Any, max_skipped: int) -> Any:
    """Whether a training has diverged, by the number of updates skipped in a row, which may be an array."""
    return skipped >= max_skipped


def can_roll_back(rules: Rules, *, has_rolled_back: bool) -> bool:
    """Whether a training that has diverged goes back, and does not end."""
    return rules.rolls_back and not has_rolled_back
