"""Residual networks against convolutions and norms written in NumPy, in training and in inference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models.resnet import BasicBlock, Bottleneck, ConvolutionAndNorm, num_groups
from plumbline import UserError
from tests.conftest import COMPILER_OPTIONS

STRIDED_STAGES = (1, 2, 3)


class Reference:
    """The layers of a residual network on nested dicts of weights, in float64; `recorded` holds new statistics."""

    def __init__(self, training):
        self.training = training
        self.recorded = {}

    def convolution(self, weights, values, stride):
        kernel = weights["kernel"]
        size, padding = kernel.shape[0], kernel.shape[0] // 2
        padded = np.pad(values, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        rows, columns = ((side + 2 * padding - size) // stride + 1 for side in values.shape[1:3])
        result = np.zeros((len(values), rows, columns, kernel.shape[-1]))
        for row in range(rows):
            for column in range(columns):
                window = padded[:, row * stride : row * stride + size, column * stride : column * stride + size]
                result[:, row, column] = np.einsum("bijc,ijco->bo", window, kernel)
        return result

    def batch_norm(self, weights, values, name):
        mean, variance = weights["mean"], weights["var"]
        if self.training:
            flat = values.reshape(-1, values.shape[-1])
            mean, variance = flat.mean(axis=0), flat.var(axis=0)
            self.recorded[name] = (0.9 * weights["mean"] + 0.1 * mean, 0.9 * weights["var"] + 0.1 * variance)
        return (values - mean) / np.sqrt(variance + 1e-5) * weights["scale"] + weights["bias"]

    def block(self, weights, values, name, stride):
        convolutions = 3 if "conv3" in weights else 2
        # Version 1.5: the 3x3 convolution of a bottleneck has the stride, not the 1x1 before it.
        strided = 2 if convolutions == 3 else 1
        branch = values
        for number in range(1, convolutions + 1):
            branch = self.convolution(weights[f"conv{number}"], branch, stride if number == strided else 1)
            branch = self.batch_norm(weights[f"norm{number}"], branch, (*name, f"norm{number}"))
            branch = np.maximum(branch, 0) if number < convolutions else branch
        if "shortcut" in weights:
            values = self.convolution(weights["shortcut"]["conv"], values, stride)
            values = self.batch_norm(weights["shortcut"]["norm"], values, (*name, "shortcut", "norm"))
        return values, branch

    def max_pool(self, values):
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        size = (values.shape[1] - 1) // 2 + 1
        offsets = [(row, column) for row in range(3) for column in range(3)]
        return np.max([padded[:, r : r + 2 * size : 2, c : c + 2 * size : 2][:, :size, :size] for r, c in offsets], 0)

    def network(self, weights, values, large_stem):
        values = self.convolution(weights["stem"]["conv"], values, 2 if large_stem else 1)
        values = np.maximum(self.batch_norm(weights["stem"]["norm"], values, ("stem", "norm")), 0)
        values = self.max_pool(values) if large_stem else values
        for stage, blocks in weights["stages"].items():
            for block, block_weights in blocks.items():
                stride = 2 if stage in STRIDED_STAGES and block == 0 else 1
                values = np.maximum(sum(self.block(block_weights, values, ("stages", stage, block), stride)), 0)
        return values.mean(axis=(1, 2)) @ weights["head"]["kernel"] + weights["head"]["bias"]


def run(module, *arguments, **keywords):
    """The result under plain jit, and the batch statistics after it by path."""
    graphdef, variables = nnx.split(module)

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def call(variables):
        module = nnx.merge(graphdef, variables)
        result = module(*arguments, **keywords)
        return result, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return call(nnx.to_pure_dict(variables))


def check_recorded(statistics, recorded):
    assert recorded
    for (*path, last), (mean, variance) in recorded.items():
        norm = statistics
        for part in (*path, last):
            norm = norm[part]
        np.testing.assert_allclose(norm["mean"], mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(norm["var"], variance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("block_type", "stride"), [(BasicBlock, 2), (BasicBlock, 1), (Bottleneck, 2)])
def test_blocks_agree_with_numpy(randomize, as_numpy, block_type, stride, training):
    channels = 4 if stride == 1 else 6
    block = randomize(lambda: block_type(4, channels, stride=stride, norm="batch", dtype=jnp.float32, rngs=nnx.Rngs(0)))
    inputs = np.random.default_rng(1).normal(size=(3, 7, 6, 4)).astype(np.float32)
    weights, reference = as_numpy(block), Reference(training)
    expected = reference.block(weights, inputs, (), stride)
    assert ("shortcut" in weights) == (stride == 2)
    actual, statistics = run(block, jnp.asarray(inputs), training)
    for part, expected_part in zip(actual, expected, strict=True):
        np.testing.assert_allclose(part, expected_part, rtol=1e-4, atol=1e-4)
    if training:
        check_recorded(statistics, reference.recorded)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("depth", "size"), [(18, 16), (50, 64)])
def test_whole_networks_agree_with_numpy(make_random, as_numpy, depth, size, training):
    model = make_random("resnet", (size, size, 3), depth=depth, width=4)
    inputs = np.random.default_rng(2).normal(size=(4, size, size, 3)).astype(np.float32)
    reference = Reference(training)
    expected = reference.network(as_numpy(model), inputs, large_stem=size >= 64)
    logits, statistics = run(model, jnp.asarray(inputs), training=training)
    np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    if training:
        check_recorded(statistics, reference.recorded)


def test_batch_statistics_are_those_of_the_whole_batch_on_eight_devices(randomize):
    layer = randomize(
        lambda: ConvolutionAndNorm(3, 4, size=3, stride=1, norm="batch", dtype=jnp.float32, rngs=nnx.Rngs(0))
    )
    inputs = jax.random.normal(jax.random.key(0), (16, 5, 5, 3))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    graphdef, variables = nnx.split(layer)

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def call(variables, inputs):
        layer = nnx.merge(graphdef, variables)
        return layer(inputs, True), nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat))

    whole = call(variables, inputs)
    sharded = call(
        jax.device_put(variables, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(inputs, NamedSharding(mesh, PartitionSpec("data"))),
    )
    jax.tree.map(lambda one, eight: np.testing.assert_allclose(one, eight, rtol=1e-5, atol=1e-5), whole, sharded)


@pytest.mark.parametrize("block_type", [BasicBlock, Bottleneck])
def test_blocks_start_as_the_identity(block_type):
    channels = 4 * block_type.expansion
    inputs = jax.random.normal(jax.random.key(0), (2, 4, 4, channels))

    @functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)
    def call_new_block(inputs):
        block = block_type(channels, 4, stride=1, norm="batch", dtype=jnp.float32, rngs=nnx.Rngs(0))
        return block(inputs, True)

    shortcut, branch = call_new_block(inputs)
    np.testing.assert_array_equal(branch, np.zeros_like(branch))
    np.testing.assert_array_equal(shortcut, inputs)


def test_convolutions_start_he_normal_by_fan_out():
    layer = ConvolutionAndNorm(64, 128, size=3, stride=2, norm="batch", dtype=jnp.float32, rngs=nnx.Rngs(0))
    kernel = np.asarray(layer.conv.kernel[...])
    assert kernel.shape == (3, 3, 64, 128)
    assert kernel.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (32, 32), (48, 24), (7, 7), (37, 1), (1, 1)])
def test_groups_are_32_or_the_most_that_divide_the_channels(channels, groups):
    assert num_groups(channels) == groups


def test_group_norm_agrees_with_numpy_and_keeps_no_statistics(randomize, as_numpy):
    layer = randomize(
        lambda: ConvolutionAndNorm(3, 48, size=1, stride=1, norm="group", dtype=jnp.float32, rngs=nnx.Rngs(0))
    )
    inputs = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    weights = as_numpy(layer)
    grouped = (inputs @ weights["conv"]["kernel"][0, 0]).reshape(2, 16, 24, 2)
    mean, variance = grouped.mean(axis=(1, 3), keepdims=True), grouped.var(axis=(1, 3), keepdims=True)
    normalized = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(2, 4, 4, 48)
    expected = normalized * weights["norm"]["scale"] + weights["norm"]["bias"]
    np.testing.assert_allclose(layer(jnp.asarray(inputs), True), expected, rtol=1e-3, atol=1e-4)
    assert not jax.tree.leaves(nnx.state(layer, nnx.BatchStat))


@pytest.mark.parametrize(
    ("size", "stem", "kernel_size"), [(63, "auto", 3), (64, "auto", 7), (64, "small", 3), (8, "large", 7)]
)
def test_stem_is_small_under_64_pixels_by_default(make_model, size, stem, kernel_size):
    model = nnx.eval_shape(lambda: make_model("resnet", (size, size, 1), stem=stem))
    assert model.stem.conv.kernel.shape == (kernel_size, kernel_size, 1, 64)
    assert model.small_stem == (kernel_size == 3)


def test_stochastic_depth_of_rate_1_drops_the_last_block(make_random):
    model = make_random("resnet", (8, 8, 1), width=4)
    inputs = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    keywords = {"training": True, "key": jax.random.key(1), "stochastic_depth": jnp.float32(1.0)}
    graphdef = nnx.graphdef(model)
    program = jax.jit(
        lambda variables: nnx.merge(graphdef, variables)(inputs, **keywords), compiler_options=COMPILER_OPTIONS
    )
    before = program(nnx.state(model))
    model.stages[3][1].norm2.bias[...] += 1.0
    np.testing.assert_array_equal(program(nnx.state(model)), before)
    model.stages[0][0].norm2.bias[...] += 1.0
    assert not np.array_equal(program(nnx.state(model)), before)


@pytest.mark.parametrize(
    ("input_shape", "fields", "message"),
    [
        ((30,), {}, "model.name: 'resnet' reads images (height, width, channels), but an input has the shape (30,);"),
        ((8, 8, 1), {"depth": 51}, "model.resnet.depth: unknown name '51'; known: 10, 101, 18, 34, 50"),
        ((8, 8, 1), {"norm": "bach"}, "model.resnet.norm: unknown name 'bach'; did you mean 'batch'?"),
        ((8, 8, 1), {"stem": "smal"}, "model.resnet.stem: unknown name 'smal'; did you mean 'small'?"),
        ((8, 8, 1), {"width": 0}, "model.resnet.width: a size must be an integer of at least 1, not 0"),
    ],
)
def test_impossible_resnets_are_refused_in_one_line(make_model, input_shape, fields, message):
    with pytest.raises(UserError) as error:
        make_model("resnet", input_shape, **fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
