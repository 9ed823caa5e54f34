"""audit: the seconds that the whole audit of digits_mlp takes, from the start of the process to its end.

`python -m experiments.audit --config=configs/digits_mlp.py` with its defaults: all that looks at the data; 52
trainings, of 5 folds (shuffled, and of whole writers) and 6 sizes with 3 seeds each, and of the controls; baselines;
the page with its plots. Compiled programs are in no cache. This is no ratio, as what is asked is how long a user waits:
a busy machine makes it more.
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
    """One result."""
    del options
    seconds = [_audit() for _ in range(_ROUNDS)]
    return [
        Result(
            name="audit",
            ratios=seconds,
            target=TARGET,
            at_least=False,
            divided=f"seconds of experiments.audit, {CONFIG}",
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
