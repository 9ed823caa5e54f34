"""Communication between the devices of a compiled program: collectives by kind, with their number and bytes."""

import dataclasses
import math
import re

from diagnostics.cost.hlo import Instruction, Module

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      times: how often it is executed in one run of the program.
      bytes: of what it is about, on one device: the array that is reduced, scattered, exchanged or sent, or that is
        gathered together.
      group_size: devices that take part with each other.
    """

    kind: str
    times: int
    bytes: int
    group_size: int

    @property
    def sent_bytes(self) -> float:
        """Bytes that each device sends in one execution, by ring algorithms, which are optimal.

        With n devices an all-reduce sends 2 (n - 1) / n of the array, a gather, scatter or exchange (n - 1) / n, a
        permutation all of it (Thakur, Rabenseifner and Gropp 2005, sections 4.1 to 4.5).
        """
        share = (self.group_size - 1) / self.group_size
        return self.bytes * {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}.get(
            self.kind, share
        )


@dataclasses.dataclass(frozen=True)
class Sum:
    """Collectives of one kind, over one run of the program.

    Attributes:
      count: executions.
      bytes: over all of them, as in `Collective`.
      sent_bytes: over all of them, for each device.
    """

    count: int = 0
    bytes: int = 0
    sent_bytes: float = 0.0


def find(module: Module) -> list[Collective]:
    """Finds the collectives of a program between two or more devices.

    One that is asynchronous (a start and a done) counts once; one that is fused with what follows, where it stands.
    """
    found = []
    for name, instructions in module.computations.items():
        times = module.executions.times[name]
        for instruction in instructions:
            kind = instruction.opcode.removesuffix("-start")
            if times and kind in KINDS:
                found.append(_collective(module, name, instruction, kind, times))
    return [each for each in found if each.group_size > 1]


def by_kind(collectives: list[Collective]) -> dict[str, Sum]:
    """Sums collectives by kind; kinds that do not occur are left out."""
    sums: dict[str, Sum] = {}
    for each in collectives:
        old = sums.get(each.kind, Sum())
        sums[each.kind] = Sum(
            old.count + each.times, old.bytes + each.times * each.bytes, old.sent_bytes + each.times * each.sent_bytes
        )
    return {kind: sums[kind] for kind in KINDS if kind in sums}


def _collective(module: Module, computation: str, instruction: Instruction, kind: str, times: int) -> Collective:
    group_size = _group_size(instruction, module.partitions)
    given = sum(shape.bytes for shapes in module.operand_shapes(instruction) for shape in shapes)
    # TPU programs fuse a reduction with the slicing that follows it, and so make a reduce-scatter of the two.
    if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    return Collective(kind, times, given * (group_size if kind == "all-gather" else 1), group_size)


def _group_size(instruction: Instruction, devices: int) -> int:
    """Reads `{{0,1},{2,3}}`, `[2,4]<=[8]`, `mesh['x'=4,'y'=2] {'x'}`; if none are given, all devices take part."""
    pairs = instruction.attribute("source_target_pairs")
    if pairs:
        return 1 if all(source == target for source, target in re.findall(r"\{(\d+),(\d+)\}", pairs)) else 2
    text = instruction.attributes.partition("replica_groups=")[2]
    if listed := re.match(r"\{\{([\d, ]*)\}", text):
        return len([number for number in listed[1].split(",") if number.strip()]) or devices
    if iota := re.match(r"\[(\d+),(\d+)\]<=", text):
        return int(iota[2])
    if mesh := re.match(r"(?:@?[\w.]+|mesh)\[([^\]]*)\]\s*\{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        # A part of an axis is written 'x':(before)size.
        taken = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part) if part else sizes[name] for name, part in taken)
    return devices
