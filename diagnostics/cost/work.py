"""The work of a compiled program on one device: floating-point operations and bytes moved, operation by operation.

XLA has a cost analysis of its own (`Compiled.cost_analysis`), but it takes the body of a loop once, however often it
turns, and a model whose blocks run in a scan is such a loop. Here each operation counts as often as it is executed.

An operation is what the device executes as one: an instruction that is not fused, or a whole fusion, whose inner values
never leave the chip. Bytes are those it reads from main memory and writes to it: of an array that is only sliced, the
slice; of one that is updated in place, the update. Values that the compiler keeps in memory on the chip cost nothing.
"""

import dataclasses
import math
import re

from diagnostics.cost.hlo import Instruction, Module, Shape
from trainers.devices import flops

# They move no bytes, or what they call is counted instead.
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while", "conditional", "call",
    "partition-id", "replica-id", "opt-barrier", "async-start", "async-update", "async-done", "domain",
})  # fmt: skip
_SLICING = ("dynamic-slice", "slice", "gather")
# Through these, an array that is sliced afterwards is read only in the slice.
_TRANSPARENT = ("bitcast", "copy", "convert", "reshape", "transpose")
# No arithmetic in the elements of their results.
_MOVING = _FREE | {
    "copy", "copy-start", "copy-done", "reshape", "transpose", "broadcast", "slice", "slice-start", "concatenate",
    "pad", "iota", "gather", "scatter", "dynamic-slice", "dynamic-update-slice", "reverse", "custom-call", "fusion",
    "dot", "convolution", "reduce-window", "rng-bit-generator",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
      name: of its instruction.
      times: how often it is executed in one run of the program.
      flops: of matrix products and convolutions in it, one execution: 2mnk, padding and inserted zeros left out.
      elements: elements of results of all other arithmetic in it, one execution.
      bytes: read from main memory and written to it, one execution.
    """

    name: str
    times: int
    flops: int
    elements: int
    bytes: int


def operations(module: Module) -> list[Operation]:
    """Returns the operations of a program on one device that compute or move something."""
    found = []
    for computation in _executed(module):
        times = module.executions.times[computation]
        for instruction in module.computations[computation]:
            if times and instruction.opcode not in _FREE and not instruction.opcode.endswith("-done"):
                found.append(
                    Operation(
                        name=instruction.name,
                        times=times,
                        flops=_flops(module, instruction),
                        elements=_elements(module, instruction),
                        bytes=_bytes(module, instruction),
                    )
                )
    return found


def unknown_loops(module: Module) -> tuple[str, ...]:
    """Returns the loops with matrix products whose number of iterations is unknown; they count as one iteration."""
    return tuple(
        name
        for name in module.executions.unknown_loops
        if any(_computation_flops(module, called) for called in module.instructions[name].called())
    )


def _executed(module: Module) -> list[str]:
    """Returns the computations whose instructions are operations, without the insides of fusions."""
    reached, waiting = [], [module.entry]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in module.computations:
            continue
        reached.append(name)
        for instruction in module.computations[name]:
            if instruction.opcode != "fusion":
                waiting += instruction.called()
    return reached


def _flops(module: Module, instruction: Instruction) -> int:
    if instruction.opcode == "dot":
        return _dot(module, instruction)
    if instruction.opcode == "convolution":
        return _convolution(module, instruction)
    if instruction.opcode == "fusion":
        return sum(_computation_flops(module, called) for called in instruction.called())
    return 0


def _computation_flops(module: Module, computation: str) -> int:
    total = 0
    for instruction in module.computations.get(computation, ()):
        total += _flops(module, instruction)
        if instruction.opcode in ("while", "conditional", "call"):
            total += sum(_computation_flops(module, called) for called in instruction.called())
    return total


def _dot(module: Module, instruction: Instruction) -> int:
    (lhs,) = module.operand_shapes(instruction)[0]
    contracted = _integers(instruction.attribute("lhs_contracting_dims"))
    return 2 * instruction.shapes[0].elements * math.prod(lhs.dims[axis] for axis in contracted)


def _convolution(module: Module, instruction: Instruction) -> int:
    """TPU programs express matrix products as convolutions, with batch axes as spatial axes of a dilated input."""
    (lhs,), (rhs,) = module.operand_shapes(instruction)[:2]
    out = instruction.shapes[0]
    labels = re.fullmatch(r"(\w+)_(\w+)->(\w+)", instruction.attribute("dim_labels"))
    lhs_labels, rhs_labels, out_labels = labels.groups()
    spatial = sorted(label for label in lhs_labels if label.isdigit())
    window = _window(instruction.attribute("window"), len(spatial))

    def sizes(shape: Shape, order: str) -> list[int]:
        return [shape.dims[order.index(label)] for label in spatial]

    return flops.convolution(
        batch=out.dims[out_labels.index("b")],
        out_features=out.dims[out_labels.index("f")],
        in_features=rhs.dims[rhs_labels.index("i")],
        inputs=sizes(lhs, lhs_labels),
        outputs=sizes(out, out_labels),
        kernel=sizes(rhs, rhs_labels),
        strides=window["stride"],
        padding=window["pad"],
        input_dilation=window["lhs_dilate"],
        kernel_dilation=window["rhs_dilate"],
    )


def _window(text: str, axes: int) -> dict[str, list]:
    """`{size=3x3 stride=2x2 pad=1_1x1_1}` by name, with what is not there at its default."""
    given = dict(part.split("=", 1) for part in text.strip("{}").split())
    window: dict[str, list] = {
        name: [int(size) for size in given[name].split("x")] if name in given else [1] * axes
        for name in ("stride", "lhs_dilate", "rhs_dilate")
    }
    pads = given["pad"].split("x") if "pad" in given else ["0_0"] * axes
    window["pad"] = [tuple(int(size) for size in pad.split("_")) for pad in pads]
    return window


def _elements(module: Module, instruction: Instruction) -> int:
    if instruction.opcode == "fusion":
        return sum(
            _elements(module, inner) for called in instruction.called() for inner in module.computations.get(called, ())
        )
    if instruction.opcode == "reduce":
        return sum(shape.elements for shapes in module.operand_shapes(instruction) for shape in shapes)
    return 0 if instruction.opcode in _MOVING else sum(shape.elements for shape in instruction.shapes)


def _bytes(module: Module, instruction: Instruction) -> int:
    if instruction.opcode == "fusion":
        (called,) = instruction.called()
        parameters = _parameters(module, called)
        read = sum(
            _read(module, called, parameters[number], shape)
            for number, shapes in enumerate(module.operand_shapes(instruction))
            for shape in shapes
            if number in parameters and shape.memory_space == 0
        )
        return read + _written(module, called, instruction.shapes)
    operands = module.operand_shapes(instruction)
    if instruction.opcode in _SLICING:
        return 2 * _main_memory(instruction.shapes)
    if instruction.opcode == "slice-start":  # Its result: the operands, the slice, a handle.
        piece = instruction.shapes[-2]
        return piece.bytes * any(map(_main_memory, operands)) + _main_memory((piece,))
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _main_memory(operands[1]) if _main_memory(instruction.shapes) else 0
    # The result of a start names its operand again, and a handle.
    result = instruction.shapes[:1] if instruction.opcode.endswith("-start") else instruction.shapes
    return sum(map(_main_memory, operands)) + _main_memory(result)


def _main_memory(shapes: tuple[Shape, ...]) -> int:
    return sum(shape.bytes for shape in shapes if shape.memory_space == 0)


def _parameters(module: Module, computation: str) -> dict[int, Instruction]:
    instructions = module.computations[computation]
    return {int(each.literal): each for each in instructions if each.opcode == "parameter"}


def _read(module: Module, computation: str, value: Instruction, whole: Shape) -> int:
    """Counts the bytes that a fusion reads of one input, which is `value` inside the fusion."""
    total = 0
    for user in module.computations[computation]:
        if value.name not in user.operands:
            continue
        place = user.operands.index(value.name)
        if user.opcode in _SLICING and place == 0:
            total += user.shapes[0].elements * whole.bytes // max(1, whole.elements)
        elif user.opcode == "dynamic-update-slice" and place == 0:
            continue  # In place: what is not updated is not touched.
        elif user.opcode in _TRANSPARENT and not user.is_root:
            total += _read(module, computation, user, whole)
        elif user.opcode == "fusion":
            (called,) = user.called()
            total += _read(module, called, _parameters(module, called)[place], whole)
        else:
            return whole.bytes
    return min(total, whole.bytes)


def _written(module: Module, computation: str, shapes: tuple[Shape, ...]) -> int:
    """Counts the bytes that a fusion writes: whole results, or only the update of an array updated in place."""
    inside = {each.name: each for each in module.computations[computation]}
    root = next(each for each in inside.values() if each.is_root)
    results = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
    if len(results) != len(shapes):
        return _main_memory(shapes)
    total = 0
    for result, shape in zip(results, shapes, strict=True):
        while result.opcode in _TRANSPARENT and result.operands[0] in inside:
            result = inside[result.operands[0]]
        if shape.memory_space != 0:
            continue
        if result.opcode == "dynamic-update-slice":
            update = inside[result.operands[1]].shapes[0]
            total += update.elements * shape.bytes // max(1, shape.elements)
        else:
            total += shape.bytes
    return total


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
