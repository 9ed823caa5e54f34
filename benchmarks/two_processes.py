"""two_processes: the cost of sharing the same cores between two processes that train together.

Both sides are `python -m experiments.train` on configs/digits_vit.py with steps dispatched one by one, the same global
batch and no evaluations: one process, or two that are connected over loopback and read half of the batch each. The
ratio is the step time of the two processes divided by that of the one, from their `summary.json`, which excludes
compilation. They share the cores, so nothing can be gained; the loss is the exchange of gradients.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

from benchmarks.measure import Result, compare

CONFIG = "configs/digits_vit.py"
TARGET = 1.2
_ROUNDS = 3
_STEPS = 200


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    return [
        compare(
            "two_processes",
            lambda: seconds_per_step(2),
            lambda: seconds_per_step(1),
            rounds=_ROUNDS,
            target=TARGET,
            at_least=False,
            comparison=f"step time, {CONFIG}, the same global batch and cores: two processes / one",
            unit="s",
        )
    ]


def seconds_per_step(count: int) -> float:
    """Trains with `count` processes, and returns the time of a step."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = [
            *(sys.executable, "-m", "experiments.train", f"--config={CONFIG}", f"--workdir={folder}/run"),
            *("--config.execution.mode=loop", f"--config.train.duration={_STEPS} steps"),
            *("--config.train.evaluate_every=", "--config.train.tensorboard=False"),
        ]
        flags = ["--distributed=explicit", f"--coordinator=127.0.0.1:{port}", f"--processes={count}"]
        processes = [
            subprocess.Popen(
                words + ([*flags, f"--process-id={index}"] if count > 1 else []),
                env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for index in range(count)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"a training of {count} process(es) failed with exit codes {codes}")
        summary = json.loads((pathlib.Path(folder) / "run" / "summary.json").read_text(encoding="utf-8"))
    return 1 / summary["steps_per_second"]
