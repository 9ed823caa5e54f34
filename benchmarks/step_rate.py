"""step_rate: steps per second of a whole training against a bare jitted loop.

Ours is `trainers.run.loop.train` on the config as it stands (decoded digits through the input pipeline, metrics in
files and TensorBoard, progress lines, checkpoints, execution by timing), made longer so that it is measured in its
steady state: only `train.duration` changes, and a log interval that is a percentage of the training stays as long as it
is in the config. The figure is `steps_per_second` of the summary, which counts logging, checkpoints and the timing of
execution modes, but neither the compilation nor the evaluations, as the other side has none; the evaluation before the
end is left out of the run for the same reason.

The other is a Python loop over the jitted step of `benchmarks/bare.py`, which does the same arithmetic (its docstring
says what is in and what is out) on one fixed batch that lies on the device, for about as long. The clock starts after
the first step and stops when the last one is done. Each measurement has a process of its own.
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
from benchmarks.measure import Result, side_by_side
from trainers.durations import Clock
from trainers.run.loop import train

# Config: epochs of one run, and the ratio to reach.
_CASES = {
    "digits_vit": (60, 0.97),
    "digits_resnet": (60, 0.97),
    "digits_mlp": (1000, 2.0),
}
_ROUNDS = 3
_BARE_SECONDS = 10.0


def run(options: argparse.Namespace) -> list[Result]:
    """One result for each config."""
    del options
    return [_compare(name, epochs, target) for name, (epochs, target) in _CASES.items()]


def _compare(name: str, epochs: int, target: float) -> Result:
    config = load_config(f"configs/{name}.py")
    dataset = data.load(config.data, seed=config.seed)
    prolong(config, epochs, len(dataset.splits["train"]))
    return side_by_side(
        f"step_rate/{name}",
        lambda: in_fresh_process(steps_per_second, config.to_json()),
        lambda: in_fresh_process(bare_steps_per_second, config.to_json()),
        rounds=_ROUNDS,
        target=target,
        at_least=True,
        divided=f"steps/s, configs/{name}.py for {epochs} epochs: trainers.run.loop.train / a bare jitted loop",
        unit="steps/s",
    )


def prolong(config: ml_collections.ConfigDict, epochs: int, num_examples: int) -> None:
    """Changes the duration of the training to `epochs`, and nothing about how often things happen in it."""
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size)
    total_steps = clock.steps(config.train.duration, "train.duration")
    clock = Clock(num_examples=num_examples, batch_size=config.train.batch_size, total_steps=total_steps)
    config.train.log_every = f"{clock.every(config.train.log_every, 'train.log_every').steps} steps"
    config.train.evaluate_every = ""
    config.train.duration = f"{epochs} epochs"


def in_fresh_process(function: Callable[[Any], Any], argument: Any) -> Any:
    """As a user would run it: what one measurement leaves in a process must not burden the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, argument).result()


def steps_per_second(config: str) -> float:
    """Of one training by a config in JSON, its progress lines kept off the table."""
    return summary(parsed(config))["steps_per_second"]


def bare_steps_per_second(config: str) -> float:
    """Of the bare loop for a config in JSON."""
    whole = parsed(config)
    return bare_loop(whole, data.load(whole.data, seed=whole.seed))()


def parsed(config: str) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(json.loads(config)).lock()


def summary(config: ml_collections.ConfigDict) -> dict:
    """What `train` returns for a run in a folder that is deleted again."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        return train(config, folder)


def bare_loop(config: ml_collections.ConfigDict, dataset: data.Dataset) -> Callable[[], float]:
    """The function that measures steps per second of the bare loop; it compiles before, once."""
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
            # The clock is read now and then only, and the device never runs more than this far behind.
            for _ in range(100):
                state = step(state, images, labels)
            jax.block_until_ready(state)
            steps += 100
        return steps / (time.perf_counter() - began)

    return measure
