"""Models of text: what padding and later tokens may not change, and what cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from plumbline import UserError
from tests.conftest import COMPILER_OPTIONS

SIZES = {"width": 16, "depth": 2, "heads": 2, "mlp_size": 24}
VOCABULARY = 11
TEXTS = jnp.asarray([[3, 1, 4, 1, 5, 9], [2, 6, 5, -1, -1, -1]], jnp.int32)


def run(model, inputs, method="__call__"):
    graphdef, state = nnx.split(model)

    def call(state, inputs):
        return getattr(nnx.merge(graphdef, state), method)(inputs)

    return jax.jit(call, compiler_options=COMPILER_OPTIONS)(state, inputs)


@pytest.fixture
def make_text_model(make_random):
    def make(name, length=6, **fields):
        fields = {"num_outputs": 3, "max_length": 9} | SIZES | fields
        return make_random(name, (length,), categories=(VOCABULARY,), **fields)

    return make


@pytest.mark.parametrize(
    ("name", "pooling"), [("bert", "mean"), ("bert", "token"), ("bert", "tokens"), ("gpt", "last"), ("gpt", "mean")]
)
def test_more_padding_changes_no_answer(make_text_model, name, pooling):
    fields = {"pooling": pooling, "num_outputs": VOCABULARY if pooling == "tokens" else 3}
    answers = run(make_text_model(name, **fields), TEXTS)
    longer = jnp.pad(TEXTS, ((0, 0), (0, 3)), constant_values=-1)
    padded = run(make_text_model(name, 9, **fields), longer)
    if pooling == "tokens":
        answers, padded = answers[TEXTS >= 0], padded[:, :6][TEXTS >= 0]
    np.testing.assert_allclose(padded, answers, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt"])
def test_a_text_without_tokens_has_finite_answers(make_text_model, name):
    empty = jnp.full((2, 6), -1, jnp.int32)
    assert np.isfinite(run(make_text_model(name), empty)).all()


def test_gpt_sees_no_later_token_and_bert_does(make_text_model):
    changed = TEXTS.at[0, 3].set(7)
    for name, sees in (("gpt", False), ("bert", True)):
        model = make_text_model(name, num_outputs=VOCABULARY, pooling="tokens")
        one, other = run(model, TEXTS)[0], run(model, changed)[0]
        assert (not np.array_equal(one[:3], other[:3])) == sees
        assert not np.allclose(one[3:], other[3:], rtol=1e-3)


def test_the_last_token_is_the_last_that_is_there(make_text_model):
    model = make_text_model("gpt")
    np.testing.assert_allclose(run(model, TEXTS)[1], run(model, TEXTS[:, :3])[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "pooling"), [("bert", "mean"), ("gpt", "last"), ("gpt", "tokens")])
def test_representations_are_means_of_the_tokens_after_each_block(make_text_model, as_numpy, name, pooling):
    model = make_text_model(name, pooling=pooling, num_outputs=VOCABULARY if pooling == "tokens" else 3)
    found = run(model, TEXTS, "representations")
    assert list(found) == ["blocks/0", "blocks/1", "embedding", "features"]  # Out of jit they are sorted by name.
    weights, texts = as_numpy(model), np.asarray(TEXTS)
    tokens = weights["embedding"]["embedding"][texts] + weights["positions"][:6]
    if name == "gpt":
        expected = [row[text >= 0].mean(axis=0) for row, text in zip(tokens, texts, strict=True)]
        np.testing.assert_allclose(found["embedding"], expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(found["features"], found["blocks/1"], rtol=1e-5, atol=1e-6)
    if pooling != "tokens":
        np.testing.assert_allclose(found["features"], run(model, TEXTS, "features"), rtol=1e-5, atol=1e-6)


def test_an_empty_pooling_goes_by_what_an_answer_is(make_text_model):
    assert make_text_model("bert").pooling == "mean"
    assert make_text_model("gpt").pooling == "last"
    for name in ("bert", "gpt"):
        model = make_text_model(name, num_outputs=VOCABULARY)
        assert model.pooling == "tokens"
        assert model.predicts_tokens


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "bert",
            {"width": 10, "heads": 3},
            "model.bert.heads: 3 heads do not divide the width 10; choose",
        ),
        ("gpt", {"depth": 0}, "model.gpt.depth: a size must be an integer of at least 1, not 0"),
        ("gpt", {"vocabulary": 7}, "model.gpt.vocabulary: 7 rows are fewer than the 11 tokens of the tokenizer; set"),
        (
            "bert",
            {"max_length": 4},
            "data.text_length: 6 tokens are more than the 4 positions of model.bert.",
        ),
        ("gpt", {"activation": "gelo"}, "model.gpt.activation: unknown name 'gelo'; did you mean 'gelu'?"),
        ("gpt", {"pooling": "token"}, "model.gpt.pooling: unknown name 'token'; did you mean 'tokens'?"),
        ("bert", {"pooling": "last"}, "model.bert.pooling: unknown name 'last'; known: mean, token, tokens"),
        ("bert", {"pooler": "tan"}, "model.bert.pooler: unknown name 'tan'; did you mean 'tanh'?"),
        ("bert", {"segments": -1}, "model.bert.segments: must be an integer of at least 0, not -1"),
        ("gpt", {"pooling": "tokens", "num_outputs": 12}, "model.gpt.pooling: 'tokens' predicts 11 tokens,"),
    ],
)
def test_impossible_text_models_are_refused_in_one_line(make_text_model, name, fields, message):
    with pytest.raises(UserError) as error:
        make_text_model(name, **{"max_length": 0} | fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["bert", "gpt"])
def test_what_is_no_text_is_refused(make_model, name):
    with pytest.raises(UserError, match=rf"model.name: '{name}' reads texts, but an input has the shape \(8, 8, 1\)"):
        make_model(name, (8, 8, 1))
