"""Members that share a program, in its lanes and waiting for one: begun, advanced, evaluated, gone."""

import collections
from collections.abc import Mapping

import numpy as np

from trainers.populations.engine import Engine
from trainers.populations.member_state import MemberState
from trainers.populations.members import Outcome
from trainers.populations.population_file import Saved
from trainers.run import rules
from trainers.run.evaluation import overall
from trainers.run.progress import PopulationProgress
from trainers.step.state import num_parameters


class Scheduler:
    """Members in lanes and members waiting."""

    def __init__(
        self, engine: Engine, tasks: list[MemberState], saved: Saved, shown: PopulationProgress, followed: str
    ):
        self._lanes, self._program, self._saved, self._shown = engine.lanes, engine.program, saved, shown
        self._objective = engine.program.objective
        self._followed = self._objective.monitored_metric(followed) if followed else None
        self._waiting = collections.deque(tasks)
        self._seats: list[MemberState | None] = [None] * engine.lanes.count
        self._parameters = num_parameters(engine.lanes.states.params) // engine.lanes.count
        self.outcomes: dict[str, Outcome] = {}

    def is_over(self) -> bool:
        """Whether nobody is left."""
        return not self._waiting and not any(self._seats)

    def fill(self) -> None:
        """Gives free lanes to those who wait, the same number to each device as far as that goes."""
        fresh = {}
        while self._waiting and (lane := self._free_lane()) is not None:
            task = self._waiting.popleft()
            self._seats[lane] = task
            paused = self._saved.paused.pop(task.name, None)
            if paused is not None and paused.digest == task.member.digest() and paused.step <= task.stop:
                self._lanes.put(lane, *paused.restored(self._lanes.form))
                task.step, task.history, task.best = paused.step, paused.history, paused.best
                self._shown.advance(task.step, 0)
            else:
                fresh[lane] = task.arguments
            task.open_window()
        if fresh:
            self._lanes.begin(fresh)

    def dispatch(self) -> tuple[int, int]:
        """Takes steps; returns how many were useful, and how many the time would have sufficed for."""
        lanes_, steps = self._lanes, self._lanes.steps
        size = self._program.config.train.batch_size
        positions = np.zeros((lanes_.count, steps, size), np.int32)
        until, taken = np.zeros(lanes_.count, np.int32), np.zeros(lanes_.count, np.int64)
        for lane, task in self._occupied():
            rows = task.positions(steps)
            positions[lane, : len(rows)] = rows
            until[lane], taken[lane] = task.goal, len(rows)
        lanes_.advance(positions, until)
        for lane, task in self._occupied():
            task.step += int(taken[lane])
        self._shown.advance(int(taken.sum()), 0)
        if lanes_.mode == "vmap":
            return int(taken.sum()), lanes_.count * steps
        of_devices = taken.reshape(self._devices, -1).sum(axis=1)
        return int(taken.sum()), self._devices * int(of_devices.max())

    def has_events(self) -> bool:
        """Whether something is due in some lane."""
        return any(task.step == task.goal for _, task in self._occupied())

    def events(self) -> None:
        """Evaluates, and frees the lanes of members that have ended, paused or diverged."""
        steps, skipped = self._lanes.progress()
        due = {lane: task for lane, task in self._occupied() if task.step == task.goal}
        gone = {lane for lane in due if rules.has_diverged(skipped[lane], due[lane].rules.max_skipped)}
        for lane in gone:
            self._shown.advance(int(steps[lane]) - due[lane].step, 0)
            due[lane].step = int(steps[lane])
            self._finish(lane, "diverged", {}, None)
        due = {lane: task for lane, task in due.items() if lane not in gone}
        judged = self._evaluate({lane: task for lane, task in due.items() if rules.is_evaluated(task.rules, task.step)})
        ended = {lane: task for lane, task in due.items() if task.step == task.stop or task.is_out_of_patience}
        self._end(ended, judged)
        for lane, task in due.items():
            if lane not in ended:
                task.open_window()
        self._shown.show(sum(1 for _ in self._occupied()))

    def park(self) -> None:
        """Notes where the members in lanes stand, as if they paused here."""
        for lane, task in self._occupied():
            self._saved.paused[task.name] = task.paused(self._lanes.take(lane))

    @property
    def _devices(self) -> int:
        return len(self._lanes.states.step.sharding.device_set)

    def _occupied(self) -> list[tuple[int, MemberState]]:
        return [(lane, task) for lane, task in enumerate(self._seats) if task is not None]

    def _free_lane(self) -> int | None:
        """A free lane of the device that has most of them."""
        free = np.array([task is None for task in self._seats]).reshape(self._devices, -1)
        if not free.any():
            return None
        device = int(free.sum(axis=1).argmax())
        return device * free.shape[1] + int(free[device].argmax())

    def _evaluate(self, due: Mapping[int, MemberState]) -> dict[int, dict[str, float]]:
        """Adds to the histories, and follows the best; returns all metrics of each lane."""
        rows = {
            lane: task.member.validation if len(task.member.validation) else task.member.held_out
            for lane, task in due.items()
        }
        rows = {lane: positions for lane, positions in rows.items() if len(positions)}
        metrics = self._metrics(rows, best=False)
        better = np.zeros(self._lanes.count, bool)
        pruned = rules.are_pruned(self._program.pruning, self._lanes.states.opt_state)
        pruned = np.broadcast_to(pruned, better.shape)
        for lane, figures in metrics.items():
            task = due[lane]
            # One that was at this very step before has noted it then.
            if not task.history or task.history[-1]["step"] < task.step:
                task.history.append({"step": float(task.step), **overall(figures)})
            if len(task.member.validation):
                value, best = figures[task.rules.metric], task.best and task.best[1]
                if rules.is_better(task.rules, value, figures["loss"], best, is_pruned=bool(pruned[lane])):
                    better[lane], task.best = True, (task.step, value)
        if better.any():
            self._lanes.keep_best(better)
        return metrics

    def _end(self, ended: Mapping[int, MemberState], judged: Mapping[int, dict[str, float]]) -> None:
        metrics: dict[int, dict[str, float]] = {}
        predictions: dict[int, np.ndarray] = {}
        for best in (False, True):
            rows = {
                lane: task.member.held_out
                for lane, task in ended.items()
                if bool(task.best) == best and len(task.member.held_out)
            }
            # Without validation rows, the last evaluation was of just these.
            known = {lane: judged[lane] for lane in rows if not len(ended[lane].member.validation) and lane in judged}
            metrics |= known | self._metrics({n: r for n, r in rows.items() if n not in known}, best=best)
            asked = {lane: positions for lane, positions in rows.items() if ended[lane].predict}
            if asked:
                predictions |= self._lanes.predict(asked, best=best)
        for lane, task in ended.items():
            paused = task.step < task.total and not task.is_out_of_patience
            if paused:
                self._saved.paused[task.name] = task.paused(self._lanes.take(lane))
            self._finish(lane, "paused" if paused else "done", metrics.get(lane, {}), predictions.get(lane))

    def _metrics(self, rows: dict[int, np.ndarray], *, best: bool) -> dict[int, dict[str, float]]:
        if not rows:
            return {}
        totals = self._lanes.evaluate(rows, best=best)
        return {lane: self._objective.metrics(totals[lane], self._seats[lane].arguments[2]) for lane in rows}

    def _finish(self, lane: int, status: str, metrics: dict[str, float], predictions: np.ndarray | None) -> None:
        task, self._seats[lane] = self._seats[lane], None
        self._shown.advance(task.stop - task.step, 1)
        if status != "paused":
            self._saved.paused.pop(task.name, None)
        outcome = Outcome(
            name=task.name,
            status=status,
            step=task.step,
            total_steps=task.total,
            best_step=task.best[0] if task.best else task.step,
            metrics=metrics,
            history=list(task.history),
            parameters=self._parameters,
            predictions=predictions,
        )
        self.outcomes[task.name] = self._saved.outcomes[task.key] = outcome
        if metrics:
            metric, sign = self._followed or (task.rules.metric, task.rules.sign)
            self._shown.result(metric, metrics[metric], sign)
