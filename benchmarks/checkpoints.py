"""checkpoints: how much saving a checkpoint about every ten seconds slows training.

Trains once with configs/digits_resnet.py, without evaluations, and saves every K steps. The bare loop of `step_rate`
takes ten seconds for K steps on this machine, so the training takes slightly longer. Each period of K steps starts with
a save and is timed in two halves from the "time" of the lines in `metrics.jsonl`. The first half contains the moment
when the loop waits for the arrays to be copied, and the time when Orbax writes them next to the steps (well under a
second). The second half contains neither.

The rate with saves is K / (first + second). The rate without saves is that of the second halves before and after. Each
period except the first, which compiles, gives one ratio of the two.
"""

import argparse
import contextlib
import io
import itertools
import json
import pathlib
import statistics
import tempfile

import ml_collections

import data
from benchmarks import load_config
from benchmarks.measure import Result
from benchmarks.step_rate import bare_loop
from trainers.run.loop import train

CONFIG = "configs/digits_resnet.py"
TARGET = 0.95
_PERIODS = 9
_SECONDS = 10.0


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    config = load_config(CONFIG)
    dataset = data.load(config.data, seed=config.seed)
    half = max(1, round(bare_loop(config, dataset)() * _SECONDS / 2))
    config.train.duration = f"{2 * half * (_PERIODS + 2)} steps"
    config.train.log_every = f"{half} steps"
    config.train.checkpoint_every = f"{2 * half} steps"
    config.train.evaluate_every = ""
    times = _times(config)
    # Line i is written after (i + 1) halves, before the save that is due there if i is odd.
    seconds = [later - earlier for earlier, later in itertools.pairwise(times)]
    with_save, without = seconds[1::2], seconds[0::2]
    ratios, rates_with, rates_without = [], [], []
    for period in range(_PERIODS):
        first, second = with_save[period], without[period + 1]
        quiet = statistics.mean([without[period], second])
        rates_with.append(2 * half / (first + second))
        rates_without.append(half / quiet)
        ratios.append(2 * quiet / (first + quiet))
    return [
        Result(
            name="checkpoints",
            ratios=ratios,
            target=TARGET,
            at_least=True,
            comparison=f"steps/s, {CONFIG}, a save every {2 * half} steps: over the whole period / without saves",
            figures=f"{statistics.median(rates_with):.4g} / {statistics.median(rates_without):.4g} steps/s",
        )
    ]


def _times(config: ml_collections.ConfigDict) -> list[float]:
    """When each line of training metrics was written, in a run whose folder is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        train(config, folder)
        lines = (pathlib.Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = map(json.loads, lines)
    return [line["time"] for line in metrics if line["split"] == "train"]
