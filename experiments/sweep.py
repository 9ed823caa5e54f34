"""Searches for good hyperparameters: trains many trials as one population, on any number of machines.

    plumbline sweep --config=configs/digits_mlp.py --workdir=runs/sweep --sampler=tpe --trials=64 --folds=5
    plumbline sweep --config=configs/digits_mlp.py --workdir=runs/grid --sampler=grid

The space is what `sweep()` in the config file returns, a dict from config path to choices or a range:

    def sweep():
        return {
            "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "model.dropout": {"low": 0.0, "high": 0.4, "step": 0.1},
            "optimizer.name": ["adamw", "sgd"],
            "optimizer.momentum": {"choices": [0.8, 0.9], "when": {"optimizer.name": "sgd"}},
        }

The test split is not used. The same command resumes a search that stopped. docs/sweeps.md describes the rest.

Flags:
    --config=FILE[:ARGUMENT]   a config file; --config.FIELD=VALUE changes a field
    --workdir=DIR              directory of this worker: new, empty, or of the same search, which is resumed
    --sampler=NAME             grid, random, tpe (the default), cmaes or nsga2
    --trials=N                 trials of all workers together; without it, a grid is tried completely
    --folds=K                  evaluate each trial by K-fold cross-validation over the training and validation rows; by
                               default (0) train on the training split and evaluate on the validation split
    --groups=NAME              with --folds: hold out whole groups of the source, such as writer; none by default
    --seeds=S                  trainings of each trial and fold, from config.seed on; 1 by default
    --pruner=NAME              stop trials that fall behind: halving, hyperband or median; none by default
    --metric=NAMES             the metric to optimise; accuracy by default, mse for a regression. Several, such as
                               accuracy,parameters or accuracy,latency (milliseconds of a forward pass for one example),
                               need nsga2, grid, random or tpe
    --budget=TIME              start no batch after this time, such as "20 minutes"; no limit by default; the same
                               command continues with the rest
    --storage=URL              where workers share a study: journal:PATH on one machine, or a database, such as
                               postgresql+pg8000://USER:PASSWORD@HOST/DATABASE; by default a journal in DIR
    --study=NAME               name of the study in the storage; "sweep" by default; a database needs one
    --dead-after=SECONDS       with a database: silence after which a worker counts as dead; 180 by default
    --overwrite                delete another search in DIR; off by default
    --distributed=off|auto|explicit   whether to join other processes as one run, off by default; see
                               experiments/distribution.py

A trial that diverges, or whose values do not fit together, is marked as failed, and the search continues.

Exit codes: 0 done, 2 an error that you can fix (such as no valid trial), 3 all trials diverged, 42 preempted (run the
same command again).
"""

from absl import flags
from ml_collections import config_flags

from experiments import command, distribution, output_directory, populations, recipes
from experiments.path_flags import define_path
from plumbline import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = define_path("workdir", None, "Directory of this worker.")
_SAMPLER = flags.DEFINE_string("sampler", "tpe", "How trials are drawn.")
_TRIALS = flags.DEFINE_integer("trials", None, "Number of trials.")
_FOLDS = flags.DEFINE_integer("folds", 0, "Folds of each trial.")
_GROUPS = flags.DEFINE_string("groups", "", "Groups to hold out as a whole.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Seeds of each trial.")
_PRUNER = flags.DEFINE_string("pruner", "none", "How trials are stopped early.")
_METRIC = flags.DEFINE_string("metric", "", "Metric to optimise.")
_BUDGET = flags.DEFINE_string("budget", "", "Time after which no batch is started.")
_STORAGE = flags.DEFINE_string("storage", None, "Where workers share a study.")
_STUDY = flags.DEFINE_string("study", None, "Name of the study.")
_DEAD_AFTER = flags.DEFINE_integer("dead-after", 180, "Seconds after which a silent worker counts as dead.")
flags.DEFINE_alias("dead_after", "dead-after")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what another search left in the directory.")
distribution.define_flags("off")


def main(words: list[str]) -> int:
    """Searches, prints and writes the results, and returns the exit code."""
    command.refuse(words)
    command.require(config=_CONFIG.value, workdir=_WORKDIR.value)
    # The study holds all finished trials, and the population file all trainings as of its last save.
    output_directory.exit_on_sigterm()
    space = recipes.find_function("sweep")
    if space is None:
        raise recipes.missing_function("sweep", "the space: a dict from config path to choices or a range")
    populations.use_a_device_per_core()
    with distribution.join_processes():
        from experiments.sweep_options import Options
        from experiments.sweeping import sweep
        from reporting.best_config import BaseConfig
        from trainers.processes import coordination

        if coordination.process_count() > 1:
            raise UserError(
                "--distributed: a search trains on the devices of one process; start workers that share a --storage"
            )
        argument = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[2] or None
        get_config = recipes.load_module().get_config
        return sweep(
            _CONFIG.value,
            space,
            _WORKDIR.value,
            Options(
                sampler=_SAMPLER.value,
                trials=_TRIALS.value,
                folds=_FOLDS.value,
                groups=_GROUPS.value,
                seeds=_SEEDS.value,
                pruner=_PRUNER.value,
                metric=_METRIC.value,
                budget=_BUDGET.value,
                storage=_STORAGE.value,
                study=_STUDY.value,
                dead_after=_DEAD_AFTER.value,
                overwrite=_OVERWRITE.value,
            ),
            BaseConfig(
                file=recipes.config_path(),
                argument=argument,
                config=get_config() if argument is None else get_config(argument),
            ),
        )


if __name__ == "__main__":
    command.run(main)
