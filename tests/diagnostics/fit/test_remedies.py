import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from data.features import Column, Features
from diagnostics.fit import remedies
from trainers import settings
from trainers.building import build_program, make_clock
from trainers.settings import override
from trainers.step import hyperparameters

DIGITS = Features(kind="image", shape=(8, 8, 1), dtype="uint8", task="classification", class_names=tuple("0123456789"))
PHOTOS = Features(kind="image", shape=(32, 32, 3), dtype="uint8", task="classification", class_names=("cat", "dog"))
COLUMNS = tuple(Column(name=name, kind="numeric") for name in "abc")
TABLE = Features(kind="table", shape=(3,), dtype="float32", task="regression", columns=COLUMNS)
TEXTS = Features(kind="text", shape=(16,), dtype="int32", task="classification", class_names=("a", "b"), vocabulary=50)
CASES = [
    ("digits_linear", DIGITS),
    ("digits_mlp", DIGITS),
    pytest.param("digits_resnet", DIGITS, marks=pytest.mark.slow),
    ("digits_vit", DIGITS),
    pytest.param("cifar10_resnet18", PHOTOS, marks=pytest.mark.slow),
    ("diabetes_mlp", TABLE),
]


def offered(config, features):
    found = (*remedies.against_overfitting(config, features), *remedies.against_underfitting(config, features))
    return (*found, *remedies.lower_rate(config)[1:])


def check(config, features):
    settings.check(config)
    settings.check_task(config, features)
    _, init = build_program(config, features)
    clock = make_clock(config, 1000)
    fitted = {"label_mean": jnp.float32(0), "label_std": jnp.float32(1), "mean": jnp.zeros(1), "std": jnp.ones(1)}
    jax.eval_shape(init, jnp.uint32(0), hyperparameters.from_config(config, clock), fitted)


@pytest.mark.parametrize(("name", "features"), CASES)
def test_every_remedy_changes_its_config_into_one_that_can_be_trained(name, features):
    config = importlib.import_module(f"configs.{name}").get_config()
    known = settings.fields(config)
    found = offered(config, features)
    assert len(found) >= 5
    for remedy in found:
        changed = override(config, remedy.overrides)
        assert any(known[path] != settings.fields(changed)[path] for path in remedy.overrides), remedy
        check(changed, features)


def names(found):
    return {path for remedy in found for path in remedy.overrides}


def test_only_what_the_model_and_the_data_have_a_use_for_is_offered():
    config = importlib.import_module("configs.digits_linear").get_config()
    against = names(remedies.against_overfitting(config, DIGITS))
    assert "augment.shift" in against
    assert "model.dropout" not in against
    assert names(remedies.against_underfitting(config, DIGITS)) >= {"model.name", "train.duration"}
    config = importlib.import_module("configs.diabetes_mlp").get_config()
    against = names(remedies.against_overfitting(config, TABLE))
    assert not any(path.startswith(("augment", "objective")) for path in against)
    assert against >= {"model.dropout", "model.mlp.hidden_sizes", "train.patience"}
    assert "augment.mixup" not in names(remedies.against_overfitting(defaults.get_config(), TEXTS))


def test_what_is_there_already_is_not_offered_again_and_what_is_not_possible_never():
    config = importlib.import_module("configs.digits_mlp").get_config()
    config.train.patience, config.augment.shift, config.objective.label_smoothing = "10 epochs", 1, 0.1
    against = names(remedies.against_overfitting(config, DIGITS))
    assert not against & {"train.patience", "augment.shift", "objective.label_smoothing"}
    config.train.patience, config.data.validation = "", "none"
    assert "train.patience" not in names(remedies.against_overfitting(config, DIGITS))
    # The sizes of a pretrained model are not for the config to choose.
    config.transfer.source = "runs/other"
    assert "model.mlp.hidden_sizes" not in names(remedies.against_overfitting(config, DIGITS))


def test_amounts_go_up_from_what_is_there():
    config = importlib.import_module("configs.digits_mlp").get_config()
    config.model.dropout = 0.2
    changes = {}
    for remedy in remedies.against_overfitting(config, DIGITS):
        changes |= remedy.overrides
    assert changes["model.dropout"] == 0.4
    assert changes["optimizer.weight_decay"] == 1.0
    assert changes["model.mlp.hidden_sizes"] == (64, 64)
    assert remedies.longer(config)[0].overrides == {"train.duration": "200 epochs"}
    rates = [remedy.overrides.get("optimizer.learning_rate") for remedy in remedies.lower_rate(config)]
    np.testing.assert_allclose(rates[0], 1e-4)
