"""Prints the metrics of a run on one of its splits. The run may still be training.

    plumbline evaluate --workdir=runs/digits --split=test

Flags:
    --workdir=DIR                the run directory
    --split=NAME                 train, validation or test (the default)
    --checkpoint=best|last       which parameters: the best on the validation split (the default), or the last
    --output=FILE.json           also write the metrics as JSON
    --distributed=auto|off|explicit   whether to join other processes, auto by default; see experiments/distribution.py
    --coordinator=HOST:PORT --processes=N --process-id=I --initialization-timeout=SECONDS
"""

import json

from absl import flags

from experiments import command, distribution
from experiments.path_flags import check_output, define_path
from plumbline.files import write_text

_WORKDIR = define_path("workdir", None, "Run directory.")
_SPLIT = flags.DEFINE_string("split", "test", "Split.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which parameters.")
_OUTPUT = define_path("output", None, "JSON file for the metrics.")
distribution.define_flags("auto")


def main(words: list[str]) -> None:
    """Evaluates and prints."""
    command.refuse(words)
    command.require(workdir=_WORKDIR.value)
    check_output(_OUTPUT.value, (".json", ""))
    with distribution.join_processes():
        from trainers.processes import coordination
        from trainers.run.inference import FinishedRun
        from trainers.run.progress import print_table

        run = FinishedRun(_WORKDIR.value, checkpoint=_CHECKPOINT.value)
        metrics = run.evaluate(_SPLIT.value)
        if coordination.process_index() > 0:
            return
        if _OUTPUT.value:
            write_text(_OUTPUT.value, json.dumps(metrics, indent=2) + "\n")
        print_table(f"{_WORKDIR.value}, {_CHECKPOINT.value} parameters (step {run.step})", {_SPLIT.value: metrics})


if __name__ == "__main__":
    command.run(main)
