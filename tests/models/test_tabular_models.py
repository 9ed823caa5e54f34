"""The linear model and the MLP against NumPy, on tables whose last columns are category codes."""

import jax
import numpy as np
import pytest
import scipy.special

from plumbline import UserError

CATEGORIES = (3, 7)
NUMERIC = np.asarray([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [0.0, 3.0]])
CODES = np.asarray([[0, 6], [2, 0], [1, 3], [2, 5]])
TABLE = np.concatenate([NUMERIC, CODES], axis=1).astype(np.float32)

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * scipy.special.expit(x),
    # jax.nn.gelu's default: the tanh approximation (Hendrycks and Gimpel 2016, section 2).
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


def test_linear_model_reads_numbers_and_one_hot_codes(make_random, as_numpy):
    model = make_random("linear", (4,), categories=CATEGORIES)
    rows = np.concatenate([NUMERIC, np.eye(3)[CODES[:, 0]], np.eye(7)[CODES[:, 1]]], axis=1)
    np.testing.assert_array_equal(model.features(jax.numpy.asarray(TABLE)), rows)
    head = as_numpy(model)["head"]
    expected = rows @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(model(jax.numpy.asarray(TABLE)), expected, rtol=1e-5, atol=1e-5)


def test_linear_model_flattens_images(make_random, as_numpy):
    model = make_random("linear", (2, 3, 2))
    images = np.random.default_rng(0).normal(size=(5, 2, 3, 2)).astype(np.float32)
    head = as_numpy(model)["head"]
    expected = images.reshape(5, 12) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(model(jax.numpy.asarray(images)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_mlp_embeds_categories_and_stacks_dense_layers(make_random, as_numpy, activation):
    model = make_random("mlp", (4,), categories=CATEGORIES, hidden_sizes=(8, 6), activation=activation)
    weights = as_numpy(model)
    # (categories + 1) // 2 units each.
    assert [weights["embeddings"][column]["embedding"].shape for column in range(2)] == [(3, 2), (7, 4)]
    embedded = [weights["embeddings"][column]["embedding"][CODES[:, column]] for column in range(2)]
    values = np.concatenate([NUMERIC, *embedded], axis=1)
    for layer in range(2):
        dense = weights["hidden"][layer]
        values = ACTIVATIONS[activation](values @ dense["kernel"] + dense["bias"])
    expected = values @ weights["head"]["kernel"] + weights["head"]["bias"]
    np.testing.assert_allclose(model(jax.numpy.asarray(TABLE)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("embedding_size", "expected"), [(0, 50), (5, 5)])
def test_embeddings_have_at_most_50_units_by_default(make_model, embedding_size, expected):
    model = make_model("mlp", (1,), categories=(1000,), embedding_size=embedding_size)
    assert model.embeddings[0].embedding.shape == (1000, expected)


def test_mlp_without_hidden_layers_is_a_linear_model_of_its_inputs(make_model):
    assert make_model("mlp", (4,), hidden_sizes=()).features(jax.numpy.asarray(TABLE)).shape == (4, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "rellu"}, "model.mlp.activation: unknown name 'rellu'; did you mean 'relu'?"),
        ({"hidden_sizes": (8, 0)}, "model.mlp.hidden_sizes: a size must be an integer of at least 1, not 0"),
        ({"embedding_size": -1}, "model.mlp.embedding_size: a size must be an integer of at least 1, not -1"),
    ],
)
def test_impossible_mlps_are_refused_in_one_line(make_model, fields, message):
    with pytest.raises(UserError) as error:
        make_model("mlp", (4,), categories=CATEGORIES, **fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_categories_outside_a_table_are_refused(make_model):
    with pytest.raises(ValueError, match="categories need a table"):
        make_model("mlp", (8, 8, 1), categories=(3,))
