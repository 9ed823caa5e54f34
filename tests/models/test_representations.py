"""What each layer makes of an example, against forward passes that are written out here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.regularization import Regularization
from tests.conftest import COMPILER_OPTIONS

VIT = {"width": 16, "heads": 4, "mlp_size": 24, "patch_size": 2, "depth": 3}
CONVNEXT = {"patch_size": 2, "depths": (1, 1, 2, 1), "widths": (8, 10, 12, 16)}
NO_REGULARIZATION = Regularization.from_arguments(training=False, key=None)


def representations(model, inputs):
    """By name, in their order, which a dict loses on its way out of jit."""
    graphdef, state = nnx.split(model)
    names = []

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def program(state, inputs):
        found = nnx.merge(graphdef, state).representations(inputs)
        names.extend(found)
        return list(found.values())

    return dict(zip(names, map(np.asarray, program(state, inputs)), strict=True))


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(0), (3, 16, 16, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields", "sizes"),
    [
        ("linear", {}, {"features": 256}),
        ("mlp", {"hidden_sizes": (12, 10, 8)}, {"hidden/0": 12, "hidden/1": 10, "features": 8}),
        ("mlp", {"hidden_sizes": ()}, {"features": 256}),
        ("resnet", {"width": 4}, {"stem": 4, "stages/0": 4, "stages/1": 8, "stages/2": 16, "features": 32}),
        (
            "resnet",
            {"width": 4, "depth": 50},
            {"stem": 4, "stages/0": 16, "stages/1": 32, "stages/2": 64, "features": 128},
        ),
        (
            "convnext",
            CONVNEXT,
            {"stem": 8, "stages/0": 8, "stages/1": 10, "stages/2": 12, "stages/3": 16, "features": 16},
        ),
        ("vit", VIT, {"embedding": 16, "blocks/0": 16, "blocks/1": 16, "blocks/2": 16, "features": 16}),
        (
            "vit",
            VIT | {"pooling": "token_and_mean", "depth": 5},
            {"embedding": 16} | {f"blocks/{block}": 16 for block in range(5)} | {"features": 32},
        ),
    ],
)
def test_layers_come_in_order_from_the_inputs_on(make_random, images, name, fields, sizes):
    model = make_random(name, (16, 16, 1), **fields)
    found = representations(model, images)
    assert [(layer, values.shape) for layer, values in found.items()] == [(n, (3, size)) for n, size in sizes.items()]
    np.testing.assert_allclose(found["features"], model.features(images), rtol=1e-4, atol=1e-5)


def test_the_first_layer_of_a_table_with_categories_is_its_columns_with_their_embeddings(make_random):
    model = make_random("mlp", (4,), categories=(3, 5), hidden_sizes=(6,), embedding_size=2)
    inputs = jnp.array([[0.5, -1.0, 2.0, 4.0], [0.0, 1.0, 1.0, 0.0]])
    found = representations(model, inputs)
    assert list(found) == ["embeddings", "features"]
    first, second = (np.asarray(embedding.embedding[...]) for embedding in model.embeddings)
    expected = np.stack([[0.5, -1.0, *first[2], *second[4]], [0.0, 1.0, *first[1], *second[0]]])
    np.testing.assert_allclose(found["embeddings"], expected, rtol=1e-6)


@pytest.mark.parametrize("pooling", ["token", "mean", "token_and_mean"])
def test_the_last_block_normalised_and_pooled_is_the_features_of_a_vision_transformer(make_random, images, pooling):
    model = make_random("vit", (16, 16, 1), pooling=pooling, **VIT)
    tokens, first = model._embed(images), pooling != "mean"
    expected = {"embedding": tokens[:, first:].mean(axis=1)}
    graphdef, stacked = nnx.split(model.blocks)
    for block in range(VIT["depth"]):
        one = nnx.merge(graphdef, jax.tree.map(lambda leaf, block=block: leaf[block], stacked))
        tokens = one(tokens, NO_REGULARIZATION, block, 0.0)
        expected[f"blocks/{block}"] = tokens[:, first:].mean(axis=1)
    normalized = model.norm(tokens)
    mean = normalized[:, first:].mean(axis=1)
    pooled = {"token": normalized[:, :1].reshape(3, -1), "mean": mean}
    pooled["token_and_mean"] = np.concatenate([pooled["token"], mean], axis=1)
    expected["features"] = pooled[pooling]
    found = representations(model, images)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
        assert np.ptp(values, axis=0).max() > 0, name


def test_stages_of_a_convolutional_network_are_averaged_over_positions(make_random, images):
    model = make_random("convnext", (16, 16, 1), **CONVNEXT)
    graphdef, state = nnx.split(model)

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def by_hand(state, images):
        model = nnx.merge(graphdef, state)
        values = model.stem_norm(model.stem(images))
        expected = {"stem": values.mean(axis=(1, 2))}
        for number, stage in enumerate(model.stages):
            values = stage.enter(values)
            for block in stage.blocks:
                values = values + block(values)
            expected[f"stages/{number}"] = values.mean(axis=(1, 2))
        return expected | {"features": model.norm(expected["stages/3"])}

    expected, found = by_hand(state, images), representations(model, images)
    assert expected.keys() == found.keys()
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], each, rtol=1e-3, atol=1e-4, err_msg=name)


def test_statistics_of_norms_are_those_of_training_and_stay(make_random, images):
    model = make_random("resnet", (16, 16, 1), width=4)
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    alone, together = (representations(model, images[:count])["stages/1"][:1] for count in (1, 3))
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), before)
