"""Run directories that an earlier version wrote still open: `tests/references/runs/README.md` says what they are."""

import json
import pathlib
import re
import tarfile

import numpy as np
import pytest

RUNS = pathlib.Path(__file__).parent / "references" / "runs"
# What the version that wrote the run reached in all 3000 steps, without the stop.
REACHED = {
    "table": {"accuracy": 0.9824561403508771, "loss": 0.038726117657987696},
    "images": {"accuracy": 0.8979057591623036, "loss": 0.31844234466552734},
}
INTERVALS = ("duration", "log_every", "evaluate_every", "checkpoint_every")
FIXED = ("--config.train.tensorboard=False", "--config.execution.mode=loop")
SMALL = (
    "--config=configs/breast_cancer_mlp.py",
    "--config.train.duration=20 steps",
    "--config.train.evaluate_every=20 steps",
    "--config.model.mlp.hidden_sizes=(4,)",
)


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks an earlier run; returns its directory."""

    def unpack(name):
        with tarfile.open(RUNS / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / name

    return unpack


@pytest.mark.parametrize("name", REACHED)
def test_a_stopped_run_answers_and_then_ends_where_it_would_have(command, unpacked, name):
    workdir = unpacked(name)
    table = command("evaluate", f"--workdir={workdir}", "--split=validation").stdout
    evaluated = {metric: float(re.search(rf"\b{metric} +│ +([0-9.]+)", table)[1]) for metric in REACHED[name]}
    written = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for metric, value in evaluated.items():
        assert value == pytest.approx(written[-1][metric], abs=1e-4)
    predicted = command("predict", f"--workdir={workdir}", "--split=test", "--limit=3").stdout.splitlines()
    assert [sum(json.loads(line)["probabilities"].values()) for line in predicted] == pytest.approx([1.0] * 3)

    config = json.loads((workdir / "config.json").read_text())
    flags = {
        "table": ["--config.train.ema_decay=0.9", "--config.model.mlp.hidden_sizes=(8,)"],
        "images": [],
    }[name]
    intervals = (f"--config.train.{each}={config['train'][each]}" for each in INTERVALS)
    recipe = {"table": "breast_cancer_mlp", "images": "digits_linear"}[name]
    command("train", f"--config=configs/{recipe}.py", f"--workdir={workdir}", *FIXED, *flags, *intervals)
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["step"] == 3000
    for metric, value in REACHED[name].items():
        assert summary["metrics"]["test"][metric] == pytest.approx(value, rel=1e-3)


def test_a_cross_validation_gives_the_same_results_again(command, unpacked):
    workdir = unpacked("crossvalidate")
    before = json.loads((workdir / "summary.json").read_text())
    with np.load(workdir / "out_of_fold.npz") as arrays:
        rows = {name: arrays[name] for name in arrays.files}
    finished = command("crossvalidate", *SMALL, "--folds=3", f"--workdir={workdir}")
    after = json.loads((workdir / "summary.json").read_text())
    assert after["folds"] == before["folds"], finished.stderr
    with np.load(workdir / "out_of_fold.npz") as arrays:
        for name, values in rows.items():
            np.testing.assert_array_equal(arrays[name], values)


def test_a_sweep_gives_the_same_trials_again(command, unpacked):
    workdir = unpacked("sweep")
    before = (workdir / "trials.csv").read_text()
    command("sweep", *SMALL, "--sampler=random", "--trials=4", f"--workdir={workdir}")
    assert (workdir / "trials.csv").read_text() == before
