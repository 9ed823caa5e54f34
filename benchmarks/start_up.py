"""start_up: the time from the start of `python -m experiments.train` to the end of its first step.

The measured side is `python -m experiments.train --config=configs/digits_resnet.py` with a log line after every step,
from the start of the process to the "time" of the first line of its `metrics.jsonl`; then the process is killed. The
reference is `python -m benchmarks.bare_start`, from the start of the process to the end of its step. That script
imports the same libraries, reads the same config and the same decoded images, builds the same model and takes the same
jitted step, written by hand. Its docstring and that of `benchmarks/bare.py` say what is included and what is not.
Plumbline also does its usual work: it checks the config and the data, splits them, fits the scaling, opens the run
directory and the checkpoints, and writes the first files.

For both, the files (libraries, bytecode, decoded images) have been read once before. `cold` compiles everything,
without a compilation cache. `warm` finds all programs in JAX's cache on disk; each side has its own.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import data
from benchmarks import load_config
from benchmarks.measure import Result, compare

CONFIG = "configs/digits_resnet.py"
TARGET = 1.3
_ROUNDS = 5
_LONGEST_SECONDS = 300


def run(options: argparse.Namespace) -> list[Result]:
    """Returns two results, cold and warm."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        digits = _write_digits(folder / "digits.npz")
        results = []
        for name in ("cold", "warm"):
            caches = ("none", "none") if name == "cold" else (str(folder / "ours"), str(folder / "bare"))
            _ours(folder, caches[0])
            _bare(digits, caches[1])
            results.append(
                compare(
                    f"start_up/{name}",
                    lambda cache=caches[0]: _ours(folder, cache),
                    lambda cache=caches[1]: _bare(digits, cache),
                    rounds=_ROUNDS,
                    target=TARGET,
                    at_least=False,
                    comparison=f"start to the end of the first step, {CONFIG}, {name} compilation cache: "
                    "experiments.train / a hand-written script",
                    unit="s",
                )
            )
    return results


def _write_digits(path: pathlib.Path) -> pathlib.Path:
    """Writes decoded images and labels of the training split; reading them also fills the cache."""
    config = load_config(CONFIG)
    split = data.load(config.data, seed=config.seed).splits["train"]
    np.savez(path, images=split.read(np.arange(len(split))), labels=split.labels)
    return path


def _ours(folder: pathlib.Path, cache: str) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        metrics = pathlib.Path(workdir) / "run" / "metrics.jsonl"
        command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}", f"--workdir={metrics.parent}"]
        changes = ["--config.train.log_every=1 steps", f"--config.execution.compilation_cache={cache}"]
        with (folder / "stderr").open("w+") as stderr:
            began = time.time()
            process = subprocess.Popen([*command, *changes], stdout=subprocess.DEVNULL, stderr=stderr)
            try:
                while not (metrics.exists() and metrics.read_text().endswith("\n")):
                    if process.poll() is not None or time.time() - began > _LONGEST_SECONDS:
                        stderr.seek(0)
                        raise RuntimeError(f"{' '.join(command)} took no step: {stderr.read()}")
                    time.sleep(0.01)
            finally:
                process.kill()
                process.wait()
        return json.loads(metrics.read_text().splitlines()[0])["time"] - began


def _bare(digits: pathlib.Path, cache: str) -> float:
    command = [sys.executable, "-m", "benchmarks.bare_start", CONFIG, str(digits), cache]
    began = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return float(done.stdout) - began
