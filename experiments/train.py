"""Trains a config in a run directory. The same command resumes a run that was stopped.

    plumbline train --config=configs/digits_resnet.py --workdir=runs/digits
    plumbline train --config=configs/digits_vit.py --workdir=runs/vit --config.optimizer.learning_rate=3e-4

With --config.transfer.check=True, a training that starts from a source is followed by the same training from scratch,
and both are repeated on other seeds (--config.transfer.check_seeds). The difference on the test split is printed and
written to transfer_check.json.

With --dry_run, nothing is trained: config, data, source, mesh, memory, disk and run directory are checked, up to the
first compilation, and the fields that differ from their defaults are printed with the line or flag that set them.
Nothing is written to the run directory, which may be left out.

Flags:
    --config=FILE[:ARGUMENT]   a config file; fields are changed with --config.FIELD=VALUE
    --workdir=DIR              the run directory: new, empty, or that of the same config
    --overwrite                delete what another run left in DIR
    --extend                   continue the run in DIR, which is done, for a longer train.duration; learning rate, end
                               and name of the schedule, and patience may change too. A cosine or linear schedule starts
                               again at its peak; the others continue as they are
    --dry_run                  check everything and print the config; train nothing
    --distributed=auto|off|explicit   whether to join other processes, auto by default; see experiments/distribution.py
    --coordinator=HOST:PORT --processes=N --process-id=I --initialization-timeout=SECONDS

Exit codes: 0 done, 2 an error that you can fix, 3 diverged, 42 preempted after a save (run the same command again).
"""

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import command, config_differences, distribution, origins
from experiments.path_flags import define_path
from plumbline import exit_codes

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_WORKDIR = define_path("workdir", None, "Run directory.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what another run left in the run directory.")
_EXTEND = flags.DEFINE_bool("extend", False, "Go on with a run that is done.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Check everything, and train nothing.")
flags.DEFINE_alias("dry-run", "dry_run")
distribution.define_flags("auto")

_EXIT_CODES = {"done": exit_codes.DONE, "diverged": exit_codes.DIVERGED, "preempted": exit_codes.PREEMPTED}


def main(words: list[str]) -> int:
    """Trains, prints the metrics, and returns the exit code."""
    command.refuse(words)
    command.require(config=_CONFIG.value)
    if not _DRY_RUN.value:
        command.require(workdir=_WORKDIR.value)
    if _EXTEND.value:
        command.require(workdir=_WORKDIR.value)
    # Until the training handles signals there is nothing to save, and the same command can be run again. An exception
    # could get lost in a module that is being imported.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(exit_codes.PREEMPTED))
    with distribution.join_processes():
        # Importing JAX takes a while, and wrong flags should fail before it.
        from trainers.processes import coordination
        from trainers.run.loop import train

        checked = _CONFIG.value.transfer.check
        if checked:
            from diagnostics.transfer import transfer_check

            transfer_check.check_possible()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if _DRY_RUN.value:
            _check_only()
            return exit_codes.DONE
        summary = train(_CONFIG.value, _WORKDIR.value, overwrite=_OVERWRITE.value, extend=_EXTEND.value)
        status = summary["status"]
        if coordination.process_index() > 0:
            pass
        elif status == "done":
            _print_summary(summary)
            if checked:
                scratch, comparison = transfer_check.check(_CONFIG.value, _WORKDIR.value)
                status = scratch["status"]
                if comparison:
                    print(f"transfer.check: {comparison.describe()}")
        else:
            print(f"{status}: {summary['reason']}", file=sys.stderr)
    return _EXIT_CODES[status]


def _check_only() -> None:
    """Checks everything up to the first compilation, and prints the config as differences to the defaults."""
    from trainers.processes import coordination
    from trainers.run import dry_run

    checked = dry_run.check(_CONFIG.value, _WORKDIR.value, overwrite=_OVERWRITE.value, extend=_EXTEND.value)
    if coordination.process_index() > 0:
        return
    differences = config_differences.find(checked.config, _CONFIG.value, origins.OF_FLAGS)
    print(config_differences.format_table(differences))
    remedy = "give a longer train.duration to extend it" if _EXTEND.value else "--overwrite trains it again"
    outcome = {
        "done": f"'{_WORKDIR.value}' is done already; {remedy}",
        "starts": f"{checked.description}; everything is ready to start",
        "resumes": f"{checked.description}; everything is ready to resume",
    }
    print("\n".join([*checked.data_lines, f"dry run: {outcome[checked.status]}"]), file=sys.stderr)


def _print_summary(summary: Mapping[str, Any]) -> None:
    from trainers.run.evaluation import overall
    from trainers.run.progress import print_table

    columns = {name: overall(metrics) for name, metrics in summary["metrics"].items()}
    # Only the training metrics that the other splits have as well.
    columns["train"] = {name: value for name, value in columns["train"].items() if name in columns["test"]}
    columns = {name: {"examples": summary["examples"][name], **metrics} for name, metrics in columns.items()}
    print_table(
        f"Parameters of step {summary['best_step']}; train: during the last steps, up to {summary['step']}", columns
    )
    remarks = [summary["reason"]] if summary["reason"] else []
    if skipped := summary["skipped_updates"]:
        remarks.append(f"{skipped} updates skipped, as loss or gradient was not finite")
    if pruned := summary.get("pruning"):
        print(f"pruned: {pruned['zeros']:,} of {pruned['weights']:,} weights are zero ({pruned['sparsity']:.2%})")
    print(_goodput(summary["goodput"]))
    print(f"done: {_WORKDIR.value}" + (f" ({'; '.join(remarks)})" if remarks else ""))


def _goodput(figures: Mapping[str, Any]) -> str:
    """Wall time by kind, and MFU with the rule by which FLOPs are counted."""
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in figures["seconds"].items())
    lines = [f"goodput {figures['goodput']:.1%}: {times}"]
    if speed := figures.get("model_flops_per_second"):
        peak = figures["peak_flops"]
        mfu = f"MFU {figures['mfu']:.1%} of {peak:.3g} FLOP/s" if peak else "MFU unknown (no peak known)"
        lines.append(f"{mfu}; {speed:.3g} FLOP/s ({figures['rule']})")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main)
