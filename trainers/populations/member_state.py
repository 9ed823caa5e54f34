"""The state of a member: how it begins, where it stands, and what is due next."""

import dataclasses

import jax
import ml_collections
import numpy as np

from data import order
from data.pool import Pool
from plumbline import UserError
from trainers import settings
from trainers.building import make_clock, make_init_arguments
from trainers.populations.lanes import LaneState
from trainers.populations.members import Member, check_possible, check_shared
from trainers.populations.population_file import MemberCheckpoint
from trainers.run import rules
from trainers.settings import override
from trainers.step import objectives

# Positions of examples are computed for at most this many steps at once.
_LONGEST_WINDOW = 1024


class MemberState:
    """A member that trains or waits.

    Attributes:
      member: its description.
      name: of the member.
      predict: whether predictions are wanted at its end.
      dead_units: whether dead units are counted at its end.
      config: of the member.
      rules: of its training.
      total: steps of its training.
      stop: step at which it ends or pauses.
      key: of its outcome in the file of the population.
      arguments: that make its first state, as arrays.
      step: steps taken or dispatched.
      history: metrics of its evaluations, with their step.
      training: its training metrics at these steps.
      best: step and value of its best evaluation; None before the first.
      goal: step at which something is due next.
      fallback: the checkpoint that it goes back to if it diverges; None: it begins again.
      rollback: the step it went back to after diverging, and the number of batches it skips from there; None: it has
        not diverged.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        pool: Pool,
        member: Member,
        until: float,
        *,
        predict: bool,
        dead_units: bool,
    ):
        """The member at its first step.

        Args:
          config: of the population.
          pool: of the rows.
          member: its description.
          until: share of its training after which it pauses.
          predict: whether predictions are wanted at its end.
          dead_units: whether dead units are counted at its end.

        Raises:
          UserError: its overrides do not fit, or it has no training rows.
        """
        check_shared(member.overrides)
        if not len(member.train):
            raise UserError(f"population: '{member.name}' has no rows to train on")
        self.member, self.name = member, member.name
        self.predict, self.dead_units = predict, dead_units
        self.config = config = override(config, {**member.overrides, "seed": member.seed})
        settings.check(config)
        settings.check_task(config, pool.features)
        check_possible(config)
        parts = config.train.accumulation_steps
        if config.train.batch_size % parts:
            raise UserError(
                f"train.batch_size: {config.train.batch_size} is not divisible over {parts} accumulation steps; "
                f"take a multiple of {parts}"
            )
        bins = config.evaluation.calibration_bins
        objective = objectives.build(config.objective.name, pool.features, calibration_bins=bins)
        clock = make_clock(config, len(member.train))
        self.rules = rules.make_rules(config, clock, objective)
        self.total = clock.total_steps
        self.stop = self.total if until >= 1 else max(1, round(until * self.total))
        self.key = f"{member.name}/{member.digest()}/{self.stop}/{predict}" + "/dead units" * dead_units
        fitted = pool.fit(member.train, config.data)
        self.arguments = jax.tree.map(np.asarray, make_init_arguments(config, clock, fitted))
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.training: list[dict[str, float]] = []
        self.best: tuple[int, float] | None = None
        self.fallback: MemberCheckpoint | None = None
        self.rollback: dict[str, int] | None = None
        self._window, self.goal = np.zeros((0, 0), np.int32), 0

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the best evaluation is too long ago."""
        return rules.is_out_of_patience(self.rules, self.step, self.best and self.best[0])

    @property
    def is_fallback_due(self) -> bool:
        """Whether a checkpoint to fall back to is due: by `train.checkpoint_every` in steps, else at evaluations."""
        can_roll_back = rules.can_roll_back(self.rules, has_rolled_back=self.rollback is not None)
        if not can_roll_back or self.step == self.total:
            return False
        is_due = rules.is_saved if self.rules.checkpoint.steps else rules.is_evaluated
        return is_due(self.rules, self.step)

    def open_window(self) -> None:
        """Computes which examples are read until something is due again, at `goal`."""
        due = min(self.stop, rules.next_evaluation(self.rules, self.step))
        if rules.can_roll_back(self.rules, has_rolled_back=self.rollback is not None):
            due = min(due, rules.next_checkpoint(self.rules, self.step))
        count = min(due - self.step, _LONGEST_WINDOW)
        rows, size = self.member.train, self.config.train.batch_size
        first = self.step + (self.rollback["batches"] if self.rollback else 0)
        # There are none if the member has already paused at its stop.
        positions = order.positions(len(rows), size, self.member.seed, first, count) if count else np.zeros(0, int)
        self._window = rows[positions].astype(np.int32).reshape(count, size)
        self.goal = self.step + count

    def positions(self, steps: int) -> np.ndarray:
        """(up to `steps`, B) int32, positions in the pool of the examples that the next steps read."""
        start = len(self._window) - (self.goal - self.step)
        return self._window[start : start + steps]

    def checkpoint(self, state: LaneState) -> MemberCheckpoint:
        """The member at its present step.

        Args:
          state: of its lane, which is copied to the host.
        """
        return MemberCheckpoint.from_state(
            state,
            digest=self.member.digest(),
            step=self.step,
            history=list(self.history),
            training=list(self.training),
            best=self.best,
            rollback=self.rollback,
            fallback=self.fallback,
        )

    def set_fallback(self, state: LaneState) -> None:
        """Makes the present step the one to fall back to; the argument is that of `checkpoint`."""
        self.fallback = dataclasses.replace(self.checkpoint(state), fallback=None)

    def can_resume(self, checkpoint: MemberCheckpoint) -> bool:
        """Whether a checkpoint is of this member and not past its stop."""
        return checkpoint.digest == self.member.digest() and checkpoint.step <= self.stop

    def resume(self, checkpoint: MemberCheckpoint) -> None:
        """Goes on from a checkpoint."""
        self.step, self.best = checkpoint.step, checkpoint.best
        self.history, self.training = list(checkpoint.history), list(checkpoint.training)
        self.rollback, self.fallback = checkpoint.rollback, checkpoint.fallback

    def roll_back(self) -> None:
        """Goes back to the fallback, and skips the batches up to the step at which the member diverged."""
        diverged_at = self.step
        if self.fallback is None:
            self.step, self.history, self.training, self.best = 0, [], [], None
        else:
            self.resume(self.fallback)
        self.rollback, self.fallback = {"step": self.step, "batches": diverged_at - self.step}, None
