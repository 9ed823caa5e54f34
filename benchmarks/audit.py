"""audit: seconds for a whole audit of digits_mlp, from process start to process end.

Runs `python -m experiments.audit --config=configs/digits_mlp.py` with its defaults: all checks of the data; 52
trainings (5 folds, shuffled and of whole writers, 6 sizes with 3 seeds each, and the controls); baselines; and the page
with its plots. No compiled programs are cached. The result is a time and not a ratio, since it is how long a user
waits; a busy machine increases it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import Result

CONFIG = "configs/digits_mlp.py"
TARGET = 120.0
_ROUNDS = 3


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    seconds = [_audit() for _ in range(_ROUNDS)]
    return [
        Result(
            name="audit",
            ratios=seconds,
            target=TARGET,
            at_least=False,
            comparison=f"seconds of experiments.audit, {CONFIG}",
            figures=f"{statistics.median(seconds):.4g} s",
        )
    ]


def _audit() -> float:
    command = [sys.executable, "-m", "experiments.audit", f"--config={CONFIG}"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [*command, f"--workdir={folder}/audit", "--config.execution.compilation_cache=none"],
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began
