"""Tries the remedies that an audit proposes."""

import hashlib
import pathlib
import shutil
from collections.abc import Collection, Sequence

import ml_collections

from data.pool import load_pool
from diagnostics import remedies
from diagnostics.finding import Finding
from plumbline import UserError
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

    Args:
      config: of the trainings without remedy.
      findings: of the audit.
      names: of the findings whose remedies are tried; () for all.
      count: trainings with each remedy.
      directory: of the audit, in which interrupted trainings are kept.

    Raises:
      UserError: there is nothing to judge by, or the set cannot be trained on.
      Preempted: a signal to stop has come.
    """
    trials, refused = remedies.choose(findings, config, names)
    pools = {remedies.pool_key({}): load_pool(config.data, seed=config.seed)}
    for trial in list(trials):
        key = remedies.pool_key(trial.data)
        if key not in pools:
            try:
                pools[key] = load_pool(override(config, trial.data).data, seed=config.seed)
            except UserError as error:
                # Such as a remedy that leaves no column.
                refused[trial.name] = str(error)
                trials.remove(trial)
    pool = pools[remedies.pool_key({})]
    pool.require_independent("--apply")
    seeds = range(config.seed, config.seed + count)
    held_out = remedies.clean_rows(pool, findings)
    outcomes = {}
    for plan in remedies.make_plans(config, pools, trials, seeds, held_out):
        # Trials of earlier calls, on other rows or inputs, stay there.
        name = hashlib.sha256(f"{plan.key} {plan.pool.fingerprint}".encode()).hexdigest()[:16]
        population = Population(plan.config, plan.pool, directory=directory / _FOLDER / name)
        outcomes |= population.train(plan.members)
    objective = objectives.build(
        config.objective.name, pool.features, calibration_bins=config.evaluation.calibration_bins
    )
    return remedies.report(
        trials,
        refused,
        seeds,
        outcomes,
        objective.best_metric,
        higher_is_better=objective.higher_is_better(objective.best_metric),
        num_rows=len(held_out),
    )


def delete(directory: pathlib.Path) -> None:
    """Deletes the trials of an earlier audit."""
    shutil.rmtree(directory / _FOLDER, ignore_errors=True)
