"""Vision transformers against attention, norms, gelu and position embeddings written in NumPy."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

import models.transformer
from models.regularization import Regularization
from models.remat import REMAT
from models.transformer import Block, Sizes
from models.vit import sincos2d
from plumbline import UserError
from tests.conftest import COMPILER_OPTIONS

SIZES = {"width": 16, "heads": 4, "mlp_size": 24, "patch_size": 2}
NO_REGULARIZATION = Regularization.from_arguments(training=False, key=None)


def dense(weights, values):
    return values @ weights["kernel"] + weights["bias"]


def layer_norm(weights, values):
    mean, variance = values.mean(axis=-1, keepdims=True), values.var(axis=-1, keepdims=True)
    return (values - mean) / np.sqrt(variance + 1e-6) * weights["scale"] + weights["bias"]


def attention(weights, tokens, heads):
    """One example and one head at a time, as the paper writes it: softmax(Q K^T / sqrt(d)) V."""
    size = tokens.shape[-1] // heads
    attended = np.zeros_like(tokens)
    query, key, value = (dense(weights[name], tokens) for name in ("query", "key", "value"))
    for example in range(len(tokens)):
        for head in range(heads):
            part = np.s_[example, :, head * size : (head + 1) * size]
            attended[part] = scipy.special.softmax(query[part] @ key[part].T / math.sqrt(size), axis=1) @ value[part]
    return dense(weights["out"], attended)


def transformer_block(weights, tokens, heads):
    tokens = tokens + attention(weights["attention"], layer_norm(weights["norm1"], tokens), heads)
    hidden = dense(weights["mlp"]["hidden"], layer_norm(weights["norm2"], tokens))
    gelu = 0.5 * hidden * (1 + scipy.special.erf(hidden / math.sqrt(2)))
    return tokens + dense(weights["mlp"]["out"], gelu)


def patches(images, size):
    rows, columns = images.shape[1] // size, images.shape[2] // size
    cut = [
        images[:, row * size : (row + 1) * size, column * size : (column + 1) * size].reshape(len(images), -1)
        for row in range(rows)
        for column in range(columns)
    ]
    return np.stack(cut, axis=1)


def sincos_by_formula(rows, columns, width):
    """Entry by entry: sin and cos of the column, then of the row, at frequencies 10000^(-k / (width / 4 - 1))."""
    quarter = width // 4
    table = np.zeros((rows * columns, width))
    for row in range(rows):
        for column in range(columns):
            for k in range(quarter):
                frequency = 10_000 ** (-k / (quarter - 1))
                entries = (
                    math.sin(column * frequency),
                    math.cos(column * frequency),
                    math.sin(row * frequency),
                    math.cos(row * frequency),
                )
                for kind, entry in enumerate(entries):
                    table[row * columns + column, kind * quarter + k] = entry
    return table


def vision_transformer(weights, images, *, depth, heads, patch_size, pooling, positions):
    tokens = dense(weights["embedding"], patches(images, patch_size))
    if positions == "sincos2d":
        rows, columns = images.shape[1] // patch_size, images.shape[2] // patch_size
        tokens = tokens + sincos_by_formula(rows, columns, tokens.shape[-1])
    if pooling == "token":
        class_token = np.broadcast_to(weights["class_token"], (len(images), 1, tokens.shape[-1]))
        tokens = np.concatenate([class_token, tokens], axis=1)
    if positions == "learned":
        tokens = tokens + weights["positions"]
    for index in range(depth):
        tokens = transformer_block(jax.tree.map(operator.itemgetter(index), weights["blocks"]), tokens, heads)
    tokens = layer_norm(weights["norm"], tokens)
    return dense(weights["head"], tokens[:, 0] if pooling == "token" else tokens.mean(axis=1))


def run(model, *arguments, **keywords):
    graphdef, variables = nnx.split(model)

    def call(variables):
        return nnx.merge(graphdef, variables)(*arguments, **keywords)

    return jax.jit(call, compiler_options=COMPILER_OPTIONS)(variables)


def test_block_agrees_with_numpy(randomize, as_numpy):
    block = randomize(lambda: Block(Sizes(12, 1, 3, 20), norm_epsilon=1e-6, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    tokens = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
    expected = transformer_block(as_numpy(block), tokens.astype(np.float64), heads=3)
    actual = block(jnp.asarray(tokens), NO_REGULARIZATION, 0, 1.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sincos2d"])
@pytest.mark.parametrize("pooling", ["token", "mean"])
@pytest.mark.parametrize("depth", [2, 5])
def test_whole_model_agrees_with_numpy(make_random, as_numpy, depth, pooling, positions):
    choices = {"depth": depth, "pooling": pooling, "positions": positions}
    model = make_random("vit", (6, 4, 3), **SIZES, **choices)
    images = np.random.default_rng(1).normal(size=(3, 6, 4, 3)).astype(np.float32)
    expected = vision_transformer(as_numpy(model), images.astype(np.float64), heads=4, patch_size=2, **choices)
    np.testing.assert_allclose(run(model, jnp.asarray(images)), expected, rtol=1e-3, atol=1e-4)


def test_fixed_positions_follow_the_formula():
    np.testing.assert_allclose(sincos2d(3, 5, 16), sincos_by_formula(3, 5, 16), rtol=1e-6, atol=1e-6)


def value_and_gradients(model, images, **keywords):
    graphdef, parameters = nnx.split(model, nnx.Param)

    def loss(parameters):
        return jnp.square(nnx.merge(graphdef, parameters)(images, **keywords)).sum()

    return jax.jit(jax.value_and_grad(loss), compiler_options=COMPILER_OPTIONS)(nnx.to_pure_dict(parameters))


def assert_close(actual, expected):
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5), actual, expected)


@pytest.mark.slow
def test_recomputing_or_unrolling_blocks_changes_no_value_and_no_gradient(make_random, monkeypatch):
    images = jax.random.normal(jax.random.key(0), (4, 4, 4, 1))
    keywords = {"training": True, "key": jax.random.key(1), "dropout": 0.2, "stochastic_depth": 0.2}
    plain, *recomputed = (make_random("vit", (4, 4, 1), depth=3, remat=remat, **SIZES) for remat in REMAT)
    unrolled = value_and_gradients(plain, images, **keywords)
    monkeypatch.setattr(models.transformer, "MAX_UNROLLED_DEPTH", 0)
    assert_close(value_and_gradients(plain, images, **keywords), unrolled)
    for model in recomputed:
        assert_close(value_and_gradients(model, images, **keywords), unrolled)


def test_a_program_does_not_grow_with_the_depth(make_model):
    def program_length(depth):
        model = nnx.eval_shape(lambda: make_model("vit", (4, 4, 1), depth=depth, **SIZES))
        graphdef, state = nnx.split(model)
        images = jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32)
        return len(str(jax.make_jaxpr(lambda state, images: nnx.merge(graphdef, state)(images))(state, images)))

    assert program_length(96) == pytest.approx(program_length(12), rel=0.02)


def test_blocks_start_different_from_each_other_and_the_head_from_zero(make_model):
    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def initial():
        model = make_model("vit", (4, 4, 1), **SIZES)
        return model.blocks.attention.query.kernel[...], model.head.kernel[...]

    kernels, head = initial()
    assert kernels.shape == (4, 16, 16)
    assert not np.array_equal(kernels[0], kernels[1])
    # Glorot and Bengio 2010, equation 16: uniform up to sqrt(6 / (fan_in + fan_out)), of one block, not of the stack.
    assert np.abs(kernels).max() == pytest.approx(math.sqrt(6 / 32), rel=0.02)
    np.testing.assert_array_equal(head, np.zeros((16, 3)))


@pytest.mark.parametrize(
    ("input_shape", "fields", "message"),
    [
        ((30,), {}, "model.name: 'vit' reads images (height, width, channels), but an input has the shape (30,);"),
        (
            (8, 6, 1),
            {"patch_size": 4},
            "model.vit.patch_size: patches of 4 pixels do not fill images of 8 x 6; choose a divisor of both",
        ),
        ((8, 8, 1), {"patch_size": 0}, "model.vit.patch_size: a size must be an integer of at least 1, not 0"),
        ((8, 8, 1), {"variant": "Tj"}, "model.vit.variant: unknown name 'Tj'; known: B, H, L, S, Ti, custom"),
        ((8, 8, 1), {"pooling": "men"}, "model.vit.pooling: unknown name 'men'; did you mean 'mean'?"),
        (
            (8, 8, 1),
            {"pooling": "token_and_distillation"},
            "model.vit.pooling: 'token_and_distillation' needs a distillation token; set model.vit.distillation",
        ),
        ((8, 8, 1), {"positions": "lernt"}, "model.vit.positions: unknown name 'lernt'; did you mean 'learned'?"),
        ((8, 8, 1), {"depth": 0}, "model.vit.depth: a size must be an integer of at least 1, not 0"),
        ((8, 8, 1), {"heads": 3}, "model.vit.heads: 3 heads do not divide the width 16; choose a"),
        (
            (8, 8, 1),
            {"width": 6, "heads": 2, "positions": "sincos2d"},
            "model.vit.width: positions 'sincos2d' need a multiple of 4, not 6",
        ),
    ],
)
def test_impossible_vision_transformers_are_refused_in_one_line(make_model, input_shape, fields, message):
    with pytest.raises(UserError) as error:
        make_model("vit", input_shape, **(SIZES | fields))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
