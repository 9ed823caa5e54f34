"""A small training in memory, for tests of single steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data import Features, preprocessing
from trainers import hyperparameters
from trainers.loop import build_program, make_clock
from trainers.step import make_train_step

FEATURES = Features(
    kind="image", shape=(8, 8, 1), dtype="uint8", task="classification", class_names=tuple("0123456789")
)


class Training:
    """Program, first state and batches of a config on random images."""

    def __init__(self, config, num_examples=256):
        generator = np.random.default_rng(0)
        self.config = config
        self.inputs = generator.integers(0, 256, (num_examples, 8, 8, 1), dtype=np.uint8)
        self.labels = generator.integers(0, 10, num_examples).astype(np.int32)
        fitted = preprocessing.fit(FEATURES, self.inputs, self.labels, normalize="fitted")
        self.program, self.init = build_program(config, FEATURES, make_clock(config, num_examples))
        self.train_step = make_train_step(self.program)
        arguments = jnp.uint32(config.seed), hyperparameters.from_config(config), jax.tree.map(jnp.asarray, fitted)
        self.state = jax.jit(self.init)(*arguments)

    def batch(self, step):
        rows = (np.arange(self.config.train.batch_size) + step * self.config.train.batch_size) % len(self.labels)
        return {
            "inputs": jnp.asarray(self.inputs[rows]),
            "labels": jnp.asarray(self.labels[rows]),
            "weight": jnp.ones(len(rows)),
            "index": jnp.asarray(rows.astype(np.int32)),
        }


@pytest.fixture
def make_training():
    """Makes a `Training` of a small multilayer perceptron, with config fields changed."""

    def make(**fields):
        config = defaults.get_config()
        config.update_from_flattened_dict(
            {
                "model.name": "mlp",
                "model.mlp.hidden_sizes": (16,),
                "train.batch_size": 32,
                "train.duration": "100 steps",
                "schedule.name": "constant",
                "schedule.warmup": "",
                **{name.replace("__", "."): value for name, value in fields.items()},
            }
        )
        return Training(config)

    return make


@pytest.fixture
def assert_trees_equal():
    """Compares two trees leaf by leaf, to the bit or within tolerances."""

    def compare(actual, expected, rtol=0.0, atol=0.0):
        def leaf(a, b):
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)

        assert jax.tree.structure(actual) == jax.tree.structure(expected)
        jax.tree.map(leaf, actual, expected)

    return compare
