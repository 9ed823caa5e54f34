"""Parses the text of a compiled XLA program: computations, instructions, shapes, and numbers of executions.

The format is XLA's HLO text (openxla.org/xla/operation_semantics), as `jax.stages.Compiled.as_text()` gives it.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32, "s64": 64, "u64": 64,
    "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128, "f4e2m1fn": 4,
}  # fmt: skip
_SHAPE = re.compile(r"(?P<dtype>[a-z][a-z0-9]*)\[(?P<dims>[0-9,<=]*)\](?:\{(?P<layout>[^{}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)")
_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{\s*$")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array.

    Attributes:
      dtype: as HLO names it: "f32", "bf16", "s32".
      dims: its shape.
      memory_space: 0 is the device's main memory; others are on the chip (or on the host).
    """

    dtype: str
    dims: tuple[int, ...]
    memory_space: int = 0

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Size without padding; any float8 is one byte, and a token, which is not an array, is none."""
        bits = 8 if self.dtype.startswith("f8") else _BITS.get(self.dtype, 0)
        return math.ceil(self.elements * bits / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: unique in the module.
      opcode: "dot", "fusion", "all-reduce-start".
      shapes: of the result; several for a tuple, nested ones laid flat.
      operands: names of instructions.
      attributes: all that follows the operands, as text.
      is_root: whether it is what the computation returns.
      literal: what stands between the parentheses of a constant or a parameter.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool
    literal: str

    @property
    def bytes(self) -> int:
        """The shapes of the result."""
        return sum(shape.bytes for shape in self.shapes)

    def attribute(self, name: str) -> str:
        """Returns the text of an attribute, up to the end of its braces or the next comma; "" if it is absent."""
        found = re.search(rf"(?:^|[ ,]){name}=", self.attributes)
        return _balanced(self.attributes, found.end()) if found else ""

    def called(self) -> tuple[str, ...]:
        """The names of the computations that it calls, without those applied to single elements."""
        names = (self.attribute(key) for key in ("calls", "condition", "body", "branch_computations"))
        names = (*names, self.attribute("true_computation"), self.attribute("false_computation"))
        if self.opcode in ("call", "async-start"):
            names = (*names, self.attribute("to_apply"))
        return tuple(_NAME.findall(" ".join(names)))


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program of one device.

    Attributes:
      computations: instructions by the computation's name, in order.
      entry: name of the computation that is the program.
      partitions: devices that the program runs on.
    """

    computations: Mapping[str, tuple[Instruction, ...]]
    entry: str
    partitions: int

    @functools.cached_property
    def instructions(self) -> dict[str, Instruction]:
        """All instructions by name."""
        return {each.name: each for computation in self.computations.values() for each in computation}

    def operand_shapes(self, instruction: Instruction) -> list[tuple[Shape, ...]]:
        """Returns the shapes of each operand."""
        return [self.instructions[name].shapes for name in instruction.operands if name in self.instructions]

    @functools.cached_property
    def executions(self) -> "Executions":
        """The number of executions of each computation in one run of the program."""
        return _executions(self)


@dataclasses.dataclass(frozen=True)
class Executions:
    """Numbers of executions of computations.

    Attributes:
      times: by the computation's name. Loops count as often as they turn, and every branch of a conditional counts:
        those of ours (the update, or no update) differ in all that matters.
      unknown_loops: names of the loops whose number of iterations is unknown; each counts as one.
    """

    times: Mapping[str, int]
    unknown_loops: tuple[str, ...]


def parse(text: str) -> Module:
    """Parses the text of a program.

    Raises:
      ValueError: it has no entry, so is no HLO text.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if not line.startswith(" ") and (header := _COMPUTATION.match(line)):
            current = computations.setdefault(header["name"], [])
            entry = header["name"] if header["entry"] else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append(_instruction(match["name"], match["rest"], is_root=bool(match["root"])))
    if not entry:
        raise ValueError("no entry computation: this is no HLO text")
    partitions = re.search(r"num_partitions=(\d+)", text.partition("\n")[0])
    replicas = re.search(r"replica_count=(\d+)", text.partition("\n")[0])
    devices = int(partitions[1] if partitions else 1) * int(replicas[1] if replicas else 1)
    return Module({name: tuple(lines) for name, lines in computations.items()}, entry, devices)


def _instruction(name: str, rest: str, *, is_root: bool) -> Instruction:
    rest = re.sub(r"/\*.*?\*/", "", rest)
    result = _balanced(rest, 0) if rest.startswith("(") else rest.split(" ", 1)[0]
    opcode, _, _ = rest[len(result) :].strip().partition("(")
    start = rest.index("(", len(result))
    arguments = _balanced(rest, start)
    return Instruction(
        name=name,
        opcode=opcode,
        shapes=tuple(_shapes(result)),
        operands=() if opcode in ("constant", "parameter") else tuple(_NAME.findall(arguments)),
        attributes=rest[start + len(arguments) :].lstrip(", "),
        is_root=is_root,
        literal=arguments[1:-1] if opcode in ("constant", "parameter") else "",
    )


def _shapes(text: str) -> Iterator[Shape]:
    for match in _SHAPE.finditer(text):
        dims = tuple(int(size.lstrip("<=")) for size in match["dims"].split(",") if size)
        space = _MEMORY_SPACE.search(match["layout"] or "")
        yield Shape(match["dtype"], dims, int(space[1]) if space else 0)


def _balanced(text: str, start: int) -> str:
    """Returns the item at `start`: a part in brackets, or everything up to the next comma or space."""
    depth, quoted = 0, False
    for position in range(start, len(text)):
        character = text[position]
        if character == '"' and text[position - 1] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif character in "({[":
            depth += 1
        elif character in ")}]":
            depth -= 1
            if depth < 0:
                return text[start:position]
            if depth == 0 and text[start] in "({[":
                return text[start : position + 1]
        elif depth == 0 and character in ", ":
            return text[start:position]
    return text[start:]


def _executions(module: Module) -> Executions:
    times: dict[str, int] = dict.fromkeys(module.computations, 0)
    unknown: list[str] = []

    def visit(name: str, repetitions: int) -> None:
        times[name] += repetitions
        for instruction in module.computations[name]:
            inside = repetitions
            if instruction.opcode == "while":
                turns = _turns(module, name, instruction)
                if turns is None:
                    unknown.append(instruction.name)
                inside *= 1 if turns is None else turns
            for called in instruction.called():
                if called in module.computations:
                    visit(called, inside)

    visit(module.entry, 1)
    return Executions(times, tuple(dict.fromkeys(unknown)))


def _turns(module: Module, computation: str, loop: Instruction) -> int | None:
    """Counts the iterations of a loop: as annotated by the compiler, or from a counter compared with a constant."""
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(noted[1])
    condition = module.computations.get(loop.attribute("condition").lstrip("%"), ())
    inside = {each.name: each for each in condition}
    compare = next((each for each in condition if each.is_root), None)
    if compare is None or compare.opcode != "compare" or compare.attribute("direction") != "LT":
        return None
    counter, limit = (inside.get(name) for name in compare.operands)
    if not (counter and limit and counter.opcode == "get-tuple-element" and limit.opcode == "constant"):
        return None
    index = int(counter.attribute("index"))
    start, step = _start(module, computation, loop, index), _stride(module, loop, index)
    if start is None or not step or not limit.literal.isdigit():
        return None
    return max(0, math.ceil((int(limit.literal) - start) / step))


def _stride(module: Module, loop: Instruction, index: int) -> int | None:
    """Finds the increment of the counter: not always 1, as the compiler unrolls loops; None if not constant."""
    inside = {each.name: each for each in module.computations.get(loop.attribute("body").lstrip("%"), ())}
    root = next((each for each in inside.values() if each.is_root), None)
    if root is None or root.opcode != "tuple":
        return None
    added = inside.get(root.operands[index])
    if added is None or added.opcode != "add":
        return None
    constants = [
        inside[name].literal for name in added.operands if name in inside and inside[name].opcode == "constant"
    ]
    return int(constants[0]) if len(constants) == 1 and constants[0].isdigit() else None


def _start(module: Module, computation: str, loop: Instruction, index: int) -> int | None:
    """Finds the initial value of a loop's counter, through copies; None if not constant."""
    inside = {each.name: each for each in module.computations[computation]}
    initial = inside.get(loop.operands[0])
    if initial is None or initial.opcode != "tuple":
        return None
    value = inside.get(initial.operands[index])
    while value is not None and value.opcode in ("copy", "bitcast", "copy-done", "copy-start") and value.operands:
        value = inside.get(value.operands[0])
    return int(value.literal) if value is not None and value.opcode == "constant" and value.literal.isdigit() else None
