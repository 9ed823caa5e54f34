"""The contract that every registered model keeps; one without a row in the table fails."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.defaults import get_config
from models import REGISTRY, as_function, build
from plumbline import UserError
from tests.conftest import COMPILER_OPTIONS

BATCH_SIZE = 6
NUM_OUTPUTS = 3
# Tokens of the texts.
VOCABULARY = 11
# In place of the number of features: there are as many as the model is wide, for each token.
PER_TOKEN = 0


@dataclasses.dataclass(frozen=True)
class Row:
    """How a model is made for the battery, and what is peculiar to it."""

    name: str
    input_shape: tuple[int, ...]
    num_features: int
    categories: tuple[int, ...] = ()
    fields: dict = dataclasses.field(default_factory=dict)
    # Regularisers that act in this model.
    regularizers: tuple[str, ...] = ()
    # Parameters whose exact gradient is zero whatever their values.
    without_gradient: tuple[str, ...] = ()
    num_outputs: int = NUM_OUTPUTS
    # Parameters of the head.
    head: tuple[str, ...] = ("head/kernel", "head/bias")

    @property
    def is_text(self):
        return REGISTRY[self.name].reads_text

    @property
    def positions(self):
        """What an example has answers for, if that is not it alone."""
        return self.input_shape if self.num_features == PER_TOKEN else ()


# Adding a constant to all keys of a query's softmax changes nothing.
KEY_BIAS = ("blocks/attention/key/bias",)
VIT = {"patch_size": 2, "width": 16, "depth": 2, "heads": 2, "mlp_size": 24}
DISTILLED = {"distillation_token": True, "pooling": "token_and_distillation", "layer_scale": 1e-5}
CONVNEXT = {"patch_size": 2, "depths": (1, 1, 2, 1), "widths": (8, 8, 12, 16)}
TEXT = {"width": 16, "depth": 2, "heads": 2, "mlp_size": 24}
MASKED_HEAD = ("head/bias", "head/norm/bias", "head/norm/scale", "head/transform/bias", "head/transform/kernel")
BOTH = ("dropout", "stochastic_depth")

ROWS = [
    Row("linear", (8, 8, 1), 64),
    Row("linear", (5,), 3 + 4 + 9, (4, 9)),
    Row("mlp", (8, 8, 1), 12, (), {"hidden_sizes": (16, 12)}, ("dropout",)),
    Row("mlp", (5,), 12, (4, 9), {"hidden_sizes": (16, 12)}, ("dropout",)),
    Row("resnet", (8, 8, 3), 32, (), {"depth": 10, "width": 4}, BOTH),
    Row("resnet", (16, 16, 1), 64, (), {"depth": 10, "width": 8, "norm": "group"}, BOTH),
    Row("vit", (8, 8, 1), 16, (), VIT, BOTH, KEY_BIAS),
    Row("vit", (8, 8, 1), 16, (), VIT | {"pooling": "mean", "positions": "sincos2d", "depth": 5}, BOTH, KEY_BIAS),
    Row("vit", (8, 8, 1), 32, (), VIT | DISTILLED, BOTH, KEY_BIAS),
    Row("convnext", (16, 16, 1), 16, (), CONVNEXT, BOTH),
    Row("bert", (7,), 16, (VOCABULARY,), TEXT | {"segments": 2}, BOTH, KEY_BIAS),
    Row("bert", (6,), 16, (VOCABULARY,), TEXT | {"pooling": "token", "depth": 5}, BOTH, KEY_BIAS),
    Row("bert", (7,), PER_TOKEN, (VOCABULARY,), TEXT, BOTH, KEY_BIAS, VOCABULARY, MASKED_HEAD),
    Row("gpt", (7,), 16, (VOCABULARY,), TEXT | {"max_length": 9}, BOTH, KEY_BIAS),
    Row("gpt", (7,), PER_TOKEN, (VOCABULARY,), TEXT | {"vocabulary": 13}, BOTH, KEY_BIAS, VOCABULARY, ()),
]

battery = pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row.name}-{len(row.input_shape)}d-{row.num_features or 'tokens'}"
)


def make_inputs(row):
    if row.is_text:
        # Texts of several lengths, filled up with padding; of all tokens that are known.
        generator = np.random.default_rng(11)
        tokens = generator.integers(0, VOCABULARY, (BATCH_SIZE, *row.input_shape))
        lengths = row.input_shape[0] - np.arange(BATCH_SIZE) % 4
        return jnp.asarray(np.where(np.arange(row.input_shape[0]) < lengths[:, None], tokens, -1), jnp.int32)
    inputs = jax.random.normal(jax.random.key(11), (BATCH_SIZE, *row.input_shape))
    for position, size in enumerate(row.categories, start=row.input_shape[0] - len(row.categories)):
        inputs = inputs.at[:, position].set(jnp.arange(BATCH_SIZE, dtype=jnp.float32) % size)
    return inputs


@pytest.fixture
def random_row(make_random):
    """Builds the model of a row with parameters drawn so that none of them is without effect."""
    return lambda row, **keywords: make_random(**arguments_of(row), **keywords)


def arguments_of(row):
    common = {"name": row.name, "input_shape": row.input_shape, "categories": row.categories}
    return common | {"num_outputs": row.num_outputs} | row.fields


def as_program(model, **static):
    """The model as training runs it: pure dicts into plain jit, logits and new statistics out of it."""
    graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat)

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def program(params, statistics, inputs, keywords):
        merged = nnx.merge(graphdef, params, statistics)
        logits = merged(inputs, **static, **keywords)
        return logits, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))

    return program, *(nnx.to_pure_dict(state) for state in states)


def multiplied_types(jaxpr):
    """The types of the operands of every matrix product and convolution in a program."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found.update(str(operand.aval.dtype) for operand in equation.invars)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found |= multiplied_types(inner)
    return found


def test_every_registered_model_has_a_row():
    assert {row.name for row in ROWS} == set(REGISTRY)


@battery
def test_variables_are_parameters_and_statistics_in_float32(random_row, row):
    model = random_row(row, dtype="bfloat16")
    _, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    assert {leaf.dtype for leaf in jax.tree.leaves((parameters, statistics))} == {jnp.dtype("float32")}
    paths = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(parameters)]
    assert {path for path in paths if path.startswith("head/")} == set(row.head)
    # The default weight decay rule has to find every parameter of a norm, and every bias.
    norms = [path for path in paths if re.search(r"norm", path)]
    assert all(re.search(r"(^|/)(bias|scale)$", path) for path in norms)


@battery
def test_training_and_inference_run_in_jit_from_pure_dicts(random_row, row):
    model = random_row(row)
    keywords = {"key": jax.random.key(1)} | dict.fromkeys(BOTH, jnp.float32(0.1))
    for training in (False, True):
        program, params, statistics = as_program(model, training=training)
        logits, new_statistics = program(params, statistics, make_inputs(row), keywords)
        assert logits.shape == (BATCH_SIZE, *row.positions, row.num_outputs)
        assert logits.dtype == jnp.float32
        assert jax.tree.structure(new_statistics) == jax.tree.structure(statistics)
        pairs = zip(jax.tree.leaves(statistics), jax.tree.leaves(new_statistics), strict=True)
        changed = [not np.array_equal(*pair) for pair in pairs]
        assert all(is_changed == training for is_changed in changed)


@battery
def test_features_are_what_the_head_reads(random_row, as_numpy, row):
    model = random_row(row)
    graphdef, state = nnx.split(model)
    model_of = functools.partial(nnx.merge, graphdef)
    program = jax.jit(
        lambda state, inputs: (model_of(state).features(inputs), model_of(state)(inputs)),
        compiler_options=COMPILER_OPTIONS,
    )
    features, logits = program(state, make_inputs(row))
    assert features.shape == (BATCH_SIZE, *row.positions, row.num_features or row.fields["width"])
    assert features.dtype == jnp.float32
    if row.positions:
        return
    head = as_numpy(model)["head"]
    np.testing.assert_allclose(logits, np.asarray(features) @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-4)


@battery
def test_representations_are_a_vector_an_example_and_end_with_the_features(random_row, row):
    graphdef, state = nnx.split(random_row(row, dtype="bfloat16"))

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def program(state, inputs):
        found = nnx.merge(graphdef, state).representations(inputs)
        # Out of jit, a dict is sorted by name.
        assert list(found)[-1] == "features"
        return found, nnx.merge(graphdef, state).features(inputs)

    found, features = program(state, make_inputs(row))
    if row.positions:
        present = np.asarray(make_inputs(row) >= 0, np.float32)[:, :, None]
        features = (features * present).sum(axis=1) / present.sum(axis=1)
    np.testing.assert_allclose(found["features"], features, rtol=5e-2, atol=5e-2)
    for values in found.values():
        assert (values.shape[0], values.ndim) == (BATCH_SIZE, 2)
        assert values.dtype == jnp.float32
        assert np.isfinite(values).all()


@battery
def test_bfloat16_multiplies_in_bfloat16_and_answers_in_float32(random_row, row):
    results = {}
    for dtype in ("float32", "bfloat16"):
        program, *state = as_program(random_row(row, dtype=dtype), training=True)
        inputs = make_inputs(row)
        results[dtype], statistics = program(*state, inputs, {})
        types = multiplied_types(program.trace(*state, inputs, {}).jaxpr.jaxpr)
        assert dtype in types
        assert types <= {"float32", dtype}
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((results[dtype], statistics)))
    error = np.abs(results["bfloat16"] - results["float32"]).max() / np.abs(results["float32"]).max()
    assert 0 < error < 0.1


@battery
def test_rates_are_data_and_rate_0_equals_none(random_row, row):
    program, *state = as_program(random_row(row), training=True)
    inputs = make_inputs(row)
    left_out, _ = program(*state, inputs, {})
    before = program._cache_size()

    def logits_at(seed=1, **rates):
        rates = {name: jnp.float32(rates.get(name, 0.0)) for name in BOTH}
        return program(*state, inputs, {"key": jax.random.key(seed)} | rates)[0]

    np.testing.assert_allclose(logits_at(), left_out, rtol=1e-5, atol=1e-5)
    for name in BOTH:
        dropped = logits_at(**{name: 0.5})
        np.testing.assert_array_equal(dropped, logits_at(**{name: 0.5}))
        acts = not np.allclose(dropped, left_out, rtol=1e-3)
        assert acts == (name in row.regularizers)
        assert acts == (not np.array_equal(dropped, logits_at(seed=2, **{name: 0.5})))
    assert program._cache_size() == before + 1


@battery
def test_rates_change_nothing_outside_training(random_row, row):
    program, *state = as_program(random_row(row), training=False)
    rates = {"key": jax.random.key(1)} | dict.fromkeys(BOTH, jnp.float32(0.5))
    with_rates, without = (program(*state, make_inputs(row), keywords)[0] for keywords in (rates, {}))
    np.testing.assert_array_equal(with_rates, without)


@battery
def test_gradient_reaches_every_parameter(random_row, row):
    graphdef, *states = nnx.split(random_row(row), nnx.Param, nnx.BatchStat)
    params, statistics = (nnx.to_pure_dict(state) for state in states)
    direction = jax.random.normal(jax.random.key(2), (BATCH_SIZE, *row.positions, row.num_outputs))

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def gradients(params):
        def loss(params):
            return (direction * nnx.merge(graphdef, params, statistics)(make_inputs(row), training=True)).sum()

        return jax.grad(loss)(params)

    for path, gradient in jax.tree.leaves_with_path(gradients(params)):
        assert np.isfinite(gradient).all()
        if jax.tree_util.keystr(path, simple=True, separator="/") not in row.without_gradient:
            assert np.abs(gradient).max() > 1e-6, path


@battery
def test_a_model_in_inference_is_a_pure_function_under_any_transformation(random_row, row):
    model = random_row(row, remat="full")
    before = nnx.split(model)
    logits_of, params = as_function(model)
    inputs = make_inputs(row)
    generator = np.random.default_rng(2)
    tangent = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0.0, 0.1, leaf.shape), jnp.float32), params)

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def transform(params, inputs):
        logits, derivative = jax.jvp(lambda params: logits_of(params, inputs), (params,), (tangent,))
        gradient = jax.grad(lambda params: logits_of(params, inputs).sum())(params)
        # The model itself, with its own arrays.
        one_by_one = jax.vmap(lambda example: model(example[None])[0])(inputs)
        if row.is_text:
            return logits, one_by_one, [(derivative, gradient, tangent)]
        _, of_inputs = jax.jvp(model, (inputs,), (inputs,))
        return (
            logits,
            one_by_one,
            [
                (derivative, gradient, tangent),
                (of_inputs, jax.grad(lambda inputs: model(inputs).sum())(inputs), inputs),
            ],
        )

    logits, one_by_one, derivatives = transform(params, inputs)
    assert logits.shape == (BATCH_SIZE, *row.positions, row.num_outputs)
    # No example changes the answer of another: batch norms use their running statistics.
    np.testing.assert_allclose(one_by_one, logits, rtol=1e-4, atol=1e-4)
    for derivative, gradient, direction in derivatives:
        products = jax.tree.map(lambda *pair: np.vdot(*pair), gradient, direction)
        assert np.abs(derivative).max() > 0
        np.testing.assert_allclose(derivative.sum(), sum(jax.tree.leaves(products)), rtol=1e-3, atol=1e-3)
    after = nnx.split(model)
    assert after[0] == before[0]
    assert all(map(np.array_equal, jax.tree.leaves(after[1]), jax.tree.leaves(before[1])))


@battery
def test_every_parameter_is_in_a_layer_and_the_head_alone_in_the_last(random_row, row):
    model = random_row(row)
    layers = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        blocks = range(variable.get_value().shape[0]) if path[0] in model.stacked else [None]
        for block in blocks:
            parts = path if block is None else (path[0], block, *path[1:])
            layers["/".join(map(str, parts))] = model.layer("/".join(map(str, parts)))
    last = model.num_layers() - 1
    assert {name for name, layer in layers.items() if layer == last} == set(row.head)
    # None is empty, but for the first of models that have nothing before their first layer, and heads of nothing.
    assert set(layers.values()) | {0, last} == set(range(last + 1))


@battery
def test_one_key_makes_one_model_and_another_key_another(make_model, row):
    def initial(key_seed):
        return nnx.to_pure_dict(nnx.state(make_model(**arguments_of(row), seed=key_seed)))

    # Stacked, as a population of models is made.
    stacked = jax.jit(jax.vmap(initial), compiler_options=COMPILER_OPTIONS)(jnp.asarray([3, 3, 4]))
    first, again, other = ([leaf[member] for leaf in jax.tree.leaves(stacked)] for member in range(3))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    # The linear model starts from zero.
    assert row.name == "linear" or not all(np.array_equal(*pair) for pair in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("resnt", "float32", "model.name: unknown name 'resnt'; did you mean 'resnet'? known: bert, convnext,"),
        ("mlp", "float16", "model.dtype: unknown name 'float16'; did you mean"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, dtype, message):
    options = get_config().model
    options.name, options.dtype = name, dtype
    with pytest.raises(UserError) as error:
        build(options, input_shape=(4,), categories=(), num_outputs=2, key=jax.random.key(0))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
