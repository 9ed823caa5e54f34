"""Your own table: a CSV (also .gz) or Parquet file; one column is predicted from the others.

    plumbline train --config=configs/table.py:PATH,target=COLUMN --workdir=runs/table

More options, separated by commas: `group=COLUMN`, `weight=COLUMN`, and `task=classification` or `task=regression`; by
default the values of the target decide. Test rows are 20 percent of the file, or another file:
--config.data.test=PATH.
"""

import difflib

from configs import defaults

_OPTIONS = ("target", "group", "weight", "task")


def get_config(argument=""):
    # Options come last; the path may contain commas.
    path, options = argument, {}
    while "," in path and "=" in path.rpartition(",")[2]:
        path, _, option = path.rpartition(",")
        name, value = option.split("=", 1)
        options[name] = value
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown or not path or not options.get("target"):
        problem = _describe(unknown[0]) if unknown else "path or target missing"
        raise ValueError(f"configs/table.py: {problem}; write configs/table.py:PATH,target=COLUMN")

    config = defaults.get_config()
    kind = "parquet" if path.endswith((".parquet", ".pq")) else "csv"
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
