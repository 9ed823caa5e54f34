"""Tries the remedies that an audit proposes."""

import hashlib
import pathlib
import shutil
from collections.abc import Collection, Sequence

import ml_collections
import numpy as np

from data.pool import Pool, load_pool
from diagnostics import cross_validation, remedies, remedy_plans, remedy_report
from diagnostics.ablation import BASELINE, JudgedRows
from diagnostics.finding import Finding
from diagnostics.remedies import Trial
from diagnostics.remedy_plans import Plan
from plumbline import UserError, pluralize
from trainers.populations.members import Outcome
from trainers.populations.population import Population
from trainers.settings import override
from trainers.step import objectives

_FOLDER = "trials"


def apply(
    config: ml_collections.ConfigDict,
    findings: Sequence[Finding],
    names: Collection[str],
    *,
    count: int,
    directory: pathlib.Path,
) -> Finding:
    """Tries remedies and reports which of them help.

    Folds of the training and validation rows choose; the remedies that they choose are trained on the whole training
    split as well, and judged on test rows.

    Args:
      config: of the trainings without remedy.
      findings: of the audit.
      names: of the findings whose remedies are tried; () for all.
      count: repetitions of the folds, and trainings with each remedy that they choose.
      directory: of the audit, in which interrupted trainings are kept.

    Raises:
      UserError: there is nothing to judge by, or the set cannot be trained on.
      Preempted: a signal to stop has come.
    """
    trials, refused = remedies.choose(findings, config, names)
    pools, trials = _load_pools(config, trials, refused)
    pool = pools[remedies.pool_key({})]
    pool.require_independent("--apply")
    held_out = remedies.clean_rows(pool, findings)
    objective = objectives.build(
        config.objective.name, pool.features, calibration_bins=config.evaluation.calibration_bins
    )
    metric, better = objective.best_metric, objective.higher_is_better(objective.best_metric)
    judged = JudgedRows.of(pool, held_out, metric)
    if judged is None:
        raise UserError(f"--apply: judges by accuracy or squared errors, not by {metric}")
    seeds = range(config.seed, config.seed + count)
    splits = remedy_plans.folds(pool, seeds)
    plans = remedy_plans.plan_folds(config, pools, trials, splits)
    outcomes = _train(plans, directory)
    names = [BASELINE, *(trial.name for trial in trials)] if trials else []
    scores = {name: remedy_plans.gather(pool, splits, plans, outcomes, name) for name in names}
    everything = JudgedRows.of(pool, np.arange(len(pool.rows)), metric)
    choices = remedy_report.choose(trials, scores, everything, higher_is_better=better) if trials else []
    kept = [choice.trial for choice in choices if choice.verdict == "better"]
    outcomes = _train(remedy_plans.plan_test(config, pools, kept, seeds, held_out), directory)
    tested = ()
    if kept:
        tested = remedy_report.test_rows(kept, seeds, outcomes, metric, higher_is_better=better, judged=judged)
    kinds = {"group": "of whole groups", "stratified": "shuffled by class", "shuffled": "shuffled"}
    num_rows = len(cross_validation.select_rows(pool))
    return remedy_report.report(
        choices,
        tested,
        refused,
        metric,
        chosen_by=f"{splits.count} folds {kinds[splits.kind]} of the {num_rows:,} training and validation rows, "
        f"{pluralize(count, 'time')}",
        judged_on=f"{len(held_out):,} test rows and {pluralize(count, 'seed')}",
    )


def _load_pools(
    config: ml_collections.ConfigDict, trials: list[Trial], refused: dict[str, str]
) -> tuple[dict[str, Pool], list[Trial]]:
    """Loads a pool for each kind of inputs; returns them and the trials that have one, and adds others to `refused`."""
    pools, possible = {remedies.pool_key({}): load_pool(config.data, seed=config.seed)}, []
    for trial in trials:
        key = remedies.pool_key(trial.data)
        try:
            pools[key] = pools.get(key) or load_pool(override(config, trial.data).data, seed=config.seed)
        except UserError as error:
            # Such as a remedy that leaves no column.
            refused[trial.name] = str(error)
        else:
            possible.append(trial)
    return pools, possible


def _train(plans: list[Plan], directory: pathlib.Path) -> dict[str, Outcome]:
    """Trains the members of all plans; each population has a folder of its own."""
    outcomes = {}
    for plan in plans:
        # Trials of earlier calls, on other rows or inputs, stay there.
        name = hashlib.sha256(f"{plan.key} {plan.pool.fingerprint}".encode()).hexdigest()[:16]
        population = Population(plan.config, plan.pool, directory=directory / _FOLDER / name)
        outcomes |= population.train(plan.members, predict=True)
    return outcomes


def delete(directory: pathlib.Path) -> None:
    """Deletes the trials of an earlier audit."""
    shutil.rmtree(directory / _FOLDER, ignore_errors=True)
