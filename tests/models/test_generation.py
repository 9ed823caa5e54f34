"""Texts that a language model continues."""

import collections
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import pretrained
from models.generation import draw_token, generate_tokens

FIXTURE = pathlib.Path(__file__).parent.parent / "references" / "fixtures" / "hf_gpt2"
VOCABULARY, LENGTH = 40, 12


@pytest.fixture(scope="module")
def answers():
    with np.load(FIXTURE / "answers.npz") as known:
        return dict(known)


@pytest.fixture
def logits_of(make_model):
    """The fixture's GPT-2: a function of tokens (1, L) to logits."""
    fields = pretrained.architecture(str(FIXTURE))
    own = {name.rpartition(".")[2]: value for name, value in fields.items() if name.startswith("model.gpt.")}
    sizes = {"categories": (VOCABULARY,), "num_outputs": VOCABULARY}
    model = nnx.eval_shape(lambda: make_model("gpt", (LENGTH,), **sizes, **own))
    start, _ = pretrained.load(str(FIXTURE), model)
    graphdef, _ = nnx.split(model)
    return jax.jit(lambda tokens: nnx.merge(graphdef, start["params"])(tokens))


def write(logits_of, prompt, num_tokens, *, length=LENGTH, temperature=0.0, top_k=0, seed=0):
    options = {"length": length, "num_tokens": num_tokens, "temperature": temperature, "top_k": top_k}
    return np.asarray(generate_tokens(logits_of, jnp.asarray(prompt, jnp.int32), key=jax.random.key(seed), **options))


def test_greedy_texts_equal_those_of_the_reference(logits_of, answers):
    greedy = answers["greedy"].tolist()
    assert write(logits_of, greedy[:4], 8).tolist() == greedy[4:]


def test_greedy_tokens_are_the_likeliest_at_each_position(logits_of, answers):
    prompt = answers["greedy"][:3].tolist()
    new = write(logits_of, prompt, 9).tolist()
    whole = jnp.asarray([prompt + new], jnp.int32)
    assert logits_of(whole)[0, 2:-1].argmax(-1).tolist() == new


def test_beyond_its_length_the_model_reads_the_last_tokens(logits_of, answers):
    text = answers["greedy"][:3].tolist()
    new = write(logits_of, text, 15, length=6).tolist()
    for token in new:
        window = jnp.asarray([text[-6:]], jnp.int32)
        assert int(logits_of(window)[0, -1].argmax()) == token
        text.append(token)


def test_a_seed_makes_a_text_and_another_another(logits_of):
    texts = [write(logits_of, [5, 7], 10, temperature=1.0, seed=seed).tolist() for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (2.0, 3)])
def test_tokens_are_drawn_as_often_as_the_softmax_says(temperature, top_k):
    logits = jnp.asarray([0.3, -1.0, 2.0, 0.9, 0.1])
    keys = jax.random.split(jax.random.key(3), 20_000)
    draw = jax.jit(jax.vmap(lambda key: draw_token(logits, key, temperature=temperature, top_k=top_k)))
    counted = collections.Counter(draw(keys).tolist())
    kept = np.argsort(-np.asarray(logits))[: top_k or 5]
    weights = np.exp(np.asarray(logits, np.float64)[kept] / temperature)
    expected = dict.fromkeys(range(5), 0.0) | dict(zip(kept.tolist(), weights / weights.sum(), strict=True))
    for token, share in expected.items():
        # Four deviations of the share of 20,000 draws.
        assert abs(counted[token] / 20_000 - share) <= 4 * (share * (1 - share) / 20_000) ** 0.5
