"""A search from its options to its report."""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import optuna.exceptions
import sqlalchemy.exc

from data.pool import Pool
from diagnostics import cross_validation
from plumbline import UserError, counted, exit_codes, unknown_name
from trainers.building import build_program
from trainers.durations import Clock
from trainers.populations.members import program_key
from trainers.populations.population import Population
from trainers.run import transfer
from trainers.run.directory import compared
from trainers.settings import check as check_config
from trainers.settings import check_task, override
from trainers.step import hyperparameters, objectives
from tuning import best_config, pruning, report, samplers
from tuning import storage as storages
from tuning.directory import SweepDirectory
from tuning.grouped_pool import load_grouped_pool
from tuning.results import Metric, Results
from tuning.search import Plan, Search, judgements
from tuning.space import Space, parse
from tuning.study import Study

# Objectives that every trial has, without any training, and their units.
_UNTRAINED = {"parameters": "", "latency": "ms"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of `plumbline sweep`, as they were given."""

    sampler: str
    trials: int | None
    folds: int
    groups: str
    seeds: int
    pruner: str
    metric: str
    budget: str
    storage: str | None
    study: str | None
    dead_after: int
    overwrite: bool


def sweep(
    config: ml_collections.ConfigDict,
    space: Callable[[], Any],
    workdir: str | os.PathLike,
    options: Options,
    *,
    base: pathlib.Path,
    argument: str | None,
    base_config: ml_collections.ConfigDict,
) -> int:
    """Searches, prints and writes what was found.

    Args:
      config: what all trials have in common.
      space: the config file's `sweep`.
      workdir: of this worker.
      options: what is asked for.
      base: the config file.
      argument: what --config gave after its colon, or None.
      base_config: what the config file returns.

    Returns:
      The exit code.

    Raises:
      UserError: something about the options, the space, the data or the storage is wrong.
      Preempted: a signal came.
    """
    storages.check(options.storage, options.study)
    checked = parse(space(), config)
    trials = _check(options, checked)
    budget = _seconds(options.budget)
    config = transfer.resolved(config)
    pool = load_grouped_pool(config, options.groups)
    _check_values(checked, config, pool)
    metrics = _metrics(options, config, pool)
    if options.folds and (remark := cross_validation.describe_validation(config)):
        print(remark, file=sys.stderr)
    judged_by = judgements(pool, config, folds=options.folds, grouped=bool(options.groups))
    settings = _settings(options, config, pool, metrics)
    directory = SweepDirectory(workdir)
    with directory.held({"space": checked.fingerprint, **settings}, overwrite=options.overwrite):
        plan = Plan(
            sampler=options.sampler,
            pruner=options.pruner,
            metrics=metrics,
            trials=trials,
            seeds=options.seeds,
            shared=options.storage is not None,
            budget=budget,
        )
        # What no training measures is no figure of a training either.
        followed = metrics[0].name if metrics[0].measured else ""
        population = Population(
            config, pool, directory=directory.path, used=_used(checked, config), shown_metric=followed
        )
        try:
            with Study(
                storage=options.storage,
                name=options.study,
                workdir=directory.path,
                worker=directory.worker,
                space=checked,
                sampler=options.sampler,
                seed=config.seed,
                directions=["maximize" if metric.higher_is_better else "minimize" for metric in metrics],
                settings=settings,
                dead_after=options.dead_after,
            ) as study:
                study.fill(list(checked.grid()) if options.sampler == "grid" else [{}] * trials)
                Search(config, pool, study, population, judged_by, plan).run()
                results = Results(study.records(), metrics, folds=options.folds, seeds=options.seeds)
                shares = report.importances(study.as_optuna(), results)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise UserError(
                f"--storage: lost on the way ({error}); nothing that was told is lost: run the same command again"
            ) from None
        return _report(results, shares, directory.path, population.summary, config, base, argument, base_config)


def _check(options: Options, space: Space) -> int:
    """Checks the options that need no data; the number of trials."""
    for name, given, known in (
        ("--sampler", options.sampler, samplers.SAMPLERS),
        ("--pruner", options.pruner, pruning.PRUNERS),
    ):
        if given not in known:
            raise unknown_name(name, given, known)
    for name, number, least in (
        ("--trials", options.trials, 1),
        ("--seeds", options.seeds, 1),
        ("--dead-after", options.dead_after, 1),
        ("--folds", options.folds, 0),
    ):
        if number is not None and number < least:
            raise UserError(f"{name}: {number} given; it must be at least {least}")
    if options.groups and not options.folds:
        raise UserError("--groups: given without --folds; say how many folds the groups are dealt into")
    trials = options.trials
    if options.sampler == "grid":
        points = space.grid_size()
        if trials is not None and points > trials:
            raise UserError(
                f"--trials: {trials} given, but the grid has {points} points; give --trials={points}, fewer choices in "
                "sweep(), or another --sampler"
            )
        trials = points
    if trials is None:
        raise UserError("--trials: missing; say how many points to try")
    if options.pruner != "none" and trials < 2:
        raise UserError("--pruner: one trial has none to be compared with; give more --trials, or --pruner=none")
    return trials


def _seconds(budget: str) -> float | None:
    if not budget:
        return None
    try:
        seconds = Clock(num_examples=1, batch_size=1).every(budget, "--budget", wall_time=True).seconds
    except UserError:
        seconds = None
    if seconds is None:
        raise UserError(
            f"--budget: '{budget}' is no time; write a number above 0 and a unit, such as '90 seconds' or '20 minutes'"
        )
    return seconds


def _check_values(space: Space, config: ml_collections.ConfigDict, pool: Pool) -> None:
    """Finds out before anything is trained whether a config may have each choice, and both ends of each range.

    A value that another one has to go with, as a model's width with its heads, need not fit the config as it is.
    """
    values = {
        entry.path: entry.choices or [int(end) if entry.integer else end for end in (entry.low, entry.high)]
        for entry in space.entries
    }
    for path, value in ((path, value) for path, those in values.items() for value in those):
        if wrong := _problem({path: value}, config, pool):
            others = ((other, its) for other, those in values.items() for its in those if other != path)
            if all(_problem({path: value, other: its}, config, pool) for other, its in others):
                raise UserError(f"sweep(): with '{path}' at {value!r}, {wrong}")


def _problem(overrides: Mapping[str, Any], config: ml_collections.ConfigDict, pool: Pool) -> str:
    """Why no training can have these overrides; "" if one can."""
    try:
        changed = override(config, overrides)
        check_config(changed)
        check_task(changed, pool.features)
        if program_key(changed) != program_key(config):
            build_program(changed, pool.features)
    except UserError as error:
        return str(error)
    return ""


def _used(space: Space, config: ml_collections.ConfigDict) -> frozenset[str]:
    """The hyperparameters that some trial may use."""
    extremes = ((entry.path, value) for entry in space.entries for value in entry.choices or (entry.high,))
    return hyperparameters.used(override(config, {path: value}) for path, value in extremes)


def _metrics(options: Options, config: ml_collections.ConfigDict, pool: Pool) -> tuple[Metric, ...]:
    objective = objectives.build(
        config.objective.name, pool.features, calibration_bins=config.evaluation.calibration_bins
    )
    names = [name.strip() for name in options.metric.split(",")] if options.metric else [objective.best_metric]
    if len(set(names)) < len(names):
        raise UserError(f"--metric: '{options.metric}' names one twice; leave it out")
    metrics = tuple(_metric(name, objective) for name in names)
    if len(metrics) > 1 and options.sampler == "cmaes":
        raise UserError("--sampler: cmaes takes one metric; take nsga2, or give one --metric")
    if len(metrics) > 1 and options.pruner != "none":
        raise UserError("--pruner: trials are compared by one metric; give one --metric, or --pruner=none")
    if not metrics[0].measured and options.pruner != "none":
        raise UserError(f"--pruner: '{names[0]}' does not change on the way; give another --metric, or --pruner=none")
    return metrics


def _metric(name: str, objective: objectives.Objective) -> Metric:
    if name in _UNTRAINED:
        return Metric(name=name, higher_is_better=False, measured=False, unit=_UNTRAINED[name])
    try:
        return Metric(name=name, higher_is_better=objective.higher_is_better(name))
    except UserError as error:
        known = str(error).rpartition("known: ")[2].split(", ")
        raise unknown_name("--metric", name, {*known, *_UNTRAINED} - {"auto"}) from None


def _settings(
    options: Options, config: ml_collections.ConfigDict, pool: Pool, metrics: Sequence[Metric]
) -> dict[str, Any]:
    """What all workers and all starts have to agree on, as JSON values."""
    fields = {f"config.{name}": value for name, value in compared(config.to_dict()).items()}
    asked = {
        "sampler": options.sampler,
        "pruner": options.pruner,
        "folds": options.folds,
        "groups": bool(options.groups),
        "seeds": options.seeds,
        "metrics": [metric.label for metric in metrics],
        "data": pool.fingerprint,
    }
    return json.loads(json.dumps({**fields, **asked}))


def _report(
    results: Results,
    shares: Mapping[str, float] | str,
    folder: pathlib.Path,
    population: Mapping[str, Any],
    config: ml_collections.ConfigDict,
    base: pathlib.Path,
    argument: str | None,
    base_config: ml_collections.ConfigDict,
) -> int:
    """Prints and writes what was found; the exit code."""
    report.write_csv(results, folder / "trials.csv")
    report.write_summary(results, folder / "summary.json", population=population)
    if not results.done:
        why = f"; {counted(len(results.failed), 'trial')} failed: {report.reasons(results.failed)}" * bool(
            results.failed
        )
        waiting = any(record.status in ("waiting", "running") for record in results.records)
        if not waiting and any(record.attributes.get("unfit") for record in results.failed):
            raise UserError(f"sweep(): no trial finished{why}")
        print(f"no trial finished{why}", file=sys.stderr)
        return exit_codes.DONE if waiting else exit_codes.DIVERGED
    best_config.write(
        folder / "best_config.py",
        base=base,
        argument=argument,
        base_config=base_config,
        config=config,
        overrides=results.done[0].overrides,
        found=report.found(results, str(base)),
    )
    files = report.write_plots(results, shares if isinstance(shares, dict) else None, folder)
    report.print_best(results)
    if isinstance(shares, str):
        print(shares)
    else:
        print(report.importance_line(shares, results))
    for line in report.remarks(results):
        print(line)
    print(f"done: {folder} (trials.csv, summary.json, best_config.py, {', '.join(file.name for file in files)})")
    return exit_codes.DONE
