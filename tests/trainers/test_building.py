import jax
import numpy as np
import pytest

from configs import defaults
from data import preprocessing
from plumbline import UserError
from tests.trainers.conftest import FEATURES
from trainers.building import build_training, training_mesh
from trainers.devices.mesh import data_mesh

FITTED = preprocessing.fit(FEATURES, np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2), normalize="fitted")


def config_of(**fields):
    config = defaults.get_config()
    small = {"model.name": "mlp", "model.mlp.hidden_sizes": (16,), "train.batch_size": 32}
    config.update_from_flattened_dict(small | {name.replace("__", "."): value for name, value in fields.items()})
    return config


def test_a_training_is_described_before_any_array_is_made():
    config = config_of(train__duration="3 epochs", seed=7)
    training = build_training(config, FEATURES, FITTED, num_examples=320, mesh=data_mesh(jax.devices()))
    assert training.clock.total_steps == 30
    assert training.init_arguments[0] == 7
    assert training.batch["inputs"].shape == (32, 8, 8, 1)
    assert training.num_parameters == 64 * 16 + 16 + 16 * 10 + 10
    # Two for each weight and example: forward, to the weights and, but for the first layer, to the inputs.
    assert training.model_flops == 2 * 32 * (2 * 64 * 16 + 3 * 16 * 10)
    state = jax.jit(training.init, out_shardings=training.shardings)(*training.init_arguments)
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), training.abstract_state)
    assert described == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), state)


def test_without_a_number_of_examples_only_the_form_of_the_state_is_known():
    forms = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), build_training(config, FEATURES, FITTED, **length).shapes)
        for config in [config_of(train__duration="3 epochs")]
        for length in ({}, {"num_examples": 320})
    ]
    assert forms[0] == forms[1]


def test_a_training_that_reads_features_has_the_same_state():
    training = build_training(config_of(), FEATURES, FITTED, num_examples=320)
    changed = training.reading_features()
    assert changed.shapes is training.shapes
    assert changed.shardings is training.shardings
    assert (training.program.reads_features, changed.program.reads_features) == (False, True)
    assert changed.batch["inputs"].shape == (32, 16)
    assert changed.model_flops < training.model_flops


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train__batch_size": 12}, r"train\.batch_size: 12 is not divisible over 8 parts"),
        ({"mesh__data": 3}, r"mesh: .*does not multiply to the 8 devices"),
        ({"parallel__mode": "pmpa"}, r"parallel\.mode: .*pmap"),
    ],
)
def test_a_mesh_that_does_not_fit_the_training_is_an_error(fields, message):
    with pytest.raises(UserError, match=message):
        training_mesh(config_of(**fields), jax.devices())
