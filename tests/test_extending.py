"""The code in docs/extending.md works as it stands there."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from configs import defaults
from data import Features
from trainers.step import objectives

BLOCKS = re.findall(
    r"```python\n(.*?)```", (pathlib.Path(__file__).parent.parent / "docs/extending.md").read_text("utf-8"), re.DOTALL
)


def run(block, **names):
    exec(compile(block, "docs/extending.md", "exec"), names)
    return names


def test_the_config_is_one():
    config = run(BLOCKS[0])["get_config"]()
    assert config.model.mlp.hidden_sizes == (256, 256)
    assert config.keys() == defaults.get_config().keys()


def test_the_model_is_one():
    from flax import nnx

    model = run(BLOCKS[1])["TwoTowers"](input_shape=(4, 2), categories=(), num_outputs=3, rngs=nnx.Rngs(0))
    assert model(jnp.ones((5, 4, 2))).shape == (5, 3)


def test_the_objective_is_one():
    names = {"dataclasses": dataclasses, "CrossEntropy": objectives.CrossEntropy, "jnp": jnp, "jax": jax}
    features = Features(kind="table", shape=(1,), dtype="float32", task="classification", class_names=("a", "b"))
    focal = run(BLOCKS[2], **names)["Focal"](features=features)
    loss = focal.loss(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0]]))
    p = np.exp(2) / (np.exp(2) + 1)
    np.testing.assert_allclose(loss, [-((1 - p) ** 2) * np.log(p)], rtol=1e-5)
