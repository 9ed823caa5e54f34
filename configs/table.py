"""Your own table: a CSV (also compressed) or Parquet file; one column is predicted from the others.

    plumbline train --config=configs/table.py:PATH,target=COLUMN --workdir=runs/table

More options, separated by commas: `group=COLUMN`, `weight=COLUMN`, and `task=classification` or `task=regression`; by
default the values of the target decide. Quote a path or a column with a comma, as in "configs/table.py:'a,b.csv',
target='x, y'". Path and target may be left out for --config.data.source=csv:PATH and --config.data.target=COLUMN. Test
rows are 20 percent of the file, or another file: --config.data.test=PATH.
"""

import difflib
import os
import pathlib

from configs import arguments, defaults

_HOW = "write configs/table.py:PATH,target=COLUMN, with quotes around names that contain a comma"
_OPTIONS = ("target", "group", "weight", "task")


def get_config(argument=""):
    path, options = _parse(argument)
    config = defaults.get_config()
    is_parquet = path.lower().endswith((".parquet", ".pq")) or (path and _file(path).is_dir())
    kind = "parquet" if is_parquet else "csv"
    config.data.source = f"{kind}:{path}"
    config.data.update(options)

    config.model.name = "mlp"
    config.model.mlp.hidden_sizes = (128, 64)
    config.model.dropout = 0.2

    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01

    config.train.duration = "20 epochs"
    config.train.batch_size = 128
    config.train.best_metric = "loss"
    config.train.patience = "5 epochs"
    return config


def _parse(argument):
    path, options, unknown = arguments.split(argument, _OPTIONS)
    if unknown and not _file(path).exists():
        raise ValueError(f"configs/table.py: {_describe(unknown[0])}; {_HOW}")
    if not path and not options:
        raise ValueError(f"configs/table.py: path or target missing; {_HOW}")
    return path, options


def _file(path):
    return pathlib.Path(os.path.expanduser(path))  # noqa: PTH111 (this one leaves an unknown ~name as it is)


def _describe(option):
    near = difflib.get_close_matches(option, _OPTIONS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown option '{option}'; {hint}known: {', '.join(_OPTIONS)}"


def sweep():
    return {
        "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "step": 10},
        "optimizer.weight_decay": {"low": 1e-4, "high": 1.0, "log": True, "step": 10},
        "model.dropout": {"low": 0.0, "high": 0.4, "step": 0.1},
        "model.mlp.hidden_sizes": [(64,), (128, 64), (256, 128)],
    }


def ablations():
    return {
        "baseline": {},
        "no dropout": {"model.dropout": 0.0},
        "no weight decay": {"optimizer.weight_decay": 0.0},
        "one hidden layer": {"model.mlp.hidden_sizes": (64,)},
    }
