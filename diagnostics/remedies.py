"""Tries remedies: trainings with each of them against trainings without, on the same seeds and test rows."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from data.pool import Pool
from diagnostics import ablation, phrases
from diagnostics.ablation import BASELINE
from diagnostics.finding import Finding, Measure, Question, Remedy, Table
from diagnostics.statistics import bonferroni
from plumbline import UserError, pluralize
from trainers.populations.members import Member, Outcome, check_shared
from trainers.settings import FIELDS, override

QUESTION = Question("tried_remedies", "remedies")
"""Which remedies help."""

# Severities of findings that need no remedy.
_NOT_FOUND = ("none", "unknown")
_ROWS = ("data.drop", "data.weights")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A remedy to try.

    Attributes:
      name: its overrides as text; unique.
      findings: names of the findings that propose it.
      remedy: the remedy.
      overrides: of its trainings, without those that change the inputs.
      data: overrides that change the inputs, such as columns that are left out.
      drop: positions that are not trained on.
      weights: (N,) factors on the weights of rows; None for none.
    """

    name: str
    findings: tuple[str, ...]
    remedy: Remedy
    overrides: Mapping[str, Any]
    data: Mapping[str, Any]
    drop: np.ndarray
    weights: np.ndarray | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The trainings of trials that share a pool. The first plan has those of the baseline as well.

    Attributes:
      key: `pool_key` of the trials.
      config: of the population.
      pool: of the population.
      members: of the population.
    """

    key: str
    config: ml_collections.ConfigDict
    pool: Pool
    members: list[Member]


def choose(
    findings: Sequence[Finding], config: ml_collections.ConfigDict, names: Collection[str] = ()
) -> tuple[list[Trial], dict[str, str]]:
    """Chooses the remedies that can be tried.

    Args:
      findings: of an audit.
      config: of the trainings without remedy.
      names: of the findings whose remedies are tried; () for all.

    Returns:
      The trials, each remedy once; and for each remedy that cannot be tried, by the text of its overrides, the reason.
    """
    found: dict[str, Trial] = {}
    refused: dict[str, str] = {}
    for finding in findings:
        if finding.severity in _NOT_FOUND or (names and finding.name not in names):
            continue
        for remedy in finding.remedies:
            if not remedy.overrides:
                continue
            name = ablation.changes(remedy.overrides)
            try:
                trial = _trial(name, finding, remedy, config)
            except UserError as error:
                refused[name] = str(error)
                continue
            if name in found:
                trial = dataclasses.replace(found[name], findings=(*found[name].findings, finding.name))
            found[name] = trial
    return list(found.values()), refused


def clean_rows(pool: Pool, findings: Sequence[Finding]) -> np.ndarray:
    """Returns positions (m,) of the test rows that are not spoiled, such as by a copy in the training rows.

    Raises:
      UserError: none is left.
    """
    spoiled = [finding.spoiled for finding in findings if finding.spoiled is not None]
    rows = np.setdiff1d(pool.splits["test"], np.concatenate([np.zeros(0, np.int64), *spoiled]))
    if not len(rows):
        raise UserError("all test rows have a copy in the training rows, so there is nothing to judge by")
    return rows


def make_plans(
    config: ml_collections.ConfigDict,
    pools: Mapping[str, Pool],
    trials: Sequence[Trial],
    seeds: Sequence[int],
    held_out: np.ndarray,
) -> list[Plan]:
    """Plans a training of the baseline and of each trial for each seed; none if there are no trials.

    Args:
      config: of the trainings without remedy.
      pools: by the `pool_key` of their overrides; `pool_key({})` is the one without any.
      trials: to make.
      seeds: of each.
      held_out: (m,) positions to judge on.
    """
    found = []
    for key, pool in pools.items() if trials else ():
        own = [trial for trial in trials if pool_key(trial.data) == key]
        changed = override(config, own[0].data) if own else config
        members = [] if found else _members(BASELINE, pool, {}, seeds, held_out, pool.splits)
        for trial in own:
            pool, splits = _with_rows(pool, trial)
            members += _members(trial.name, pool, trial.overrides, seeds, held_out, splits)
        found.append(Plan(key=key, config=changed, pool=pool, members=members))
    return found


def pool_key(data: Mapping[str, Any]) -> str:
    """Returns the same key for trials that share their inputs."""
    return json.dumps(sorted(data.items()))


def report(
    trials: Sequence[Trial],
    refused: Mapping[str, str],
    seeds: Sequence[int],
    outcomes: Mapping[str, Outcome],
    metric: str,
    *,
    higher_is_better: bool,
    num_rows: int,
) -> Finding:
    """Reports which remedies help.

    A remedy is kept or rejected by a t-interval of the differences from the baseline, seed by seed. The intervals are
    widened (Bonferroni), so that at most one audit of twenty keeps a useless remedy, however many are tried.

    Args:
      trials: that were made.
      refused: remedies that could not be tried, and the reasons.
      seeds: of each trial.
      outcomes: of all members of the plans.
      metric: to judge by.
      higher_is_better: its direction.
      num_rows: number of rows they were judged on.
    """
    untried = (Table(title="Not tried", header=("remedy", "why"), rows=tuple(refused.items())),) if refused else ()
    if not trials:
        return QUESTION.none("No remedy can be tried.", evidence=untried)
    variants = {BASELINE: {}} | {trial.name: dict(trial.remedy.overrides) for trial in trials}
    confidence = bonferroni(len(trials))
    rows = ablation.rows(variants, seeds, outcomes, metric, higher_is_better=higher_is_better, confidence=confidence)
    kept = [trial for trial, row in zip(trials, rows[1:], strict=True) if row.verdict == "better"]
    worse = sum(row.verdict == "worse" for row in rows[1:])
    proposed_by = {trial.name: ", ".join(trial.findings) for trial in trials}
    table = Table(
        title=f"Remedies on {pluralize(len(seeds), 'seed')}, judged on {pluralize(num_rows, 'test row')}, with "
        f"{100 * confidence:.3g} % intervals of the differences",
        header=("remedy", "proposed by", metric, "difference", "from", "to", "verdict"),
        rows=tuple(_cells(row, proposed_by.get(row.name, "")) for row in rows),
    )
    # Without bounds, as measures have 95 % intervals; the table has the bounds.
    gains = [
        Measure(name=f"{row.changes}: change of {metric}", value=row.difference[0] if row.difference else np.nan)
        for row in rows[1:]
    ]
    better = f", as {metric} is better with {phrases.choose(len(kept), 'it', 'them')}," if kept else ""
    harmful = f", {worse} of which did harm" if worse else ""
    return QUESTION.found(
        "medium" if kept else "none",
        f"{len(trials)} {phrases.choose(len(trials), 'remedy', 'remedies')} tried: {len(kept)} kept{better} and "
        f"{len(trials) - len(kept)} rejected{harmful}.",
        measures=(Measure(name="remedies kept", value=len(kept), kind="count"), *gains),
        evidence=(table, *untried),
        remedies=tuple(Remedy(text=trial.remedy.text, overrides=trial.remedy.overrides) for trial in kept),
    )


def with_verdicts(findings: Sequence[Finding], tried: Finding) -> list[Finding]:
    """Adds the verdicts to the remedies that were tried.

    Args:
      findings: that propose them.
      tried: result of `report`.
    """
    verdicts = {row[0]: row[-1] for evidence in tried.evidence for row in evidence.rows if len(row) > 2}

    def add_verdict(remedy: Remedy) -> Remedy:
        verdict = verdicts.get(ablation.changes(remedy.overrides))
        return dataclasses.replace(remedy, text=f"{remedy.text} Tried: {verdict}.") if verdict else remedy

    return [dataclasses.replace(each, remedies=tuple(map(add_verdict, each.remedies))) for each in findings]


def _trial(name: str, finding: Finding, remedy: Remedy, config: ml_collections.ConfigDict) -> Trial:
    """Raises `UserError` if it cannot be tried."""
    for path in remedy.overrides:
        if path in FIELDS and FIELDS[path].defines_test:
            raise UserError(f"{path} changes the test or the task; compare the two yourself")
        if path == "data.examples_per_class":
            raise UserError("it makes trials of changes faster, not the model better")
    if finding.spoiled is not None and "data.drop" in remedy.overrides:
        raise UserError("it makes the test valid, which no test score can show; apply it")
    data = {path: value for path, value in remedy.overrides.items() if path.startswith("data.") and path not in _ROWS}
    data.pop("data.class_weights", None)
    rest = {path: value for path, value in remedy.overrides.items() if path not in {*data, *_ROWS}}
    override(config, {**data, **rest})
    check_shared(rest)
    return Trial(
        name=name,
        findings=(finding.name,),
        remedy=remedy,
        overrides=rest,
        data=data,
        drop=finding.drop if "data.drop" in remedy.overrides else np.zeros(0, np.int64),
        weights=finding.weights if "data.weights" in remedy.overrides else None,
    )


def _with_rows(pool: Pool, trial: Trial) -> tuple[Pool, Mapping[str, np.ndarray]]:
    """Appends copies of the rows with smaller weights to the pool, and returns it with the splits of the trial."""
    splits = {name: np.setdiff1d(rows, trial.drop) for name, rows in pool.splits.items()}
    if trial.weights is None:
        return pool, splits
    train = splits["train"]
    less = train[trial.weights[train] < 1]
    counting = less[trial.weights[less] > 0]
    pool, copies = pool.with_copies(counting, pool.labels[counting], pool.weights[counting] * trial.weights[counting])
    return pool, {**splits, "train": np.concatenate([np.setdiff1d(train, less), copies])}


def _members(
    variant: str,
    pool: Pool,
    overrides: Mapping[str, Any],
    seeds: Sequence[int],
    held_out: np.ndarray,
    splits: Mapping[str, np.ndarray],
) -> list[Member]:
    return [
        Member(
            name=ablation.member_name(variant, seed),
            overrides=overrides,
            seed=seed,
            train=splits["train"],
            held_out=held_out,
            validation=splits.get("validation", np.zeros(0, np.int64)),
        )
        for seed in seeds
    ]


def _cells(row: ablation.Row, proposed_by: str) -> tuple[str | float, ...]:
    verdicts = {"better": "kept", "worse": "rejected: worse", "unclear": "rejected: not shown to help", "": ""}
    verdict = f"rejected: {len(row.diverged)} diverged" if row.diverged else verdicts.get(row.verdict, "rejected")
    difference = ("", "", "") if row.difference is None else row.difference
    return (row.changes or BASELINE, proposed_by, row.mean[0], *difference, verdict)
