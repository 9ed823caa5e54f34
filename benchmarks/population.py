"""population: many trainings in one compiled program, relative to other ways to run them.

- `grid_search`: 64 settings of learning rate and weight decay with 5 folds, 320 trainings of configs/digits_mlp.py for
  20 epochs. The reference is scikit-learn's `GridSearchCV` over an `MLPClassifier` with the same layers, batch size and
  epochs, and two jobs. The ratio is its time over that of the population, including compilation and excluding imports
  on both sides.
- `process_per_training`: the same 320 trainings, each in a separate process of `experiments.train`, two at a time, as
  tools do that start a command for each trial. The time is that of 6 trainings, times 320 / 6. Each fold has the same
  number of rows (through data.validation) but not the same rows.
- `loop`: 16, 4 and 4 trainings of digits_mlp, digits_vit and digits_resnet, relative to a Python loop over the compiled
  step on one device, one training after the other. Includes compilation on both sides, with nothing cached.
- `lanes`: the share of the lanes' time that is spent on steps, in successive halving of 64 trainings by a factor of
  three.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence

import ml_collections
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from benchmarks import load_config
from benchmarks.measure import Result, compare
from benchmarks.step_rate import parse_config, run_in_new_process

_ROUNDS = 3
_RATES, _DECAYS = np.geomspace(1e-4, 1e-2, 8), np.geomspace(1e-3, 1.0, 8)
_FOLDS, _EPOCHS = 5, 20
_SAMPLED_PROCESSES = 6
# Config: trainings, epochs, and the target ratio.
_LOOPED = {"digits_mlp": (16, 100, 2.0), "digits_vit": (4, 10, 0.95), "digits_resnet": (4, 10, 0.95)}


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result for each comparison."""
    del options
    grid = _config("digits_mlp", _EPOCHS).to_json()
    trainings = len(_RATES) * len(_DECAYS) * _FOLDS
    what = f"{trainings} trainings of {_EPOCHS} epochs, configs/digits_mlp.py"
    results = [
        _times(
            "population/grid_search",
            lambda: run_in_new_process(grid_seconds, grid),
            lambda: run_in_new_process(sklearn_seconds, grid),
            4.0,
            f"seconds, {what}: scikit-learn's GridSearchCV, two jobs / a population",
        ),
        _times(
            "population/process_per_training",
            lambda: run_in_new_process(grid_seconds, grid),
            lambda: process_seconds(grid) * trainings / _SAMPLED_PROCESSES,
            10.0,
            f"seconds, {what}: a separate process for each, two at a time / a population",
        ),
    ]
    for name, (members, epochs, target) in _LOOPED.items():
        config = _config(name, epochs).to_json()
        results.append(
            _times(
                f"population/loop, {name}",
                lambda config=config, members=members: run_in_new_process(population_seconds, (config, members)),
                lambda config=config, members=members: run_in_new_process(loop_seconds, (config, members)),
                target,
                f"seconds, {members} trainings of {epochs} epochs, configs/{name}.py: in a loop / a population",
            )
        )
    busy = [run_in_new_process(busy_share, grid) for _ in range(_ROUNDS)]
    return [
        *results,
        Result(
            name="population/lanes",
            ratios=busy,
            target=0.9,
            at_least=True,
            comparison="steps taken / steps that the time allowed, halving of 64 trainings by three",
            figures="",
        ),
    ]


def grid_seconds(config: str) -> float:
    """Seconds of the grid search as a population."""
    from experiments.populations import use_a_device_per_core

    use_a_device_per_core()
    from data.pool import load_pool
    from trainers.populations.population import Population

    whole = parse_config(config)
    began = time.perf_counter()
    pool = load_pool(whole.data, seed=0)
    trained = Population(whole, pool, progress=False)
    outcomes = trained.train(_grid_members(pool))
    assert all(outcome.status == "done" for outcome in outcomes.values())
    return time.perf_counter() - began


def sklearn_seconds(config: str) -> float:
    """Seconds of the grid search by scikit-learn."""
    from joblib.externals.loky import get_reusable_executor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    from data.pool import load_pool

    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.simplefilter("ignore", ConvergenceWarning)
    whole = parse_config(config)
    pool = load_pool(whole.data, seed=0)
    rows = pool.splits["train"]
    inputs, labels = pool.inputs[rows].reshape(len(rows), -1) / 255.0, pool.labels[rows]
    network = MLPClassifier(
        hidden_layer_sizes=whole.model.mlp.hidden_sizes,
        batch_size=whole.train.batch_size,
        max_iter=_EPOCHS,
        n_iter_no_change=_EPOCHS + 1,
        random_state=0,
    )
    grid = {"learning_rate_init": _RATES, "alpha": _DECAYS}
    search = GridSearchCV(
        network, grid, cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=0), n_jobs=2, refit=False
    )
    began = time.perf_counter()
    search.fit(inputs, labels)
    seconds = time.perf_counter() - began
    # The workers would wait for more work, and this process for the workers.
    get_reusable_executor().shutdown(wait=True)
    return seconds


def process_seconds(config: str) -> float:
    """Seconds of some trainings, each in its own process, two at a time."""
    whole = parse_config(config)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, _SAMPLED_PROCESSES, 2):
            pair = [
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "experiments.train", "--config=configs/digits_mlp.py"),
                        *(f"--workdir={folder}/{number}", f"--config.train.duration={whole.train.duration}"),
                        *("--config.data.validation=20 percent", "--config.train.evaluate_every="),
                        *("--config.train.tensorboard=False", f"--config.optimizer.learning_rate={_RATES[number]}"),
                    ],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                for number in (first, first + 1)
            ]
            if any(process.wait() for process in pair):
                raise RuntimeError("a separate training failed")
    return time.perf_counter() - began


def population_seconds(arguments: Sequence) -> float:
    """Seconds of the trainings as a population, in the mode that it chooses."""
    from experiments.populations import use_a_device_per_core

    use_a_device_per_core()
    return _seconds(*arguments, mode="auto")


def loop_seconds(arguments: Sequence) -> float:
    """Seconds of the trainings one after the other, by a loop over a compiled step on one device."""
    return _seconds(*arguments, mode="loop")


def busy_share(config: str) -> float:
    """Returns the share of the lanes' time that is spent on steps."""
    from experiments.populations import use_a_device_per_core

    use_a_device_per_core()
    from data.pool import load_pool
    from trainers.populations.population import Population

    whole = parse_config(config)
    whole.train.duration = "27 epochs"
    pool = load_pool(whole.data, seed=0)
    live = _grid_members(pool)[::_FOLDS]
    trained = Population(whole, pool, progress=False)
    for share in (1 / 27, 3 / 27, 9 / 27, 1.0):
        outcomes = trained.train(live, until=share)
        ranked = sorted(live, key=lambda member: -outcomes[member.name].metrics["accuracy"])
        live = ranked[: -(-len(live) // 3)]
    return trained.summary["busy"]


def _times(name: str, ours, other, target: float, comparison: str) -> Result:
    """Returns how many times as long the reference takes."""
    inverse = compare(
        name, ours, other, rounds=_ROUNDS, target=target, at_least=True, comparison=comparison, unit="s (ours / other)"
    )
    return dataclasses.replace(inverse, ratios=[1 / ratio for ratio in inverse.ratios])


def _config(name: str, epochs: int) -> ml_collections.ConfigDict:
    config = load_config(f"configs/{name}.py")
    config.data.validation = "none"
    config.train.duration = f"{epochs} epochs"
    config.train.evaluate_every = ""
    config.execution.compilation_cache = "none"
    return config


def _grid_members(pool) -> list:
    from trainers.populations.population import Member

    rows = pool.splits["train"]
    folds = list(StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(rows, pool.labels[rows]))
    return [
        Member(
            name=json.dumps([rate, decay, number]),
            overrides={"optimizer.learning_rate": float(rate), "optimizer.weight_decay": float(decay)},
            seed=0,
            train=rows[train],
            held_out=rows[held_out],
        )
        for rate in _RATES
        for decay in _DECAYS
        for number, (train, held_out) in enumerate(folds)
    ]


def _seconds(config: str, members: int, *, mode: str) -> float:
    from data.pool import load_pool
    from trainers.populations.population import Member, Population

    whole = parse_config(config)
    whole.population.mode = mode
    began = time.perf_counter()
    pool = load_pool(whole.data, seed=0)
    rows = {"train": pool.splits["train"], "held_out": pool.splits["test"]}
    population = Population(whole, pool, progress=False)
    population.train([Member(name=f"{seed}", overrides={}, seed=seed, **rows) for seed in range(members)])
    return time.perf_counter() - began
