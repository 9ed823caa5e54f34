"""Runs benchmarks and prints their ratios.

    python -m benchmarks
    python -m benchmarks step_rate start_up
    python -m benchmarks input_streamed --images=cifar10 --torch-python=.venv-torch/bin/python

Each benchmark times two things alternately in one run and reports the median of their ratios, since a busy machine
slows both. The docstring of its module says what is divided by what. Exit codes: 0 if all selected benchmarks ran,
whether or not they met their targets; 2 for a usage error.
"""

import argparse
import importlib
import sys
import textwrap

from benchmarks.measure import CannotRun, Result, print_table
from plumbline import UserError, unknown_name

NAMES = (
    "step_rate",
    "input_cached",
    "input_streamed",
    "read_table",
    "start_up",
    "checkpoints",
    "two_processes",
    "async_checkpoint",
    "planner",
    "population",
    "pretrained",
    "frozen_step",
    "linear_probe",
    "near_duplicates",
    "audit",
)


def main(arguments: list[str]) -> int:
    """Runs the selected benchmarks one after the other; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=textwrap.dedent(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all by default")
    parser.add_argument("--images", metavar="FOLDER", help="images as train/<class>/*.jpg, for input_streamed")
    parser.add_argument("--torch-python", metavar="PATH", help="a Python that has torch, for input_streamed")
    parser.add_argument("--rows", type=int, default=0, metavar="N", help="images, for near_duplicates (60,000)")
    options = parser.parse_args(arguments)
    results: list[Result] = []
    try:
        unknown = [name for name in options.names if name not in NAMES]
        if unknown:
            raise unknown_name("NAME", unknown[0], NAMES)
        for name in options.names or NAMES:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                results += importlib.import_module(f"benchmarks.{name}").run(options)
            except CannotRun as reason:
                if options.names:
                    raise
                print(f"{name}: left out, {reason}", file=sys.stderr)
    except (CannotRun, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_table(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
