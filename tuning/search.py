"""The search itself: takes batches from the study, trains them as one population, and tells what they came to."""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics.cross_validation import Splits, make_members
from plumbline import UserError, counted
from trainers.building import make_clock
from trainers.populations.members import Member, Outcome, program_key
from trainers.populations.population import Population
from trainers.run.evaluation import overall
from trainers.settings import override
from tuning import latency, pruning
from tuning.results import Metric
from tuning.study import Asked, Study

# Trainings that are taken at once where nothing is learnt between them, and nobody else wants some.
_AT_ONCE = 512
# A pruner compares at least so many trials, if there are as many.
_COMPARED = 27
_SECONDS_BETWEEN_LOOKS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """Rows of a pool, each (n,) int64: to train on, to be judged on, and to choose the best step by."""

    train: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked for.

    Attributes:
      sampler: one of `samplers.SAMPLERS`.
      pruner: one of `pruning.PRUNERS`.
      metrics: the objectives.
      trials: in all.
      seeds: of each trial.
      shared: whether other workers may take part.
      budget: seconds after which no batch is begun; None: no limit.
    """

    sampler: str
    pruner: str
    metrics: tuple[Metric, ...]
    trials: int
    seeds: int
    shared: bool
    budget: float | None


def judgements(pool: Pool, config: ml_collections.ConfigDict, *, folds: int, grouped: bool) -> list[Judgement]:
    """How each trial is judged. The test split takes no part.

    Args:
      pool: all rows.
      config: of the search; its seed deals the folds, which are those of `plumbline crossvalidate`.
      folds: of the training and validation rows together; 0: train on the one split, be judged on the other.
      grouped: whole groups are held out.

    Raises:
      UserError: folds that cannot be, or neither folds nor a validation split.
    """
    if not folds:
        if "validation" not in pool.splits:
            raise UserError(
                "--folds: missing; the config has no validation split to judge trials on: give --folds, or set "
                "data.validation"
            )
        validation = pool.splits["validation"]
        return [Judgement(train=pool.splits["train"], held_out=validation, validation=validation)]
    kind = "group" if grouped else "stratified" if pool.features.task == "classification" else "shuffled"
    members = make_members(pool, config, Splits(kind=kind, count=folds, seeds=(config.seed,)))
    return [Judgement(train=each.train, held_out=each.held_out, validation=each.validation) for each in members]


class Search:
    """Runs the trials of a study."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        pool: Pool,
        study: Study,
        population: Population,
        judged_by: Sequence[Judgement],
        plan: Plan,
    ):
        """Trains nothing yet.

        Args:
          config: what all trials have in common.
          pool: of the rows.
          study: whose queue is filled.
          population: trains; of the same config and pool.
          judged_by: see `judgements`.
          plan: what is asked for.
        """
        self._config, self._pool, self._study, self._population = config, pool, study, population
        self._judged_by, self._plan = judged_by, plan
        self._clock = make_clock(config, min(len(each.train) for each in judged_by))
        self._per_trial = len(judged_by) * plan.seeds
        self._latencies: dict[str, float] = {}

    def batch_size(self) -> int:
        """Trials of a batch: as many as fill the lanes; more, where nothing is learnt from one batch for the next."""
        plan = self._plan
        size = max(1, self._population.lanes // self._per_trial)
        if plan.sampler in ("grid", "random") and not plan.shared:
            size = plan.trials if plan.pruner != "none" else max(size, _AT_ONCE // self._per_trial)
        if plan.pruner != "none":
            size = max(size, _COMPARED)
        return min(size, plan.trials)

    def run(self) -> None:
        """Runs until no trial is left, here or with other workers, or the budget is spent.

        A trial whose values do not fit together is told as failed.

        Raises:
          Preempted: a signal came.
        """
        began, waited = time.monotonic(), False
        while not self._spent(began):
            if batch := self._study.take(self.batch_size()):
                self._run_batch(batch)
                self._note()
            elif not (left := [r for r in self._study.records() if r.status in ("running", "waiting")]):
                return
            else:
                # Should their workers die, their trials are taken here.
                if not waited:
                    _say(f"waiting for {counted(len(left), 'trial')} of other workers")
                waited = True
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _spent(self, began: float) -> bool:
        budget = self._plan.budget
        if budget is None or time.monotonic() - began < budget:
            return False
        _say(f"--budget: spent after {time.monotonic() - began:.0f} s; the same command goes on with what is left")
        return True

    def _run_batch(self, batch: Sequence[Asked]) -> None:
        every = self._clock.every(self._config.train.evaluate_every, "train.evaluate_every").steps
        steps = self._clock.total_steps
        several = len(batch) > 1
        numbers = f"trials {batch[0].number} to {batch[-1].number}" if several else f"trial {batch[0].number}"
        _say(f"{numbers}: {counted(len(batch) * self._per_trial, 'training')}")
        rest = list(batch)
        for bracket in pruning.brackets(self._plan.pruner, len(batch), steps, every or steps):
            self._run_bracket(rest[: bracket.trials], bracket.rungs)
            rest = rest[bracket.trials :]
        self._population.drop(name for asked in batch for name in self._members(asked))

    def _run_bracket(self, trials: Sequence[Asked], rungs: Sequence[pruning.Rung]) -> None:
        live = {asked.number: asked for asked in trials if asked.told or self._fits(asked)}
        ended: dict[str, Outcome] = {}
        gone = {"pruned": 0, "failed": self._per_trial * (len(trials) - len(live))}
        for rung, following in zip(rungs, (*rungs[1:], None), strict=True):
            # What a restarted worker has told already is not trained again; its figures are in the study.
            fresh = {n: asked for n, asked in live.items() if not asked.told}
            members = {n: list(self._members(asked).values()) for n, asked in fresh.items()}
            until = 1.0 if following is None else rung.resources / self._clock.total_steps
            going = [member for each in members.values() for member in each if member.name not in ended]
            outcomes = ended | (self._population.train(going, until=until, gone=gone) if going else {})
            # One that stopped early by its own patience is done.
            ended |= {name: outcome for name, outcome in outcomes.items() if outcome.status == "done"}
            results = {n: [outcomes[member.name] for member in each] for n, each in members.items()}
            for number in [n for n, each in results.items() if self._has_failed(each)]:
                self._tell_failure(fresh[number], members[number], results.pop(number))
                gone["failed"] += self._per_trial
                del live[number]
            if following is None:
                for number, each in results.items():
                    self._study.tell(number, self._values(fresh[number], each), attributes=self._attributes(each))
                return
            before, live = live, self._kept(live, results, rung, following)
            gone["pruned"] += self._per_trial * (len(before) - len(live))

    def _kept(
        self,
        live: Mapping[int, Asked],
        results: Mapping[int, Sequence[Outcome]],
        rung: pruning.Rung,
        following: pruning.Rung,
    ) -> dict[int, Asked]:
        """Reports how the live trials stand at a rung, ends those that fall behind, and returns the others."""
        higher = self._plan.metrics[0].higher_is_better
        means = {n: asked.steps[rung.resources] for n, asked in live.items() if rung.resources in asked.steps}
        for number, each in results.items():
            means[number] = self._values(live[number], each)[0]
            self._study.report(number, rung.resources, means[number])
        if following.candidates is None:
            before = (r for r in self._study.records() if r.number not in means)
            others = [r.steps[rung.resources] for r in before if rung.resources in r.steps]
            kept = pruning.not_below_median(means, others, higher_is_better=higher) if means else set()
        else:
            kept = pruning.best(means, following.candidates, higher_is_better=higher)
        for number in [n for n in results if n not in kept]:
            self._study.tell(number, None, attributes=self._attributes(results[number]), pruned=True)
            self._population.drop(self._members(live[number]))
        return {n: asked for n, asked in live.items() if n in kept}

    def _members(self, asked: Asked) -> dict[str, Member]:
        """A trial's trainings by name: the folds of its first seed, then those of the next."""
        members = [
            Member(
                name=f"trial{asked.number}-seed{seed}-fold{fold}",
                overrides=asked.overrides,
                seed=self._config.seed + seed,
                train=rows.train,
                held_out=rows.held_out,
                validation=rows.validation,
            )
            for seed in range(self._plan.seeds)
            for fold, rows in enumerate(self._judged_by)
        ]
        return {member.name: member for member in members}

    def _fits(self, asked: Asked) -> bool:
        """Whether a trial can be trained; tells it as failed if its values, each of them right, do not fit together."""
        try:
            self._population.check(next(iter(self._members(asked).values())))
        except UserError as error:
            self._study.tell(asked.number, None, attributes={"unfit": True}, failure=str(error))
            return False
        return True

    def _has_failed(self, outcomes: Sequence[Outcome]) -> bool:
        return any(outcome.status == "diverged" or not self._finite(outcome) for outcome in outcomes)

    def _finite(self, outcome: Outcome) -> bool:
        return all(np.isfinite(outcome.metrics[m.name]) for m in self._plan.metrics if m.measured)

    def _tell_failure(self, asked: Asked, members: Sequence[Member], outcomes: Sequence[Outcome]) -> None:
        count = sum(1 for outcome in outcomes if self._has_failed([outcome]))
        reason = f"{count} of {counted(len(outcomes), 'training')} diverged"
        self._study.tell(asked.number, None, attributes={"parameters": outcomes[0].parameters}, failure=reason)
        self._population.drop(member.name for member in members)

    def _values(self, asked: Asked, outcomes: Sequence[Outcome]) -> list[float]:
        known: dict[str, Callable[[], float]] = {
            "parameters": lambda: float(outcomes[0].parameters),
            "latency": lambda: self._latency(asked),
        }
        return [
            float(np.mean([outcome.metrics[metric.name] for outcome in outcomes]))
            if metric.measured
            else known[metric.name]()
            for metric in self._plan.metrics
        ]

    def _attributes(self, outcomes: Sequence[Outcome]) -> dict[str, object]:
        names = [name for name, value in overall(outcomes[0].metrics).items() if np.isfinite(value)]
        scores = {name: [float(outcome.metrics[name]) for outcome in outcomes] for name in names}
        return {"scores": scores, "parameters": outcomes[0].parameters, "step": max(o.step for o in outcomes)}

    def _latency(self, asked: Asked) -> float:
        config = override(self._config, asked.overrides)
        key = program_key(config)
        if key not in self._latencies:
            self._latencies[key] = latency.milliseconds(config, self._pool)
        return self._latencies[key]

    def _note(self) -> None:
        records = self._study.records()
        counts = {status: sum(r.status == status for r in records) for status in ("done", "pruned", "failed")}
        metric = self._plan.metrics[0]
        done = [record for record in records if record.status == "done"]
        text = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        if done:
            pick = max if metric.higher_is_better else min
            best = pick(done, key=lambda record: record.values[0])
            text += f"; best {metric.label} {best.values[0]:.4g} (trial {best.number})"
        _say(f"{text}, of {len(records)}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
