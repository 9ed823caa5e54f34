"""The code in docs/extending.md keeps the contracts of what is registered."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data import Features
from diagnostics.diagnostic import Diagnostic
from tests.diagnostics import test_registry
from tests.trainers.step import test_objectives
from trainers import settings
from trainers.step import objectives
from trainers.step.objective import mean

BLOCKS = re.findall(
    r"```python\n(.*?)```", (pathlib.Path(__file__).parent.parent / "docs/extending.md").read_text("utf-8"), re.DOTALL
)
OBJECTIVE_NAMES = {
    "dataclasses": dataclasses, "CrossEntropy": objectives.CrossEntropy, "jnp": jnp, "jax": jax, "mean": mean,
}  # fmt: skip
CLASSES = Features(kind="table", shape=(1,), dtype="float32", task="classification", class_names=("a", "b", "c"))


def run(text, **names):
    """Runs the one block that contains a text, and returns its names."""
    (block,) = (block for block in BLOCKS if text in block)
    exec(compile(block, "docs/extending.md", "exec"), names)
    return names


def test_the_config_passes_all_checks():
    config = run("def get_config():")["get_config"]()
    assert config.model.mlp.hidden_sizes == (256, 256)
    assert config.keys() == defaults.get_config().keys()
    settings.check(config)


def test_the_objective_is_the_focal_loss_and_keeps_the_contract(monkeypatch):
    focal = run("class Focal", **OBJECTIVE_NAMES)["Focal"]
    monkeypatch.setitem(objectives.OBJECTIVES, "focal", focal)
    test_objectives.test_every_objective_measures_what_it_says("focal")
    loss = focal(features=CLASSES).loss(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0]]))
    p = np.exp(2) / (np.exp(2) + 1)
    np.testing.assert_allclose(loss, [-((1 - p) ** 2) * np.log(p)], rtol=1e-5)


def test_the_metric_keeps_the_contract_of_metrics(monkeypatch):
    kind = run("class WithBrier", **OBJECTIVE_NAMES)["WithBrier"]
    monkeypatch.setitem(objectives.OBJECTIVES, "with_brier", kind)
    test_objectives.test_every_objective_measures_what_it_says("with_brier")
    test_objectives.test_every_metric_keeps_its_contract("with_brier")
    assert objectives.bounds("brier") == (0.0, 2.0)
    outputs, labels = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]]) + 1e-9), jnp.array([0, 2])
    objective = kind(features=CLASSES)
    totals = jax.device_get(objective.totals(outputs, labels, jnp.ones(2), None, {}))
    assert objective.metrics(totals, {})["brier"] == pytest.approx((0.09 + 0.04 + 0.01 + 0.25 + 0.25 + 1) / 2)


def test_the_finding_keeps_the_contract_of_diagnostics(tmp_path):
    diagnostic = run("def find(material")["DIAGNOSTIC"]
    assert isinstance(diagnostic, Diagnostic)
    row = run("def planted_names", **vars(test_registry))["ROW"][diagnostic.title]
    test_registry.check_contract(diagnostic, row.clean(tmp_path), row.planted(tmp_path), tmp_path, row.expected)
