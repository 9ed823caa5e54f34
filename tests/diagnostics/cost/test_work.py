import jax
import jax.numpy as jnp
import pytest

from diagnostics.cost import hlo, work
from trainers.devices import flops


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def total(module, field):
    return sum(each.times * getattr(each, field) for each in work.operations(module))


def analytic(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return flops.count(jax.make_jaxpr(function)(*arguments)).total


def test_a_dense_layer_compiles_to_2mnk():
    module = compiled(lambda x, kernel, bias: jnp.tanh(x @ kernel + bias[None]), (32, 64), (64, 10), (10,))
    assert total(module, "flops") == 2 * 32 * 64 * 10


def loss(x, kernels):
    def layer(x, kernel):
        return jnp.tanh(x @ kernel), None

    return jnp.sum(jax.lax.scan(layer, x, kernels)[0])


def test_a_loop_counts_in_full_where_xla_counts_one_turn():
    shapes = (16, 32), (7, 32, 32)
    module = compiled(jax.grad(loss, argnums=1), *shapes)
    assert total(module, "flops") == analytic(jax.grad(loss, argnums=1), *shapes)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    by_xla = jax.jit(jax.grad(loss, argnums=1)).lower(*arguments).compile().cost_analysis()["flops"]
    assert by_xla < total(module, "flops") / 3


@pytest.mark.parametrize(
    ("stride", "padding", "groups"), [(1, "SAME", 1), (2, "SAME", 1), (2, "VALID", 1), (1, "SAME", 4)]
)
def test_convolutions_and_their_backward_passes_compile_to_what_was_counted(stride, padding, groups):
    def convolved(x, kernel):
        return jnp.sum(
            jnp.square(
                jax.lax.conv_general_dilated(
                    x, kernel, (stride, stride), padding, feature_group_count=groups,
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
            )
        )  # fmt: skip

    shapes = (2, 9, 9, 8), (3, 3, 8 // groups, 12)
    gradient = jax.grad(convolved, argnums=(0, 1))
    assert total(compiled(gradient, *shapes), "flops") == analytic(gradient, *shapes)


def test_bytes_of_an_elementwise_function_are_those_of_its_arguments_and_result():
    assert total(compiled(lambda x, y: jnp.exp(x) * y + 1, (64, 64), (64, 64)), "bytes") == 3 * 64 * 64 * 4


def test_of_an_array_that_a_loop_slices_only_the_slices_are_read():
    module = compiled(lambda x, kernels: jax.lax.scan(lambda c, k: (c * k, None), x, kernels)[0], (4096,), (50, 4096))
    # Each turn reads the carry and its slice, and writes the carry; the loop's own bookkeeping is little.
    assert total(module, "bytes") == pytest.approx(50 * 3 * 4096 * 4, rel=0.05)


def test_a_loop_of_unknown_length_with_products_in_it_is_named():
    module = compiled(lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 1, lambda y: y @ y, x), (8, 8))
    assert len(work.unknown_loops(module)) == 1
    assert total(module, "flops") == 2 * 8**3


# As TPU programs write a product with two batch axes, here of 4 x 3 products of (5, 6) by (6, 7).
TPU_PRODUCT = """HloModule m, num_partitions=1

ENTRY %main (p: bf16[4,3,5,6], q: bf16[4,3,6,7]) -> bf16[4,3,5,7] {
  %p = bf16[4,3,5,6]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %q = bf16[4,3,6,7]{3,2,1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %c = bf16[4,3,5,7]{3,2,1,0:T(8,128)(2,1)} convolution(%p, %q), window={size=4x3 stride=3x2 lhs_dilate=4x3}, dim_labels=01bf_01io->01bf
}
"""  # noqa: E501


def test_a_product_written_as_a_convolution_counts_2mnk_and_memory_on_the_chip_is_free():
    (operation,) = work.operations(hlo.parse(TPU_PRODUCT))
    assert operation.flops == 2 * 4 * 3 * 5 * 6 * 7
    assert operation.bytes == 2 * (4 * 3 * 5 * 6 + 4 * 3 * 5 * 7)


# A loop that the compiler has unrolled: its counter goes from 0 to 8 by steps of 2.
UNROLLED = """HloModule m, num_partitions=1

%body (p: (u32[], f32[8,8])) -> (u32[], f32[8,8]) {
  %p = (u32[]{:T(128)}, f32[8,8]{1,0}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%p), index=1
  %two = u32[]{:T(128)} constant(2)
  %next = u32[]{:T(128)} add(%i, %two)
  %d = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (u32[]{:T(128)}, f32[8,8]{1,0}) tuple(%next, %d)
}

%condition (q: (u32[], f32[8,8])) -> pred[] {
  %q = (u32[]{:T(128)}, f32[8,8]{1,0}) parameter(0)
  %j = u32[]{:T(128)} get-tuple-element(%q), index=0
  %limit = u32[]{:T(128)} constant(8)
  ROOT %less = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

ENTRY %main (a: f32[8,8]) -> (u32[], f32[8,8]) {
  %a = f32[8,8]{1,0} parameter(0)
  %zero = u32[]{:T(128)} constant(0)
  %start = u32[]{:T(128)} copy(%zero)
  %state = (u32[]{:T(128)}, f32[8,8]{1,0}) tuple(%start, %a)
  ROOT %w = (u32[]{:T(128)}, f32[8,8]{1,0}) while(%state), condition=%condition, body=%body
}
"""


def test_turns_of_a_loop_are_read_off_its_condition_start_and_stride():
    module = hlo.parse(UNROLLED)
    assert total(module, "flops") == 4 * 2 * 8**3
    assert work.unknown_loops(module) == ()
    unknown = hlo.parse(UNROLLED.replace("constant(0)", "parameter(1)"))
    assert work.unknown_loops(unknown) == ("w",)
    assert total(unknown, "flops") == 2 * 8**3
