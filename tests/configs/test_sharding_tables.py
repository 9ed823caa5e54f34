"""How the shipped configs lie over eight devices, as tables that a reviewer reads.

To update them after an intended change, run this file with PLUMBLINE_WRITE_TABLES=1.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import pytest

import data
from data import Features
from tests.configs.conftest import NAMES, PRETRAINED, load
from trainers.building import build_training, fitted_arrays
from trainers.devices.mesh import make_mesh
from trainers.devices.sharding import placements, table

TABLES = pathlib.Path(__file__).parent / "sharding"


def image(size, classes):
    names = tuple(map(str, range(classes)))
    return Features(kind="image", shape=(size, size, 3), dtype="uint8", task="classification", class_names=names)


# What an example is where the data are not at hand.
FEATURES = {
    "cifar10_resnet18": image(32, 10),
    "gpt_tinyshakespeare": Features(kind="text", shape=(64,), dtype="int32", task="language", vocabulary=66),
    "image_folder": image(64, 10),
    "imagenet_resnet50": image(224, 1000),
    "imagenet_vit_s16": image(224, 1000),
    "transfer_resnet50": image(224, 10),
    "transfer_text_minilm": Features(
        kind="text", shape=(128,), dtype="int32", task="classification", class_names=("0", "1"), vocabulary=30_522
    ),
    "transfer_vit_b16": image(224, 10),
}


def placed(name):
    """Mesh, shapes and shardings of a config's train state."""
    config = load(name)
    config.model.name = PRETRAINED.get(name, config.model.name)
    if name == "table":
        config.data.source, config.data.target = "sklearn:breast_cancer", ""
    features, fit = FEATURES.get(name), {}
    if features is None:
        dataset = data.load(config.data, seed=config.seed)
        features, fit = dataset.features, fitted_arrays(dataset)
    # A linear model has nothing for the tensor axis.
    tensor = 1 if config.model.name == "linear" else 2
    mesh = make_mesh(ml_collections.ConfigDict({"data": 1, "fsdp": -1, "tensor": tensor}))
    training = build_training(config, features, fit, num_examples=config.data.num_examples or 100_000, mesh=mesh)
    return mesh, training.shapes, training.shardings


@pytest.mark.parametrize("name", NAMES)
def test_parameters_lie_as_the_table_says(name):
    text = table(*placed(name))
    path = TABLES / f"{name}.txt"
    if os.environ.get("PLUMBLINE_WRITE_TABLES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_bytes_of_a_table_are_those_of_the_arrays():
    _, state, shardings = placed("digits_vit")
    arrays = jax.tree.map(
        lambda leaf, sharding: jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), sharding),
        state.params,
        shardings.params,
    )
    held = [array.addressable_shards[0].data.nbytes for array in jax.tree.leaves(arrays)]
    assert [placement.device_bytes for placement in placements(state.params, shardings.params)] == held
