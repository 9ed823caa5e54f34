"""population: many trainings in one compiled program, against other ways to make them.

- `grid_search`: 64 settings of learning rate and weight decay with 5 folds, 320 trainings of configs/digits_mlp.py for
  20 epochs. The other is scikit-learn's `GridSearchCV` over an `MLPClassifier` of the same layers, batch and epochs,
  with two jobs. The ratio is its time over ours, compilation included, imports left out on both sides.
- `process_per_training`: the same 320 trainings, each as a process `experiments.train` of its own, two at a time, as
  tools do that start a command for each trial. Its time is that of 6 of them, times 320 / 6; only the arithmetic of a
  fold is the same (as many rows, by data.validation), not the rows.
- `loop`: 16, 4 and 4 trainings of digits_mlp, digits_vit and digits_resnet, against a Python loop over the compiled
  step on one device, one training after the other. Compilation included on both sides, nothing cached.
- `lanes`: the share of the lanes' time that is spent on steps, while 64 trainings are halved by a factor of three.
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
from benchmarks.measure import Result, side_by_side
from benchmarks.step_rate import in_fresh_process, parsed

_ROUNDS = 3
_RATES, _DECAYS = np.geomspace(1e-4, 1e-2, 8), np.geomspace(1e-3, 1.0, 8)
_FOLDS, _EPOCHS = 5, 20
_SAMPLED_PROCESSES = 6
# Config: trainings, epochs, the least ratio.
_LOOPED = {"digits_mlp": (16, 100, 2.0), "digits_vit": (4, 10, 0.95), "digits_resnet": (4, 10, 0.95)}


def run(options: argparse.Namespace) -> list[Result]:
    """One result for each rival."""
    del options
    grid = _config("digits_mlp", _EPOCHS).to_json()
    trainings = len(_RATES) * len(_DECAYS) * _FOLDS
    what = f"{trainings} trainings of {_EPOCHS} epochs, configs/digits_mlp.py"
    results = [
        _times(
            "population/grid_search",
            lambda: in_fresh_process(grid_seconds, grid),
            lambda: in_fresh_process(sklearn_seconds, grid),
            4.0,
            f"seconds, {what}: scikit-learn's GridSearchCV, two jobs / a population",
        ),
        _times(
            "population/process_per_training",
            lambda: in_fresh_process(grid_seconds, grid),
            lambda: process_seconds(grid) * trainings / _SAMPLED_PROCESSES,
            10.0,
            f"seconds, {what}: a process of its own for each, two at a time / a population",
        ),
    ]
    for name, (members, epochs, target) in _LOOPED.items():
        config = _config(name, epochs).to_json()
        results.append(
            _times(
                f"population/loop, {name}",
                lambda config=config, members=members: in_fresh_process(chosen_seconds, (config, members)),
                lambda config=config, members=members: in_fresh_process(looped_seconds, (config, members)),
                target,
                f"seconds, {members} trainings of {epochs} epochs, configs/{name}.py: in a loop / a population",
            )
        )
    busy = [in_fresh_process(halved_busy, grid) for _ in range(_ROUNDS)]
    return [
        *results,
        Result(
            name="population/lanes",
            ratios=busy,
            target=0.9,
            at_least=True,
            divided="steps of trainings / steps there was time for, 64 trainings halved by three",
            figures="",
        ),
    ]


def grid_seconds(config: str) -> float:
    """Of the grid search by a population."""
    from experiments.populations import population_devices

    population_devices()
    from data.pool import load_pool
    from trainers.populations.population import Population

    whole = parsed(config)
    began = time.perf_counter()
    pool = load_pool(whole.data, seed=0)
    trained = Population(whole, pool, progress=False)
    outcomes = trained.train(_grid_members(pool))
    assert all(outcome.status == "done" for outcome in outcomes.values())
    return time.perf_counter() - began


def sklearn_seconds(config: str) -> float:
    """Of the grid search by scikit-learn."""
    from joblib.externals.loky import get_reusable_executor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    from data.pool import load_pool

    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.simplefilter("ignore", ConvergenceWarning)
    whole = parsed(config)
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
    # Its workers would wait for more work, and this process for them.
    get_reusable_executor().shutdown(wait=True)
    return seconds


def process_seconds(config: str) -> float:
    """Of some trainings, each a process, two at a time."""
    whole = parsed(config)
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
                raise RuntimeError("a training of its own failed")
    return time.perf_counter() - began


def chosen_seconds(arguments: Sequence) -> float:
    """Of trainings as a population, run as it chooses."""
    from experiments.populations import population_devices

    population_devices()
    return _seconds(*arguments, mode="auto")


def looped_seconds(arguments: Sequence) -> float:
    """Of trainings one after the other, by a loop over a compiled step on one device."""
    return _seconds(*arguments, mode="loop")


def halved_busy(config: str) -> float:
    """The share of the lanes' time that is spent on steps."""
    from experiments.populations import population_devices

    population_devices()
    from data.pool import load_pool
    from trainers.populations.population import Population

    whole = parsed(config)
    whole.train.duration = "27 epochs"
    pool = load_pool(whole.data, seed=0)
    live = _grid_members(pool)[::_FOLDS]
    trained = Population(whole, pool, progress=False)
    for share in (1 / 27, 3 / 27, 9 / 27, 1.0):
        outcomes = trained.train(live, until=share)
        ranked = sorted(live, key=lambda member: -outcomes[member.name].metrics["accuracy"])
        live = ranked[: -(-len(live) // 3)]
    return trained.summary["busy"]


def _times(name: str, ours, other, target: float, divided: str) -> Result:
    """How many times as long the other takes."""
    swapped = side_by_side(
        name, ours, other, rounds=_ROUNDS, target=target, at_least=True, divided=divided, unit="s (ours / other)"
    )
    return dataclasses.replace(swapped, ratios=[1 / ratio for ratio in swapped.ratios])


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

    whole = parsed(config)
    whole.population.mode = mode
    began = time.perf_counter()
    pool = load_pool(whole.data, seed=0)
    rows = {"train": pool.splits["train"], "held_out": pool.splits["test"]}
    population = Population(whole, pool, progress=False)
    population.train([Member(name=f"{seed}", overrides={}, seed=seed, **rows) for seed in range(members)])
    return time.perf_counter() - began
