"""Floating-point operations of a program, counted from its jaxpr before anything is compiled.

The count is of the mathematics, independent of the compiler: a multiplication and an addition for each term of each sum
in a matrix product or a convolution. Everything else (activations, norms, the optimizer) is left out, as is usual for
model FLOPs (Chowdhery et al. 2022, "PaLM", appendix B). It is small in comparison, and published figures omit it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxprs_in_params

RULE = (
    "model FLOPs: 2mnk of every matrix product and convolution, forward and backward; recomputation, padding and all "
    "other arithmetic left out"
)
"""The rule of the count in one sentence, to be printed beside figures."""


@dataclasses.dataclass(frozen=True)
class Flops:
    """Floating-point operations; an addition and a multiplication count as two.

    Attributes:
      matrix_products: of `dot_general`.
      convolutions: of `conv_general_dilated`.
      unknown_loops: `while` loops that contain such arithmetic. A jaxpr does not hold their number of iterations; each
        counts as one iteration.
    """

    matrix_products: int = 0
    convolutions: int = 0
    unknown_loops: int = 0

    @property
    def total(self) -> int:
        """Of both kinds."""
        return self.matrix_products + self.convolutions

    def __add__(self, other: "Flops") -> "Flops":
        """The sum, field by field."""
        return Flops(
            self.matrix_products + other.matrix_products,
            self.convolutions + other.convolutions,
            self.unknown_loops + other.unknown_loops,
        )

    def times(self, repetitions: int) -> "Flops":
        """The operations of several executions; a loop of unknown length stays one loop."""
        return Flops(self.matrix_products * repetitions, self.convolutions * repetitions, self.unknown_loops)


def count(jaxpr: ClosedJaxpr | Jaxpr) -> Flops:
    """Counts the floating-point operations of a jaxpr over all devices.

    A scan counts once for each iteration, a `while` loop once, a `cond` as its most expensive branch, and a `shard_map`
    once for each device along the axes that it maps over. What `jax.checkpoint` recomputes is in the jaxpr and is
    counted: for model FLOPs (`RULE`), make the jaxpr without rematerialization.

    Args:
      jaxpr: as `jax.make_jaxpr(function)(*arguments)` or `jax.jit(function).trace(*arguments).jaxpr` returns it.
    """
    if isinstance(jaxpr, ClosedJaxpr):
        jaxpr = jaxpr.jaxpr
    return sum((_of_equation(equation) for equation in jaxpr.eqns), Flops())


def convolution(
    *,
    batch: int,
    out_features: int,
    in_features: int,
    inputs: Sequence[int],
    outputs: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    input_dilation: Sequence[int],
    kernel_dilation: Sequence[int],
) -> int:
    """Floating-point operations of a convolution: 2 for each pair of an output and a kernel tap that meets an input.

    Taps that fall on padding, or between the elements of a dilated input, multiply by zero and are left out. So a
    convolution and its two backward passes (of which one has a dilated input) count the same.

    Args:
      batch: elements of the output along its batch axis.
      out_features: elements of the output along its feature axis.
      in_features: input features that each output feature reads: of one group.
      inputs: size of the input along each spatial axis, before dilation.
      outputs: size of the output along each spatial axis.
      kernel: size of the kernel along each spatial axis, before dilation.
      strides: along each spatial axis.
      padding: before and after the dilated input along each spatial axis.
      input_dilation: along each spatial axis; 1 is none.
      kernel_dilation: along each spatial axis; 1 is none.
    """
    pairs = 1
    for size, out, taps, stride, (before, _), dilation, spread in zip(
        inputs, outputs, kernel, strides, padding, input_dilation, kernel_dilation, strict=True
    ):
        position = np.arange(out)[:, None] * stride + np.arange(taps)[None] * spread - before
        met = (position >= 0) & (position < (size - 1) * dilation + 1) & (position % dilation == 0)
        pairs *= int(met.sum())
    return 2 * pairs * batch * out_features * in_features


def _of_equation(equation: JaxprEqn) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return Flops(matrix_products=_dot_general(equation))
    if name == "conv_general_dilated":
        return Flops(convolutions=_conv_general_dilated(equation))
    inner = [count(jaxpr) for jaxpr in jaxprs_in_params(params)]
    if name == "cond":
        return max(inner, key=lambda flops: flops.total)
    total = sum(inner, Flops())
    if name == "scan":
        return total.times(params["length"])
    if name == "while":
        return dataclasses.replace(total, unknown_loops=total.unknown_loops + (total.total > 0))
    if name == "shard_map":
        return total.times(math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"]))
    return total


def _dot_general(equation: JaxprEqn) -> int:
    lhs, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    (contracting, _), _ = equation.params["dimension_numbers"]
    return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracting)


def _conv_general_dilated(equation: JaxprEqn) -> int:
    (lhs, rhs), out = (variable.aval.shape for variable in equation.invars), equation.outvars[0].aval.shape
    params, numbers = equation.params, equation.params["dimension_numbers"]
    # A specification lists the batch (of the kernel: output feature) axis, the feature axis, then the spatial ones.
    return convolution(
        batch=out[numbers.out_spec[0]],
        out_features=out[numbers.out_spec[1]],
        in_features=rhs[numbers.rhs_spec[1]],
        inputs=[lhs[axis] for axis in numbers.lhs_spec[2:]],
        outputs=[out[axis] for axis in numbers.out_spec[2:]],
        kernel=[rhs[axis] for axis in numbers.rhs_spec[2:]],
        strides=params["window_strides"],
        padding=params["padding"],
        input_dilation=params["lhs_dilation"],
        kernel_dilation=params["rhs_dilation"],
    )
