"""A worker of a study in a process of its own: `python study_worker.py JSON`; the objective is a known function."""

import json
import math
import pathlib
import sys
import time

from configs import digits_mlp
from tuning.space_parsing import parse
from tuning.study import Study

SPACE = {
    "optimizer.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True, "step": 10},
    "model.dropout": [0.0, 0.2, 0.4],
    "optimizer.name": ["adamw", "sgd"],
    "optimizer.momentum": {"low": 0.0, "high": 0.9, "step": 0.3, "when": {"optimizer.name": "sgd"}},
}


def space():
    return parse(SPACE, digits_mlp.get_config())


def value(overrides):
    return -((math.log10(overrides["optimizer.learning_rate"]) + 2) ** 2) - overrides["model.dropout"]


def opened(workdir, *, sampler="tpe", storage=None, worker="one", name=None, **options):
    return Study(
        storage=storage,
        name=name,
        workdir=pathlib.Path(workdir),
        worker=worker,
        space=space(),
        sampler=sampler,
        seed=0,
        directions=["maximize"],
        settings={"folds": 3},
        **options,
    )


def main(given):
    batch, seconds, trials = given.pop("batch"), given.pop("seconds"), given.pop("trials")
    with opened(**given) as study:
        study.fill(list(space().grid()) if given["sampler"] == "grid" else [{}] * trials)
        while True:
            taken = study.take(batch)
            for trial in taken:
                print(f"begin {trial.number}", flush=True)
            time.sleep(seconds)
            for trial in taken:
                if not trial.finished:
                    attributes = {"worker": given["worker"], "scores": {"accuracy": [value(trial.overrides)]}}
                    if study.tell(trial.number, [value(trial.overrides)], attributes=attributes):
                        print(f"stored {trial.number}", flush=True)
            if not taken and not [r for r in study.records() if r.status in ("running", "waiting")]:
                break


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
