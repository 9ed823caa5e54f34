"""Trainings on the rows that an audit leaves."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import defaults
from data import load
from data.row_lists import FILE, RowLists, write
from plumbline import UserError
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override

FIELDS = {
    "data.source": "sklearn:iris",
    "data.drop": "findings:twice",
    "data.weights": "findings:doubtful",
    "model.name": "linear",
    "train.duration": "20 steps",
    "train.batch_size": 16,
    "train.checkpoint_every": "10 steps",
    "train.tensorboard": False,
    "execution.mode": "loop",
}


@pytest.fixture
def config(tmp_path):
    config = override(defaults.get_config(), FIELDS | {"data.findings": str(tmp_path / "audit")})
    part = load(override(config, {"data.drop": "", "data.weights": ""}).data, seed=0).parts["train"]
    factors = np.where(np.arange(150) < 50, 0, 1).astype(np.float32)
    findings = {"twice": RowLists(drop={part: np.arange(140, 150)}), "doubtful": RowLists(weights={part: factors})}
    write(tmp_path / "audit" / FILE, findings, [part])
    return config


def test_a_run_keeps_the_lists_and_needs_the_audit_no_more(config, tmp_path):
    whole = train(config, tmp_path / "run", devices=jax.devices()[:1])
    assert whole["examples"]["train"] < 75  # Of 108, setosa has no weight, and ten are left out.
    shutil.rmtree(tmp_path / "audit")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "20")
    (tmp_path / "run" / "status.json").write_text(json.dumps({"status": "preempted", "step": 10, "reason": ""}))
    again = train(config, tmp_path / "run", devices=jax.devices()[:1])
    assert again["metrics"]["test"] == whole["metrics"]["test"]
    assert again["examples"] == whole["examples"]
    assert FinishedRun(tmp_path / "run").evaluate("test")["accuracy"] == whole["metrics"]["test"]["accuracy"]


def test_a_run_whose_lists_are_lost_says_so(config, tmp_path):
    train(config, tmp_path / "run", devices=jax.devices()[:1])
    (tmp_path / "run" / "rows.npz").unlink()
    with pytest.raises(UserError, match=r"--workdir: '.*rows\.npz' is missing or damaged"):
        FinishedRun(tmp_path / "run")
