"""A small training in memory, for tests of single steps."""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data import Features, preprocessing
from tests.conftest import COMPILER_OPTIONS
from trainers.building import build_program, make_clock
from trainers.devices.mesh import data_mesh, replicated
from trainers.devices.sharding import abstract
from trainers.run.checkpoints import Checkpoints
from trainers.run.directory import RunDirectory
from trainers.step import hyperparameters
from trainers.step.train_step import make_train_step, zero_metrics

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
        self.program, self.init = build_program(config, FEATURES)
        self.train_step = make_train_step(self.program)
        values = hyperparameters.from_config(config, make_clock(config, num_examples))
        self.arguments = jnp.uint32(config.seed), values, jax.tree.map(jnp.asarray, fitted)

    @functools.cached_property
    def state(self):
        """The first state. Compiling what draws it takes longer than many tests, and not all of them need it."""
        return jax.jit(self.init, compiler_options=COMPILER_OPTIONS)(*self.arguments)

    @property
    def abstract_state(self):
        return jax.eval_shape(self.init, *self.arguments)

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


class Runs:
    """What tests of whole runs share: a config in which everything has a state, and ways to look at run directories."""

    # Everything that has a state or draws random numbers, on a network with batch statistics.
    EVERYTHING = (
        "--config=configs/digits_resnet.py",
        "--config.model.resnet.depth=10",
        "--config.model.resnet.width=4",
        "--config.model.dropout=0.2",
        "--config.model.stochastic_depth=0.2",
        "--config.augment.shift=1",
        "--config.augment.mixup=0.3",
        "--config.train.accumulation_steps=2",
        "--config.train.ema_decay=0.9",
        "--config.train.batch_size=16",
        "--config.train.log_every=7 steps",
        "--config.train.evaluate_every=10 steps",
        "--config.train.checkpoint_every=8 steps",
        "--config.train.tensorboard=False",
    )

    def final_state(self, workdir):
        """Every array of the last checkpoint, by path."""
        directory = RunDirectory(workdir)
        config, features = directory.config(), directory.features()
        program, init = build_program(config, features)
        values = hyperparameters.from_config(config, make_clock(config, 1000))
        arguments = jax.numpy.uint32(0), values, directory.fitted_arrays()
        whole = replicated(data_mesh(jax.devices()[:1]))
        state = abstract(jax.eval_shape(init, *arguments), whole)
        checkpoints = Checkpoints(directory.checkpoints, read_only=True)
        checkpoint = checkpoints.restore(state, abstract(jax.eval_shape(lambda: zero_metrics(program)), whole))
        checkpoints.close()
        leaves = jax.tree_util.tree_flatten_with_path((checkpoint.state, checkpoint.running, checkpoint.best.state))[0]
        return {jax.tree_util.keystr(path): np.asarray(_numbers(leaf)) for path, leaf in leaves}

    def logged(self, workdir):
        return [{k: v for k, v in line.items() if k != "time"} for line in RunDirectory(workdir).metrics()]

    def assert_runs_equal(self, one, other):
        expected, actual = self.final_state(one), self.final_state(other)
        assert expected.keys() == actual.keys()
        assert any("ema" in path for path in expected)
        assert any("model_state" in path for path in expected)
        for path, array in expected.items():
            np.testing.assert_array_equal(actual[path], array, err_msg=path)
        assert self.logged(one) == self.logged(other)
        metrics = [json.loads((workdir / "summary.json").read_text())["metrics"] for workdir in (one, other)]
        assert metrics[0] == metrics[1]

    def wait_for(self, condition, process, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, "the run ended before it could be stopped"
            assert time.monotonic() < end
            time.sleep(0.01)

    def checkpoint_steps(self, workdir):
        return {int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()}

    def logged_step(self, workdir):
        """The last step that was logged; 0 before the first, or while a line is being written."""
        return max((line["step"] for line in RunDirectory(workdir).metrics()), default=0)


def _numbers(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


@pytest.fixture(scope="session")
def runs():
    return Runs()
