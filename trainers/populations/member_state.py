"""A member of a population on its way: what it needs to begin, where it stands, and what is due next."""

import jax
import ml_collections
import numpy as np

from data import order
from data.pool import Pool
from plumbline import UserError
from trainers import settings
from trainers.building import make_clock, make_init_arguments
from trainers.populations.members import Member, check_possible, check_shared
from trainers.populations.population_file import MemberCheckpoint
from trainers.run import rules
from trainers.settings import override
from trainers.step import objectives

# Positions of examples are made for so many steps at once.
_LONGEST_WINDOW = 1024


class MemberState:
    """A member on its way: what it needs to begin, where it stands, and what is due next."""

    def __init__(self, config: ml_collections.ConfigDict, pool: Pool, member: Member, until: float, predict: bool):
        check_shared(member.overrides)
        if not len(member.train):
            raise UserError(f"population: '{member.name}' has no rows to train on")
        self.member, self.name, self.predict = member, member.name, predict
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
        self.key = f"{member.name}/{member.digest()}/{self.stop}/{predict}"
        fitted = pool.fit(member.train, config.data)
        self.arguments = jax.tree.map(np.asarray, make_init_arguments(config, clock, fitted))
        self.step, self.history = 0, []
        self.best: tuple[int, float] | None = None
        self._window, self.goal = np.zeros((0, 0), np.int32), 0

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the best evaluation is too long ago."""
        return rules.is_out_of_patience(self.rules, self.step, self.best and self.best[0])

    def open_window(self) -> None:
        """Makes the positions of the examples that are read until something is due again, at `goal`."""
        due = min(self.stop, rules.next_evaluation(self.rules, self.step))
        count = min(due - self.step, _LONGEST_WINDOW)
        rows, size = self.member.train, self.config.train.batch_size
        # None where it paused already at the very step it is to go on to.
        positions = order.positions(len(rows), size, self.member.seed, self.step, count) if count else np.zeros(0, int)
        self._window = rows[positions].astype(np.int32).reshape(count, size)
        self.goal = self.step + count

    def paused(self, state: tuple) -> MemberCheckpoint:
        """The member as it stands, in this state."""
        where = {"digest": self.member.digest(), "step": self.step, "history": list(self.history), "best": self.best}
        return MemberCheckpoint.of(state, **where)

    def positions(self, steps: int) -> np.ndarray:
        """(up to `steps`, B) int32, positions in the pool of the examples that the next steps read."""
        start = len(self._window) - (self.goal - self.step)
        return self._window[start : start + steps]
