"""step_rate: steps per second of a whole training, relative to a bare jitted loop.

The measured side is `trainers.run.loop.train` on an unchanged config: decoded digits through the input pipeline,
metrics in files and TensorBoard, progress lines, checkpoints, and an execution mode chosen by timing. Only
`train.duration` is longer, to measure the steady state; a log interval that is a percentage of the training keeps its
length. The figure is `steps_per_second` of the summary. It includes logging, checkpoints and the timing of execution
modes, but not compilation or evaluations, which the reference does not have. For the same reason, the run makes no
evaluation before the end.

The reference is a Python loop over the jitted step of `benchmarks/bare.py`, which does the same arithmetic (its
docstring says what is included), on one fixed batch on the device, for about as long. The clock starts after the first
step and stops when the last one is done. Each measurement has its own process.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import ml_collections
import numpy as np

import data
from benchmarks import bare, load_config
from benchmarks.measure import Result, compare
from trainers.durations import Clock
from trainers.run.loop import train

# Config: epochs of one run, and the target ratio.
_CASES = {
    "digits_vit": (60, 0.97),
    "digits_resnet": (60, 0.97),
    "digits_mlp": (1000, 2.0),
}
_ROUNDS = 3
_BARE_SECONDS = 10.0


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result for each config."""
    del options
    return [_compare(name, epochs, target) for name, (epochs, target) in _CASES.items()]


def _compare(name: str, epochs: int, target: float) -> Result:
    config = load_config(f"configs/{name}.py")
    dataset = data.load(config.data, seed=config.seed)
    prolong(config, epochs, len(dataset.splits["train"]))
    return compare(
        f"step_rate/{name}",
        lambda: run_in_new_process(steps_per_second, config.to_json()),
        lambda: run_in_new_process(bare_steps_per_second, config.to_json()),
        rounds=_ROUNDS,
        target=target,
        at_least=True,
        comparison=f"steps/s, configs/{name}.py for {epochs} epochs: trainers.run.loop.train / a bare jitted loop",
        unit="steps/s",
    )


def prolong(config: ml_collections.ConfigDict, epochs: int, num_examples: int) -> None:
    """Changes the duration of the training to `epochs` without changing the intervals of its events."""
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size)
    total_steps = clock.steps(config.train.duration, "train.duration")
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size, total_steps=total_steps)
    config.train.log_every = f"{clock.every(config.train.log_every, 'train.log_every').steps} steps"
    config.train.evaluate_every = ""
    config.train.duration = f"{epochs} epochs"


def run_in_new_process(function: Callable[[Any], Any], argument: Any) -> Any:
    """Calls a function in a new process, so that one measurement cannot affect the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, argument).result()


def steps_per_second(config: str) -> float:
    """Trains by a config in JSON without printing progress, and returns its rate."""
    return summary(parse_config(config))["steps_per_second"]


def bare_steps_per_second(config: str) -> float:
    """Runs the bare loop for a config in JSON, and returns its rate."""
    whole = parse_config(config)
    return bare_loop(whole, data.load(whole.data, seed=whole.seed))()


def parse_config(config: str) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(json.loads(config)).lock()


def summary(config: ml_collections.ConfigDict) -> dict:
    """Trains in a temporary folder, and returns the summary."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        return train(config, folder)


def bare_loop(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Callable[[], float]:
    """Compiles the bare loop once, and returns a function that measures its steps per second."""
    split = dataset.splits["train"]
    positions = np.arange(config.train.batch_size)
    images, labels = jax.device_put((split.read(positions), split.labels[positions]))
    total_steps = Clock(num_examples=len(split), batch_size=len(positions)).steps(config.train.duration, "")
    clock = Clock(num_examples=len(split), batch_size=len(positions), total_steps=total_steps)
    init, step = bare.make(
        config,
        shape=dataset.features.shape,
        num_classes=dataset.features.num_outputs,
        mean=dataset.preprocessing["mean"],
        std=dataset.preprocessing["std"],
        total_steps=total_steps,
        warmup_steps=clock.steps(config.schedule.warmup, ""),
    )

    def measure() -> float:
        state = jax.block_until_ready(step(init(), images, labels))
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < _BARE_SECONDS:
            # The clock is read rarely, and the device is never more than this many steps behind.
            for _ in range(100):
                state = step(state, images, labels)
            jax.block_until_ready(state)
            steps += 100
        return steps / (time.perf_counter() - began)

    return measure
