"""A search, from its options to its report."""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import optuna.exceptions
import sqlalchemy.exc

from data.pool import Pool
from diagnostics import cross_validation
from experiments.grouped_pool import load_grouped_pool
from experiments.sweep_options import Options, check_metrics, check_options, parse_budget
from plumbline import UserError, exit_codes, pluralize
from reporting import plot_style, sweep_files, sweep_plots, sweep_text
from reporting.best_config import BaseConfig, write_best_config
from trainers.populations.population import Population
from trainers.run import transfer
from trainers.run.identity import defining_fields
from tuning import feasibility
from tuning import storage as storages
from tuning.directory import SweepDirectory
from tuning.importances import Importances, compute_importances
from tuning.metrics import Metric, parse_metrics
from tuning.results import Results
from tuning.search import Search, SearchPlan
from tuning.space import Space
from tuning.space_parsing import parse
from tuning.splits import EvaluationSplit, make_splits
from tuning.study import Study

_BEST_CONFIG = "best_config.py"
# The result files of a search.
RESULTS = (
    sweep_files.TRIALS,
    sweep_files.SUMMARY,
    _BEST_CONFIG,
    *(file for name in sweep_plots.NAMES for file in plot_style.file_names(name)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Setup:
    """A checked search."""

    config: ml_collections.ConfigDict
    space: Space
    pool: Pool
    splits: list[EvaluationSplit]
    plan: SearchPlan
    settings: Mapping[str, Any]


def sweep(
    config: ml_collections.ConfigDict,
    space: Callable[[], Any],
    workdir: str | os.PathLike,
    options: Options,
    base: BaseConfig,
) -> int:
    """Runs a search, prints the results and writes them.

    Args:
      config: common to all trials.
      space: `sweep` of the config file.
      workdir: of this worker.
      options: of the search.
      base: the config file.

    Returns:
      The exit code.

    Raises:
      UserError: an option, the space, the data or the storage is wrong.
      Preempted: a signal arrived.
    """
    setup = _check(config, space, options)
    directory = SweepDirectory(workdir, RESULTS)
    with directory.lock({"space": setup.space.fingerprint, **setup.settings}, overwrite=options.overwrite):
        metric = setup.plan.metrics[0]
        population = Population(
            setup.config,
            setup.pool,
            directory=directory.path,
            used=feasibility.used_hyperparameters(setup.space, setup.config),
            # Training does not measure the other metrics.
            shown_metric=metric.name if metric.measured else "",
        )
        try:
            results, shares = _search(setup, options, directory, population)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise UserError(
                f"--storage: connection lost ({error}); finished trials are stored: run the same command again"
            ) from None
        return _report(results, shares, directory.path, population.summary, setup.config, base)


def _check(config: ml_collections.ConfigDict, space: Callable[[], Any], options: Options) -> _Setup:
    storages.check(options.storage, options.study)
    checked = parse(space(), config)
    trials = check_options(options, checked)
    budget = parse_budget(options.budget)
    config = transfer.resolve(config)
    pool = load_grouped_pool(config, options.groups)
    feasibility.check_values(checked, config, pool)
    metrics = parse_metrics(options.metric, config, pool.features)
    check_metrics(metrics, options)
    if options.folds and (remark := cross_validation.describe_validation(config)):
        print(remark, file=sys.stderr)
    plan = SearchPlan(
        sampler=options.sampler,
        pruner=options.pruner,
        metrics=metrics,
        trials=trials,
        seeds=options.seeds,
        shared=options.storage is not None,
        budget=budget,
    )
    return _Setup(
        config=config,
        space=checked,
        pool=pool,
        splits=make_splits(pool, config, folds=options.folds, grouped=bool(options.groups)),
        plan=plan,
        settings=_settings(options, config, pool, metrics),
    )


def _settings(
    options: Options, config: ml_collections.ConfigDict, pool: Pool, metrics: tuple[Metric, ...]
) -> dict[str, Any]:
    """Returns what all workers and all starts must agree on, as JSON values."""
    fields = {f"config.{name}": value for name, value in defining_fields(config.to_dict()).items()}
    search = {
        "sampler": options.sampler,
        "pruner": options.pruner,
        "folds": options.folds,
        "groups": bool(options.groups),
        "seeds": options.seeds,
        "metrics": [metric.label for metric in metrics],
        "data": pool.fingerprint,
    }
    return json.loads(json.dumps({**fields, **search}))


def _search(
    setup: _Setup, options: Options, directory: SweepDirectory, population: Population
) -> tuple[Results, Importances | str]:
    plan = setup.plan
    with Study(
        storage=options.storage,
        name=options.study,
        workdir=directory.path,
        worker=directory.worker,
        space=setup.space,
        sampler=plan.sampler,
        seed=setup.config.seed,
        directions=["maximize" if metric.higher_is_better else "minimize" for metric in plan.metrics],
        settings=setup.settings,
        dead_after=options.dead_after,
    ) as study:
        study.fill(list(setup.space.grid()) if plan.sampler == "grid" else [{}] * plan.trials)
        Search(setup.config, setup.pool, study, population, setup.splits, plan).run()
        results = Results(study.records(), plan.metrics, folds=options.folds, seeds=plan.seeds)
        return results, compute_importances(study.as_optuna(), results)


def _report(
    results: Results,
    importances: Importances | str,
    folder: pathlib.Path,
    population: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    base: BaseConfig,
) -> int:
    """Prints and writes the results; returns the exit code."""
    sweep_files.write_trials(results, folder / sweep_files.TRIALS)
    sweep_files.write_summary(results, folder / sweep_files.SUMMARY, population=population)
    if not results.done:
        return _report_failure(results)
    write_best_config(
        folder / _BEST_CONFIG,
        base=base,
        config=config,
        overrides=results.done[0].overrides,
        description=sweep_text.describe_best(results, str(base.file)),
    )
    figures = sweep_plots.draw_all(results, None if isinstance(importances, str) else importances, folder)
    sweep_text.print_best(results)
    print(importances if isinstance(importances, str) else sweep_text.format_importances(importances, results))
    for line in sweep_text.make_remarks(results):
        print(line)
    print(f"done: {folder} ({', '.join((sweep_files.TRIALS, sweep_files.SUMMARY, _BEST_CONFIG, *figures))})")
    return exit_codes.DONE


def _report_failure(results: Results) -> int:
    failed = results.failed
    reasons = f"; {pluralize(len(failed), 'trial')} failed: {sweep_text.list_reasons(failed)}" if failed else ""
    is_waiting = any(record.status in ("waiting", "running") for record in results.records)
    if not is_waiting and any(record.attributes.get("unfit") for record in failed):
        raise UserError(f"sweep(): no trial finished{reasons}")
    print(f"no trial finished{reasons}", file=sys.stderr)
    return exit_codes.DONE if is_waiting else exit_codes.DIVERGED
