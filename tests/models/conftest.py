"""Models made from the default config, and parameters that no initial zero hides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.defaults import get_config
from models import build


@pytest.fixture
def make_model():
    """Builds a model from `config.model` with some fields changed; a family's fields are named without its prefix."""

    def make(name, input_shape, *, categories=(), num_outputs=3, seed=0, dtype="float32", remat="none", **fields):
        options = get_config().model
        options.name, options.dtype, options.remat = name, dtype, remat
        options[name].update(fields)
        return build(
            options,
            input_shape=input_shape,
            categories=categories,
            num_outputs=num_outputs,
            key=jax.random.key(seed),
        )

    return make


@pytest.fixture
def make_random(make_model):
    """Builds a model as `make_model` does, with variables of `draw_variables` in place of the initial ones."""
    return lambda *arguments, **keywords: draw_variables(lambda: make_model(*arguments, **keywords))


@pytest.fixture
def randomize():
    """Makes a module and draws its variables; see `draw_variables`."""
    return draw_variables


@pytest.fixture
def as_numpy():
    """The variables of a module as nested dicts of float64 arrays."""

    def convert(module):
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), nnx.to_pure_dict(nnx.state(module)))

    return convert


def draw_variables(make, seed=0):
    """Draws every variable at random: zero-initialised scales and heads would hide what comes before them.

    The initial values are never computed, because compiling their generators takes longer than most tests.
    """
    module = nnx.eval_shape(make)
    generator = np.random.default_rng(seed)
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        shape = variable.get_value().shape
        if path[-1] in ("scale", "var"):
            values = generator.uniform(0.5, 1.5, shape)
        elif path[-1] == "kernel":
            # Blocks of a vision transformer are stacked along one more axis; a convolution has three axes of inputs.
            fan_in = np.prod(shape[:-1] if len(shape) == 4 else shape[-2:-1])
            values = generator.normal(0.0, fan_in**-0.5, shape)
        else:
            values = generator.normal(0.0, 0.3, shape)
        variable.set_value(jnp.asarray(values, jnp.float32))
    return module
