import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from trainers.devices import flops


def count(function, *shapes):
    """Of the function on arrays of such shapes."""
    return flops.count(jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)))


def square(x):
    return x @ x


SQUARE = 2 * 8**3


def test_a_dense_layer_counts_2mnk():
    assert count(lambda x, kernel, bias: jnp.tanh(x @ kernel + bias[None]), (32, 64), (64, 10), (10,)) == flops.Flops(
        matrix_products=2 * 32 * 64 * 10
    )


def test_the_backward_pass_of_a_dense_layer_counts_twice_the_forward_pass():
    def loss(x, kernel):
        return jnp.sum(jnp.square(x @ kernel))

    forward = 2 * 32 * 64 * 10
    assert count(jax.grad(loss, argnums=(0, 1)), (32, 64), (64, 10)).total == 3 * forward
    # Without the gradient of the inputs, as in a first layer, one of the two products is missing.
    assert count(jax.grad(loss, argnums=1), (32, 64), (64, 10)).total == 2 * forward


def test_attention_counts_every_element_of_the_batch_axes():
    counted = count(lambda q, k: jnp.einsum("bqhd,bkhd->bhqk", q, k), (2, 5, 3, 4), (2, 7, 3, 4))
    assert counted.total == 2 * (2 * 3) * 5 * 7 * 4


def conv(x, kernel, *, stride=1, padding="SAME", groups=1, dilation=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, rhs_dilation=(dilation, dilation), feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "inputs", "kernel", "pairs"),
    [
        # Pairs of an output and a tap along one axis, by hand. 9 positions of 3 taps less the two that hang over.
        ({}, (2, 9, 9, 4), (3, 3, 4, 6), 9 * 3 - 2),
        ({"padding": "VALID"}, (2, 9, 9, 4), (3, 3, 4, 6), 7 * 3),
        ({"stride": 2}, (2, 9, 9, 4), (3, 3, 4, 6), 5 * 3 - 2),
        ({"stride": 2, "padding": [(0, 0), (0, 0)]}, (2, 8, 8, 4), (1, 1, 4, 6), 4),
        # Two groups: an output reads half of the input's features, which is the kernel's third axis.
        ({"groups": 2}, (2, 9, 9, 4), (3, 3, 2, 6), 9 * 3 - 2),
        # Taps at -2, 0, 2: two outputs at each end miss one.
        ({"dilation": 2}, (2, 9, 9, 4), (3, 3, 4, 6), 9 * 3 - 4),
    ],
)
def test_a_convolution_counts_its_real_multiplications_and_so_do_both_backward_passes(options, inputs, kernel, pairs):
    forward = 2 * pairs**2 * inputs[0] * kernel[2] * kernel[3]

    def loss(x, kernel):
        return jnp.sum(jnp.square(conv(x, kernel, **options)))

    assert count(lambda *arrays: conv(*arrays, **options), inputs, kernel) == flops.Flops(convolutions=forward)
    assert count(jax.grad(loss, argnums=(0, 1)), inputs, kernel).convolutions == 3 * forward


def test_the_usual_figure_of_resnet50_is_found():
    """4.09 billion multiply-adds at 224 pixels (He et al. 2016 give 3.8 for the variant with early strides)."""
    import models

    def outputs(key, images):
        from configs import imagenet_resnet50

        config = imagenet_resnet50.get_config().model
        return models.build(config, input_shape=(224, 224, 3), categories=(), num_outputs=1000, key=key)(images)

    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    counted = flops.count(jax.make_jaxpr(outputs)(jax.random.key(0), images))
    # With the taps on padding it is 4.09e9; they make up two to four percent.
    assert 2 * 3.9e9 < counted.total < 2 * 4.09e9


def test_loops_count_as_often_as_they_turn():
    def scanned(x):
        return jax.lax.scan(lambda carry, _: (square(carry), None), x, length=5)[0]

    def unknown(x):
        return jax.lax.while_loop(lambda carry: carry[0, 0] < 1, square, x)

    assert count(scanned, (8, 8)) == flops.Flops(matrix_products=5 * SQUARE)
    assert count(unknown, (8, 8)) == flops.Flops(matrix_products=SQUARE, unknown_loops=1)
    assert count(lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 1, jnp.sin, x), (8, 8)) == flops.Flops()


def test_a_branch_counts_as_the_costliest():
    def branches(x):
        return jax.lax.switch(jnp.int32(0), [lambda y: y, square, lambda y: square(square(y))], x)

    assert count(branches, (8, 8)).total == 2 * SQUARE


def test_functions_inside_count():
    custom = jax.custom_vjp(square)
    custom.defvjp(lambda x: (square(x), x), lambda x, gradient: (gradient @ x + x @ gradient,))
    assert count(jax.jit(square), (8, 8)).total == SQUARE
    assert count(custom, (8, 8)).total == SQUARE
    assert count(jax.grad(lambda x: jnp.sum(custom(x))), (8, 8)).total == 3 * SQUARE
    assert count(jax.vmap(square), (3, 8, 8)).total == 3 * SQUARE


def test_recomputation_is_counted_where_it_stands_in_the_jaxpr():
    def loss(x):
        return jnp.sum(jnp.sin(square(x)))

    assert count(jax.grad(loss), (8, 8)).total == 3 * SQUARE
    assert count(jax.grad(jax.checkpoint(loss)), (8, 8)).total == 4 * SQUARE


def test_a_sharded_function_counts_over_all_devices():
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    halves, whole = PartitionSpec("data"), PartitionSpec()
    product = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(halves, whole), out_specs=halves, check_vma=False)
    # Rows are shared out over four devices; the two along "tensor" do the same work, and both count.
    assert count(product, (32, 64), (64, 10)).total == 2 * (2 * 32 * 64 * 10)
    assert count(jax.pmap(square), (8, 8, 8)).total == 8 * SQUARE
