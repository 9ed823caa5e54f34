"""Estimates memory, time and cost of a training before it starts, by compiling its real step for devices that need not
be present.

    plumbline plan --config=configs/imagenet_vit_s16.py --device=v5e:16x16
    plumbline plan --config=configs/imagenet_vit_s16.py --device=v5e:4x4 --search
    plumbline plan --config=configs/digits_vit.py --device=cpu

Flags:
    --config=FILE[:ARGUMENT]   a config file; --config.FIELD=VALUE changes a field
    --device=NAME              v5e:4x4, v5p:4x4x4, v6e:8x8, h100:8, cpu (the default); an unknown name lists all
    --search                   try mesh shapes and batch sizes, and rank them
    --remedies                 find remat policies or accumulation that need less memory; always on where a step does
                               not fit
    --compilations=N           the most programs that --search or --remedies compiles; 8 by default
    --table                    print how each parameter is sharded, and its bytes on each device
    --examples=N --classes=N   number of training examples and classes, if neither the data nor the config gives them
    --prices=FILE              a table of prices like diagnostics/cost/prices.toml
    --output=FILE              also write all figures as JSON

TPUs need the extra `plan-tpu`: .venv/bin/pip install -c constraints.txt -e '.[plan-tpu]'
"""

import json
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags

from diagnostics.cost import prices
from diagnostics.cost import target as targets
from experiments import command
from experiments.path_flags import check_output, define_path
from plumbline import UserError
from plumbline.files import write_text

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_DEVICE = flags.DEFINE_string("device", "cpu", "Devices.")
_SEARCH = flags.DEFINE_bool("search", False, "Try mesh shapes and batch sizes.")
_REMEDIES = flags.DEFINE_bool("remedies", False, "Find what needs less memory.")
_COMPILATIONS = flags.DEFINE_integer("compilations", 8, "The most programs to compile.")
_TABLE = flags.DEFINE_bool("table", False, "Print how each parameter is sharded.")
_EXAMPLES = flags.DEFINE_integer("examples", 0, "Training examples.")
_CLASSES = flags.DEFINE_integer("classes", 0, "Classes.")
_PRICES = flags.DEFINE_string("prices", "", "Table of prices.")
_OUTPUT = define_path("output", None, "JSON file for the figures.")


def main(words: list[str]) -> None:
    """Plans and prints."""
    command.refuse(words)
    command.require(config=_CONFIG.value)
    check_output(_OUTPUT.value, (".json", ""))
    for name, flag in (("examples", _EXAMPLES), ("classes", _CLASSES), ("compilations", _COMPILATIONS)):
        if flag.value < 0:
            raise UserError(f"--{name}: {flag.value} given; it must be at least 0")
    config = _CONFIG.value
    config.data.num_examples = _EXAMPLES.value or config.data.num_examples
    config.data.num_classes = _CLASSES.value or config.data.num_classes
    # Check what needs no JAX before importing it, and set what JAX reads at import.
    target = targets.parse(_DEVICE.value)
    price = prices.read(_PRICES.value, target.name)
    targets.set_environment(target)
    targets.deepen_stack(target)
    devices = targets.devices(target)

    from diagnostics.cost import report
    from diagnostics.cost.program import examples_of, make_training
    from diagnostics.cost.search import Planner
    from trainers.devices.sharding import table
    from trainers.run import transfer

    config = transfer.resolve(config)
    examples = examples_of(config)
    training = make_training(config, examples, devices)
    if _TABLE.value:
        print(table(training.mesh, training.shapes, training.shardings))
    planner = Planner(config, examples, target, devices, price, _note)
    _note(f"compiling for {target.text} ...")
    estimate = planner.estimate(training)
    report.print_estimate(estimate)
    figures: dict[str, Any] = estimate.to_json()
    if _REMEDIES.value or not estimate.fits:
        tried = planner.remedies(_COMPILATIONS.value)
        report.print_remedies(tried)
        figures["remedies"] = [each.to_json() for each in tried]
    if _SEARCH.value:
        tried, candidates = planner.search(_COMPILATIONS.value)
        report.print_search(tried, candidates)
        figures["search"] = [each.to_json() for each in tried]
    if _OUTPUT.value:
        write_text(_OUTPUT.value, json.dumps(figures, indent=2) + "\n")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command.run(main)
