"""The search: takes batches of trials from a study, trains each as one population, and stores the results."""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import ml_collections
import numpy as np

from data.pool import Pool
from plumbline import UserError, pluralize
from trainers.building import make_clock
from trainers.populations.members import Member, Outcome, program_key
from trainers.populations.population import Population
from trainers.run.evaluation import overall
from trainers.settings import override
from tuning import pruning
from tuning.latency import measure_latency
from tuning.metrics import Metric
from tuning.splits import EvaluationSplit
from tuning.study import Study
from tuning.trials import Trial

# Trainings of a batch if no other worker waits for trials and the sampler does not learn from results.
_TRAININGS_AT_ONCE = 512
# A pruner compares at least this many trials, if the search has them.
_COMPARED = 27
_POLL_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How to search.

    Attributes:
      sampler: one of `samplers.SAMPLERS`.
      pruner: one of `pruning.PRUNERS`.
      metrics: the objectives.
      trials: total number of trials.
      seeds: of each trial.
      shared: whether other workers may take part.
      budget: seconds after which no batch is started; None for no limit.
    """

    sampler: str
    pruner: str
    metrics: tuple[Metric, ...]
    trials: int
    seeds: int
    shared: bool
    budget: float | None


class Search:
    """Runs the trials of a study."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        pool: Pool,
        study: Study,
        population: Population,
        splits: Sequence[EvaluationSplit],
        plan: SearchPlan,
    ):
        """Trains nothing yet.

        Args:
          config: common to all trials.
          pool: of rows.
          study: with a filled queue.
          population: of the same config and pool.
          splits: that each trial is judged by.
          plan: how to search.
        """
        self._config, self._pool, self._study, self._population = config, pool, study, population
        self._splits, self._plan = splits, plan
        self._clock = make_clock(config, min(len(each.train) for each in splits))
        self._per_trial = len(splits) * plan.seeds
        self._latencies: dict[str, float] = {}

    def batch_size(self) -> int:
        """Returns the number of trials of a batch.

        A batch fills the lanes of the population. It is larger if no batch depends on the results of the one before.
        """
        plan = self._plan
        size = max(1, self._population.lanes // self._per_trial)
        if plan.sampler in ("grid", "random") and not plan.shared:
            size = plan.trials if plan.pruner != "none" else max(size, _TRAININGS_AT_ONCE // self._per_trial)
        if plan.pruner != "none":
            size = max(size, _COMPARED)
        return min(size, plan.trials)

    def run(self) -> None:
        """Runs until no trial is left, here or with other workers, or the budget is spent.

        A trial whose values are not a valid config together fails.

        Raises:
          Preempted: a signal arrived.
        """
        start, is_waiting = time.monotonic(), False
        while not self._is_spent(start):
            if batch := self._study.take(self.batch_size()):
                self._run_batch(batch)
                self._print_progress()
            elif not (left := [r for r in self._study.records() if r.status in ("running", "waiting")]):
                return
            else:
                # If the workers of these trials die, `take` returns them here.
                if not is_waiting:
                    _print(f"waiting for {pluralize(len(left), 'trial')} of other workers")
                is_waiting = True
                time.sleep(_POLL_SECONDS)

    def _is_spent(self, start: float) -> bool:
        budget = self._plan.budget
        if budget is None or time.monotonic() - start < budget:
            return False
        _print(f"--budget: spent after {time.monotonic() - start:.0f} s; the same command continues the search")
        return True

    def _run_batch(self, batch: Sequence[Trial]) -> None:
        every = self._clock.every(self._config.train.evaluate_every, "train.evaluate_every").steps
        steps = self._clock.total_steps
        several = len(batch) > 1
        numbers = f"trials {batch[0].number} to {batch[-1].number}" if several else f"trial {batch[0].number}"
        _print(f"{numbers}: {pluralize(len(batch) * self._per_trial, 'training')}")
        rest = list(batch)
        for bracket in pruning.make_brackets(self._plan.pruner, len(batch), steps, every or steps):
            self._run_bracket(rest[: bracket.trials], bracket.rungs)
            rest = rest[bracket.trials :]
        self._population.drop(name for trial in batch for name in self._members(trial))

    def _run_bracket(self, trials: Sequence[Trial], rungs: Sequence[pruning.Rung]) -> None:
        running = {trial.number: trial for trial in trials if trial.finished or self._check_trial(trial)}
        ended: dict[str, Outcome] = {}
        gone = {"pruned": 0, "failed": self._per_trial * (len(trials) - len(running))}
        for rung, following in zip(rungs, (*rungs[1:], None), strict=True):
            # Trials that an earlier start has finished are not trained again; the study has their values.
            to_train = {n: trial for n, trial in running.items() if not trial.finished}
            members = {n: list(self._members(trial).values()) for n, trial in to_train.items()}
            until = 1.0 if following is None else rung.resources / self._clock.total_steps
            going = [member for each in members.values() for member in each if member.name not in ended]
            outcomes = ended | (self._population.train(going, until=until, gone=gone) if going else {})
            # A training that was stopped by its own patience is done.
            ended |= {name: outcome for name, outcome in outcomes.items() if outcome.status == "done"}
            results = {n: [outcomes[member.name] for member in each] for n, each in members.items()}
            for number in [n for n, each in results.items() if self._has_failed(each)]:
                self._tell_failure(to_train[number], members[number], results.pop(number))
                gone["failed"] += self._per_trial
                del running[number]
            if following is None:
                for number, each in results.items():
                    values = self._values(to_train[number], each)
                    self._study.tell(number, values, attributes=self._attributes(each))
                return
            before, running = running, self._prune(running, results, rung, following)
            gone["pruned"] += self._per_trial * (len(before) - len(running))

    def _prune(
        self,
        running: Mapping[int, Trial],
        results: Mapping[int, Sequence[Outcome]],
        rung: pruning.Rung,
        following: pruning.Rung,
    ) -> dict[int, Trial]:
        """Reports the values at a rung, ends the trials that are pruned there, and returns the others."""
        higher = self._plan.metrics[0].higher_is_better
        means = {n: trial.steps[rung.resources] for n, trial in running.items() if rung.resources in trial.steps}
        for number, each in results.items():
            means[number] = self._values(running[number], each)[0]
            self._study.report(number, rung.resources, means[number])
        if following.candidates is None:
            before = (r for r in self._study.records() if r.number not in means)
            others = [r.steps[rung.resources] for r in before if rung.resources in r.steps]
            selected = pruning.select_not_below_median(means, others, higher_is_better=higher) if means else set()
        else:
            selected = pruning.select_best(means, following.candidates, higher_is_better=higher)
        for number in [n for n in results if n not in selected]:
            self._study.tell(number, None, attributes=self._attributes(results[number]), pruned=True)
            self._population.drop(self._members(running[number]))
        return {n: trial for n, trial in running.items() if n in selected}

    def _members(self, trial: Trial) -> dict[str, Member]:
        """Returns the trainings of a trial by name: the folds of its first seed, then of the next."""
        members = [
            Member(
                name=f"trial{trial.number}-seed{seed}-fold{fold}",
                overrides=trial.overrides,
                seed=self._config.seed + seed,
                train=rows.train,
                held_out=rows.held_out,
                validation=rows.validation,
            )
            for seed in range(self._plan.seeds)
            for fold, rows in enumerate(self._splits)
        ]
        return {member.name: member for member in members}

    def _check_trial(self, trial: Trial) -> bool:
        """Ends a trial as failed if its values are not a valid config together; returns whether they are."""
        try:
            self._population.check(next(iter(self._members(trial).values())))
        except UserError as error:
            self._study.tell(trial.number, None, attributes={"unfit": True}, failure=str(error))
            return False
        return True

    def _has_failed(self, outcomes: Sequence[Outcome]) -> bool:
        return any(outcome.status == "diverged" or not self._is_finite(outcome) for outcome in outcomes)

    def _is_finite(self, outcome: Outcome) -> bool:
        return all(np.isfinite(outcome.metrics[m.name]) for m in self._plan.metrics if m.measured)

    def _tell_failure(self, trial: Trial, members: Sequence[Member], outcomes: Sequence[Outcome]) -> None:
        count = sum(1 for outcome in outcomes if self._has_failed([outcome]))
        reason = f"{count} of {pluralize(len(outcomes), 'training')} diverged"
        self._study.tell(trial.number, None, attributes={"parameters": outcomes[0].parameters}, failure=reason)
        self._population.drop(member.name for member in members)

    def _values(self, trial: Trial, outcomes: Sequence[Outcome]) -> list[float]:
        unmeasured: dict[str, Callable[[], float]] = {
            "parameters": lambda: float(outcomes[0].parameters),
            "latency": lambda: self._latency(trial),
        }
        return [
            float(np.mean([outcome.metrics[metric.name] for outcome in outcomes]))
            if metric.measured
            else unmeasured[metric.name]()
            for metric in self._plan.metrics
        ]

    def _attributes(self, outcomes: Sequence[Outcome]) -> dict[str, object]:
        names = [name for name, value in overall(outcomes[0].metrics).items() if np.isfinite(value)]
        scores = {name: [float(outcome.metrics[name]) for outcome in outcomes] for name in names}
        return {"scores": scores, "parameters": outcomes[0].parameters, "step": max(o.step for o in outcomes)}

    def _latency(self, trial: Trial) -> float:
        config = override(self._config, trial.overrides)
        key = program_key(config)
        if key not in self._latencies:
            self._latencies[key] = measure_latency(config, self._pool)
        return self._latencies[key]

    def _print_progress(self) -> None:
        records = self._study.records()
        counts = {status: sum(r.status == status for r in records) for status in ("done", "pruned", "failed")}
        metric = self._plan.metrics[0]
        done = [record for record in records if record.status == "done"]
        text = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        if done:
            pick = max if metric.higher_is_better else min
            best = pick(done, key=lambda record: record.values[0])
            text += f"; best {metric.label} {best.values[0]:.4g} (trial {best.number})"
        _print(f"{text}, of {len(records)}")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
