"""The scheduler of a program's members: gives them lanes, advances them, evaluates them, and ends them."""

import collections
from collections.abc import Mapping

import numpy as np

from trainers.populations.engine import Engine
from trainers.populations.member_state import MemberState
from trainers.populations.members import Outcome
from trainers.populations.population_file import PopulationCheckpoint
from trainers.run import rules
from trainers.run.evaluation import overall
from trainers.run.progress import PopulationProgress
from trainers.step.train_step import mean_metrics

# Training rows by which dead units are counted.
_EXAMPLES = 2_000


class Scheduler:
    """Members in lanes and members that wait for one.

    Attributes:
      outcomes: of the members that have ended, by name.
    """

    def __init__(
        self,
        engine: Engine,
        members: list[MemberState],
        saved: PopulationCheckpoint,
        progress: PopulationProgress,
        shown_metric: str,
    ):
        """No lane is occupied yet.

        Args:
          engine: the lanes.
          members: that wait.
          saved: paused members are taken from here and put here.
          progress: shows how far the members are.
          shown_metric: of which the progress shows the best value; "": the metric that chooses a member's best step.
        """
        self._lanes, self._program, self._saved, self._progress = engine.lanes, engine.program, saved, progress
        self._objective = engine.program.objective
        self._shown_metric = self._objective.monitored_metric(shown_metric) if shown_metric else None
        self._waiting = collections.deque(members)
        self._occupants: list[MemberState | None] = [None] * engine.lanes.count
        self.outcomes: dict[str, Outcome] = {}

    def is_over(self) -> bool:
        """Whether all members have ended."""
        return not self._waiting and not any(self._occupants)

    def fill(self) -> None:
        """Gives free lanes to waiting members, spread evenly over the devices."""
        new = {}
        while self._waiting and (lane := self._free_lane()) is not None:
            member = self._waiting.popleft()
            self._occupants[lane] = member
            checkpoint = self._saved.paused.pop(member.name, None)
            if checkpoint is not None and member.can_resume(checkpoint):
                self._lanes.put(lane, checkpoint.to_state(self._lanes.form))
                member.resume(checkpoint)
                self._progress.advance(member.step, 0)
            else:
                new[lane] = member.arguments
            member.open_window()
        if new:
            self._lanes.begin(new)

    def dispatch(self) -> tuple[int, int]:
        """Dispatches steps; returns how many are useful, and how many there was time for."""
        lanes, steps = self._lanes, self._lanes.steps
        size = self._program.config.train.batch_size
        positions = np.zeros((lanes.count, steps, size), np.int32)
        until, taken = np.zeros(lanes.count, np.int32), np.zeros(lanes.count, np.int64)
        for lane, member in self._occupied():
            rows = member.positions(steps)
            positions[lane, : len(rows)] = rows
            until[lane], taken[lane] = member.goal, len(rows)
        lanes.advance(positions, until)
        for lane, member in self._occupied():
            member.step += int(taken[lane])
        self._progress.advance(int(taken.sum()), 0)
        if lanes.mode == "vmap":
            return int(taken.sum()), lanes.count * steps
        by_device = taken.reshape(self._devices, -1).sum(axis=1)
        return int(taken.sum()), self._devices * int(by_device.max())

    def has_events(self) -> bool:
        """Whether something is due in some lane."""
        return any(member.step == member.goal for _, member in self._occupied())

    def handle_events(self) -> None:
        """Evaluates members where it is due, ends or pauses those that are to, and rolls back or ends the diverged."""
        steps, skipped = self._lanes.progress()
        due = {lane: member for lane, member in self._occupied() if member.step == member.goal}
        diverged = {lane for lane, m in due.items() if rules.has_diverged(skipped[lane], m.rules.max_skipped)}
        for lane in diverged:
            self._handle_divergence(lane, int(steps[lane]))
        due = {lane: member for lane, member in due.items() if lane not in diverged}
        evaluated = {lane: m for lane, m in due.items() if rules.is_evaluated(m.rules, m.step)}
        self._log(evaluated)
        metrics = self._evaluate(evaluated)
        for lane, member in due.items():
            if member.is_fallback_due and not skipped[lane]:
                member.set_fallback(self._lanes.take(lane))
        ended = {lane: m for lane, m in due.items() if m.step == m.stop or m.is_out_of_patience}
        self._end(ended, metrics)
        for lane, member in due.items():
            if lane not in ended:
                member.open_window()
        self._progress.show(sum(1 for _ in self._occupied()))

    def save_members(self) -> None:
        """Puts checkpoints of the members in lanes beside those of the paused members."""
        for lane, member in self._occupied():
            self._saved.paused[member.name] = member.checkpoint(self._lanes.take(lane))

    @property
    def _devices(self) -> int:
        return len(self._lanes.states.step.sharding.device_set)

    def _occupied(self) -> list[tuple[int, MemberState]]:
        return [(lane, member) for lane, member in enumerate(self._occupants) if member is not None]

    def _free_lane(self) -> int | None:
        """A free lane of the device with the most free lanes."""
        free = np.array([member is None for member in self._occupants]).reshape(self._devices, -1)
        if not free.any():
            return None
        device = int(free.sum(axis=1).argmax())
        return device * free.shape[1] + int(free[device].argmax())

    def _handle_divergence(self, lane: int, step: int) -> None:
        """Rolls a member back to its fallback, or ends it; its lane has stopped after `step` steps."""
        member = self._occupants[lane]
        self._progress.advance(step - member.step, 0)
        member.step = step
        if not rules.can_roll_back(member.rules, has_rolled_back=member.rollback is not None):
            self._finish(lane, "diverged", {})
            return
        if member.fallback is None:
            self._lanes.begin({lane: member.arguments})
        else:
            self._lanes.put(lane, member.fallback.to_state(self._lanes.form))
        member.roll_back()
        self._progress.advance(member.step - step, 0)
        member.open_window()

    def _log(self, due: Mapping[int, MemberState]) -> None:
        """Adds the training metrics since the last evaluation to the histories."""
        # A member that paused at this very step has its line already, and took no step since.
        for lane, sums in self._lanes.take_running(due).items() if due else ():
            if sums["skipped"][1] > 0:
                due[lane].training.append({"step": float(due[lane].step), **mean_metrics(sums)})

    def _evaluate(self, due: Mapping[int, MemberState]) -> dict[int, dict[str, float]]:
        """Adds to the histories and keeps the best states; returns the metrics by lane."""
        rows = {lane: m.member.validation if len(m.member.validation) else m.member.held_out for lane, m in due.items()}
        rows = {lane: positions for lane, positions in rows.items() if len(positions)}
        metrics = self._metrics(rows, best=False)
        better = np.zeros(self._lanes.count, bool)
        pruned = rules.are_pruned(self._program.pruning, self._lanes.states.opt_state)
        pruned = np.broadcast_to(pruned, better.shape)
        for lane, figures in metrics.items():
            member = due[lane]
            # A member that paused at this very step has its line already.
            if not member.history or member.history[-1]["step"] < member.step:
                member.history.append({"step": float(member.step), **overall(figures)})
            if len(member.member.validation):
                value, best = figures[member.rules.metric], member.best and member.best[1]
                if rules.is_better(member.rules, value, figures["loss"], best, is_pruned=bool(pruned[lane])):
                    better[lane], member.best = True, (member.step, value)
        if better.any():
            self._lanes.keep_best(better)
        return metrics

    def _end(self, ended: Mapping[int, MemberState], evaluated: Mapping[int, dict[str, float]]) -> None:
        """Evaluates members at their end and frees their lanes; `evaluated` are the metrics of this step, by lane."""
        metrics: dict[int, dict[str, float]] = {}
        predictions: dict[int, np.ndarray] = {}
        for best in (False, True):
            rows = {
                lane: member.member.held_out
                for lane, member in ended.items()
                if bool(member.best) == best and len(member.member.held_out)
            }
            # Without validation rows, the last evaluation was on just these rows.
            known = {
                lane: evaluated[lane] for lane in rows if not len(ended[lane].member.validation) and lane in evaluated
            }
            metrics |= known | self._metrics({n: r for n, r in rows.items() if n not in known}, best=best)
            asked = {lane: positions for lane, positions in rows.items() if ended[lane].predict}
            if asked:
                predictions |= self._lanes.predict(asked, best=best)
        asked = {lane: m.member.train[:_EXAMPLES] for lane, m in ended.items() if m.dead_units}
        dead = self._lanes.count_dead_units(asked) if asked else {}
        for lane, member in ended.items():
            is_paused = member.step < member.total and not member.is_out_of_patience
            if is_paused:
                self._saved.paused[member.name] = member.checkpoint(self._lanes.take(lane))
            status = "paused" if is_paused else "done"
            self._finish(lane, status, metrics.get(lane, {}), predictions.get(lane), dead.get(lane))

    def _metrics(self, rows: dict[int, np.ndarray], *, best: bool) -> dict[int, dict[str, float]]:
        if not rows:
            return {}
        totals = self._lanes.evaluate(rows, best=best)
        return {lane: self._objective.metrics(totals[lane], self._occupants[lane].arguments[2]) for lane in rows}

    def _finish(
        self,
        lane: int,
        status: str,
        metrics: dict[str, float],
        predictions: np.ndarray | None = None,
        dead_units: dict[str, float] | None = None,
    ) -> None:
        member, self._occupants[lane] = self._occupants[lane], None
        self._progress.advance(member.stop - member.step, 1)
        if status != "paused":
            self._saved.paused.pop(member.name, None)
        outcome = Outcome(
            name=member.name,
            status=status,
            step=member.step,
            total_steps=member.total,
            best_step=member.best[0] if member.best else member.step,
            metrics=metrics,
            history=list(member.history),
            parameters=self._lanes.num_parameters,
            predictions=predictions,
            training=list(member.training),
            dead_units=dead_units,
            rollback=member.rollback,
        )
        self.outcomes[member.name] = self._saved.outcomes[member.key] = outcome
        if metrics:
            metric, sign = self._shown_metric or (member.rules.metric, member.rules.sign)
            self._progress.result(metric, metrics[metric], sign)
