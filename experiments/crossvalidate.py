"""Cross-validates a config: every row is predicted by a model that was not trained on it.

    plumbline crossvalidate --config=configs/digits_mlp.py --workdir=runs/cv --folds=5
    plumbline crossvalidate --config=configs/digits_mlp.py --workdir=runs/cv --groups=writer

Flags:
    --config=FILE[:ARGUMENT]   a config file; --config.FIELD=VALUE changes a field
    --workdir=DIR              output directory: new, empty, or of an earlier start of this command, which is resumed;
                               more seeds may be added, but folds and groups stay
    --folds=K                  folds, stratified by class, or shuffled for a regression; 5 by default
    --groups=NAME              hold out whole groups: a column of a table, or groups of the source (`writer` for the
                               digits). Shuffled folds are trained as well, and a difference is reported as leakage
    --leave-one-group-out      with --groups: one fold for each group; off by default
    --seeds=S                  repetitions, each with its own folds and trainings; 1 by default
    --overwrite                delete earlier results in DIR and train again; off by default

The training and validation rows are split into folds. The test split is not used: keep it to evaluate, once, what
cross-validation selects. If the config sets "N percent" of the training rows aside for validation, each fold does so
within its own training rows. Everything that is fitted on data (preprocessing, class weights) is fitted for each fold.

Writes summary.json and out_of_fold.npz: `row` (in the source), `split`, `label`, `group`, `prediction` (probabilities
or values, averaged over seeds), `predictions` (by seed), `fold` (by seed), `seed`, `class_names`, `group_names`.

Exit codes: 0 done, 2 an error that you can fix, 3 a fold diverged, 42 preempted (run the same command again).
"""

import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import command, output_directory
from experiments.path_flags import define_path
from experiments.populations import use_a_device_per_core
from plumbline import UserError, exit_codes, pluralize
from plumbline.files import replace_atomically, write_json

if TYPE_CHECKING:
    import ml_collections

    from data.pool import Pool
    from diagnostics.cross_validation import OutOfFold
    from diagnostics.statistics import Interval

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = define_path("workdir", None, "Directory for the results.")
_FOLDS = flags.DEFINE_integer("folds", 5, "Folds.")
_GROUPS = flags.DEFINE_string("groups", "", "Groups to hold out as a whole.")
_ONE_GROUP = flags.DEFINE_bool("leave_one_group_out", False, "A fold for each group.")
flags.DEFINE_alias("leave-one-group-out", "leave_one_group_out")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Repetitions.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Train again.")

_PREDICTIONS, _SUMMARY = "out_of_fold.npz", "summary.json"


def main(words: list[str]) -> int:
    """Trains, writes and prints."""
    command.refuse(words)
    command.require(config=_CONFIG.value, workdir=_WORKDIR.value)
    if _SEEDS.value < 1:
        raise UserError(f"--seeds: {_SEEDS.value} given; it must be at least 1")
    if _ONE_GROUP.value and not _GROUPS.value:
        raise UserError("--leave-one-group-out: of which groups? name them with --groups=NAME")
    if _ONE_GROUP.value and flags.FLAGS["folds"].present:
        raise UserError("--folds: --leave-one-group-out has a fold for each group; leave one of the two out")
    output_directory.exit_on_sigterm()
    use_a_device_per_core()
    return _cross_validate(_CONFIG.value)


def _cross_validate(config: "ml_collections.ConfigDict") -> int:
    from diagnostics import cross_validation
    from experiments.grouped_pool import load_grouped_pool
    from trainers.populations.population import Population
    from trainers.run import transfer

    with output_directory.lock(_WORKDIR.value, _request(), overwrite=_OVERWRITE.value) as output:
        config = transfer.resolve(config)
        pool = load_grouped_pool(config, _GROUPS.value)
        plain = "stratified" if pool.features.task == "classification" else "shuffled"
        kinds = [plain]
        if _GROUPS.value:
            kinds = ["leave_one_group_out" if _ONE_GROUP.value else "group", plain]
        seeds = tuple(range(config.seed, config.seed + _SEEDS.value))
        members = {}
        for kind in kinds:
            # The shuffled folds are as many as those of the groups, if each class has enough rows.
            count = len(next(iter(members.values()))) // len(seeds) if members else _FOLDS.value
            if members and kind == "stratified":
                labels = pool.labels[cross_validation.select_rows(pool)]
                count = min(count, int(np.unique(labels, return_counts=True)[1].min()))
            splits = cross_validation.Splits(kind=kind, count=count, seeds=seeds)
            members[splits] = cross_validation.make_members(pool, config, splits)
        if remark := cross_validation.describe_validation(config):
            print(remark, file=sys.stderr, flush=True)
        output.claim()
        population = Population(config, pool, directory=output.path)
        outcomes = population.train([member for each in members.values() for member in each], predict=True)
        found = [cross_validation.gather(pool, splits, each, outcomes) for splits, each in members.items()]
        output.record_request()
        _write_predictions(output.path / _PREDICTIONS, pool, found[0])
        summary = _summary(pool, found) | {"population": population.summary}
        write_json(output.path / _SUMMARY, summary)
        _print(summary, output.path)
    return exit_codes.DIVERGED if any(each.diverged for each in found) else exit_codes.DONE


def _request() -> output_directory.Request:
    folds = "one for each group" if _ONE_GROUP.value else _FOLDS.value
    return output_directory.Request(
        command="crossvalidate",
        settings={"folds": folds, "groups": _GROUPS.value or "none"},
        seeds=_SEEDS.value,
        results=(_PREDICTIONS, _SUMMARY),
    )


def _write_predictions(path: pathlib.Path, pool: "Pool", found: "OutOfFold") -> None:
    names = np.full(len(pool.rows), "train", "<U10")
    for name, positions in pool.splits.items():
        names[positions] = name
    arrays = {
        "row": pool.rows[found.rows],
        "split": names[found.rows],
        "label": pool.labels[found.rows],
        "prediction": found.predictions.mean(axis=0),
        "predictions": found.predictions,
        "fold": found.fold,
        "seed": np.array(found.splits.seeds),
        "class_names": np.array(pool.features.class_names, dtype=str),
    }
    if pool.groups is not None:
        arrays["group"] = pool.groups[found.rows]
        arrays["group_names"] = np.array(pool.features.group_names, dtype=str)
    with replace_atomically(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _summary(pool: "Pool", found: list["OutOfFold"]) -> dict[str, Any]:
    from diagnostics import cross_validation

    summary = {
        "rows": len(found[0].rows),
        "test_rows_untouched": len(pool.splits["test"]),
        "seeds": list(found[0].splits.seeds),
        "folds": {each.splits.kind: _figures(pool, each) for each in found},
        "diverged": [name for each in found for name in each.diverged],
    }
    if pool.groups is not None:
        summary["groups"] = len(np.unique(pool.groups[found[0].rows]))
    if len(found) > 1:
        difference = cross_validation.optimism(pool, shuffled=found[1], grouped=found[0])
        groups = len(np.unique(pool.groups[found[0].rows]))
        summary["leakage"] = {
            "metric": "accuracy" if pool.features.task == "classification" else "mse",
            "groups": groups,
            "difference": difference,
            "leaks": bool(difference[1] > 0),
            "warning": cross_validation.describe_optimism(difference, pool.features.task, groups),
        }
    return summary


def _figures(pool: "Pool", found: "OutOfFold") -> dict[str, Any]:
    return {
        "count": len(found.metrics[0]),
        "metrics": {
            name: {"mean": mean, "low": low, "high": high, "values": found.values(name).tolist()}
            for name, (mean, low, high) in found.intervals().items()
        },
        "accuracy_over_rows": found.share(pool),
    }


def _print(summary: Mapping[str, Any], directory: pathlib.Path) -> None:
    from diagnostics.cross_validation import LEAST_VALUES
    from trainers.run.progress import print_table

    count = len(summary["seeds"])
    for kind, figures in summary["folds"].items():
        metrics = figures["metrics"]
        columns = {
            column: {name: values[key] for name, values in metrics.items() if np.isfinite(values[key])}
            for column, key in (("mean", "mean"), ("95 % from", "low"), ("to", "high"))
        }
        columns = {column: values for column, values in columns.items() if values}
        print_table(f"{figures['count']} folds, {_KINDS[kind]}; {pluralize(count, 'seed')}", columns)
        if any(len(values["values"]) < LEAST_VALUES for values in metrics.values()):
            print(f"Too few folds for an interval, which takes at least {LEAST_VALUES}.")
        if share := figures["accuracy_over_rows"]:
            print(f"{_describe_share(share, summary)}\n")
    if leakage := summary.get("leakage"):
        print(leakage["warning"] + "\n")
    if summary["diverged"]:
        print(f"diverged: {'; '.join(summary['diverged'])}; their rows have no predictions (nan)\n")
    print(
        f"The {summary['test_rows_untouched']} rows of the test split were not used.\n"
        f"{directory}/out_of_fold.npz, summary.json"
    )


def _describe_share(share: "Interval", summary: Mapping[str, Any]) -> str:
    mean, low, high = share
    text = f"accuracy over all {summary['rows']} rows {mean:.4f}"
    if np.isnan(low):
        return f"{text}, without an interval: {pluralize(summary['groups'], 'group')} are too few"
    how = f"over {summary['groups']} groups" if "groups" in summary else "Wilson"
    return f"{text} ({low:.4f} to {high:.4f}, {how})"


_KINDS = {
    "stratified": "shuffled by class",
    "shuffled": "shuffled",
    "group": "whole groups",
    "leave_one_group_out": "one group each",
}


if __name__ == "__main__":
    command.run(main)
