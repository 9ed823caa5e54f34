"""The code in docs/extending.md keeps the contracts of what is registered."""

import dataclasses
import json
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


def check_metric(objective, name, rows):
    """Checks the contract of a metric on outputs, labels and weights (n, ...) of some rows."""

    def measure(*parts):
        totals = [jax.device_get(objective.totals(*part, None, {})) for part in parts]
        return objective.metrics(jax.tree.map(lambda *leaves: sum(leaves), *totals), {})

    whole = measure(rows)
    assert isinstance(whole[name], float)
    json.dumps(whole[name], allow_nan=False)
    low, high = objective.bounds[name]
    assert low <= whole[name] <= high
    assert isinstance(objective.higher_is_better(name), bool)
    assert objective.monitored_metric(name)[0] == name
    halves = [tuple(values[part] for values in rows) for part in (slice(0, 7), slice(7, None))]
    assert measure(*halves) == pytest.approx(whole)
    padded = [jnp.concatenate([values, values[:5]]) for values in rows]
    padded[-1] = padded[-1].at[-5:].set(0)
    assert measure(tuple(padded)) == pytest.approx(whole)
    return whole[name]


def test_the_metric_keeps_the_contract_of_metrics(monkeypatch):
    kind = run("class WithTopTwo", **OBJECTIVE_NAMES)["WithTopTwo"]
    monkeypatch.setitem(objectives.OBJECTIVES, "with_top_two", kind)
    test_objectives.test_every_objective_measures_what_it_says("with_top_two")
    assert objectives.bounds("top2_accuracy") == (0.0, 1.0)
    generator = np.random.default_rng(0)
    outputs, labels = generator.normal(size=(20, 3)), generator.integers(0, 3, 20)
    rows = jnp.asarray(outputs, jnp.float32), jnp.asarray(labels, jnp.int32), jnp.ones(20)
    found = check_metric(kind(features=CLASSES), "top2_accuracy", rows)
    # Of three classes the label is among the two most likely ones unless it is the least likely.
    assert found == pytest.approx((outputs.argmin(axis=-1) != labels).mean())


def test_the_finding_keeps_the_contract_of_diagnostics(tmp_path):
    diagnostic = run("similar_class_names")["DIAGNOSTIC"]
    assert isinstance(diagnostic, Diagnostic)
    rows = "".join(f"{number},{name}\n" for number, name in enumerate(["cat", "dog", "Cat ", "dog"] * 10))
    (tmp_path / "set.csv").write_text(f"x,y\n{rows}")
    planted = test_registry.open_table(tmp_path / "set.csv", "y")
    clean = test_registry.clean_table(tmp_path)
    test_registry.check_contract(diagnostic, clean, planted, tmp_path, dict.fromkeys(diagnostic.names, "medium"))
