"""The time of a step, from its operations and traffic and the peaks of the devices.

Each operation takes the longer of its arithmetic and its traffic with main memory (Williams, Waterman and Patterson
2009, "Roofline"). A step takes their sum, or the time of its collectives if that is longer, as they overlap with the
arithmetic. No program reaches the peaks; the shares below are typical of good programs, and are part of every report.
Vector arithmetic counts by its memory traffic alone.
"""

import dataclasses
import math
from collections.abc import Sequence

from diagnostics.cost.collectives import Collective
from diagnostics.cost.work import Operation
from trainers.devices.hardware import Hardware

# Shares of the peaks that are assumed to be reached.
COMPUTE_EFFICIENCY = 0.75
MEMORY_EFFICIENCY = 0.80
INTERCONNECT_EFFICIENCY = 0.80
# Smallest times of an operation and a collective, which dominate in small models.
LEAST_OPERATION_SECONDS = 2e-7
LEAST_COLLECTIVE_SECONDS = 5e-6

ASSUMPTIONS = (
    f"roofline, operation by operation, at {COMPUTE_EFFICIENCY:.0%} of peak FLOP/s, {MEMORY_EFFICIENCY:.0%} of memory "
    f"bandwidth and {INTERCONNECT_EFFICIENCY:.0%} of the links' bandwidth, at least "
    f"{LEAST_OPERATION_SECONDS * 1e6:g} us an operation and {LEAST_COLLECTIVE_SECONDS * 1e6:g} us a collective; "
    "collectives run beside the arithmetic; input and dispatch keep up"
)
"""The assumptions of the estimate, in one sentence, for reports."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one step on one device.

    Attributes:
      compute: all arithmetic of matrix products and convolutions, by itself.
      memory: all traffic with main memory, by itself.
      operations: the sum over operations of the longer of the two.
      interconnect: all collectives.
    """

    compute: float
    memory: float
    operations: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """The estimate, with collectives overlapping with arithmetic."""
        return max(self.operations, self.interconnect)

    @property
    def seconds_without_overlap(self) -> float:
        """The estimate without any overlap."""
        return self.operations + self.interconnect

    @property
    def bound(self) -> str:
        """What takes the most: "compute", "memory" or "interconnect"."""
        terms = {"compute": self.compute, "memory": self.memory, "interconnect": self.interconnect}
        return max(terms, key=lambda name: terms[name])


def step_time(
    operations: Sequence[Operation],
    collectives: Sequence[Collective],
    hardware: Hardware,
    shape: Sequence[int],
    dtype: str,
) -> StepTime:
    """The time of one step.

    Args:
      operations: of one device.
      collectives: of the program.
      hardware: of the devices.
      shape: sides of the torus, or the number of devices.
      dtype: of the arithmetic, a key of `hardware.peak_flops`.
    """
    flops_rate = hardware.peak_flops[dtype] * COMPUTE_EFFICIENCY
    bytes_rate = hardware.memory_bandwidth * MEMORY_EFFICIENCY
    return StepTime(
        compute=sum(each.times * each.flops for each in operations) / flops_rate,
        memory=sum(each.times * each.bytes for each in operations) / bytes_rate,
        operations=sum(
            each.times * max(each.flops / flops_rate, each.bytes / bytes_rate, LEAST_OPERATION_SECONDS)
            for each in operations
        ),
        interconnect=sum(
            each.times
            * max(
                each.sent_bytes / (bandwidth(hardware, shape, each.group_size) * INTERCONNECT_EFFICIENCY),
                LEAST_COLLECTIVE_SECONDS,
            )
            for each in collectives
        ),
    )


def least_seconds(time: StepTime, hardware: Hardware, num_bytes: int) -> float:
    """The time of a step of which only the matrix products, some traffic and the collectives are left.

    Args:
      time: of the whole step.
      hardware: of the devices.
      num_bytes: to and from the main memory of a device.
    """
    return max(time.compute, num_bytes / (hardware.memory_bandwidth * MEMORY_EFFICIENCY), time.interconnect)


def bandwidth(hardware: Hardware, shape: Sequence[int], group_size: int) -> float:
    """Bytes a second that a device can send to the others of a group, all links of use taken together.

    On a torus, a group takes as many axes as its size needs, longest first; an axis that closes into a ring is used
    both ways, another one way. Behind a switch all of the link's bandwidth is there within a host, and the network's
    beyond it.

    Args:
      hardware: of the devices.
      shape: sides of the torus, or the number of devices.
      group_size: devices of a collective.
    """
    if not hardware.torus_axes:
        within_host = group_size <= hardware.devices_per_host or not hardware.network_bandwidth
        return hardware.link_bandwidth * hardware.links if within_host else hardware.network_bandwidth
    links, reached = 0, 1
    for side in sorted(shape, reverse=True):
        if reached >= group_size:
            break
        reached *= side
        links += 0 if side == 1 else 2 if _closes(hardware, side) else 1
    return hardware.link_bandwidth * max(1, links)


def _closes(hardware: Hardware, side: int) -> bool:
    return side == 16 if hardware.wraps == "16" else hardware.wraps == "4s" and side % 4 == 0


def mfu(seconds: float, model_flops: float, peak_flops: float) -> float:
    """Model FLOP/s as a share of the peak (MFU; Chowdhery et al. 2022, appendix B).

    Args:
      seconds: of a step, measured or estimated.
      model_flops: of a step over all devices.
      peak_flops: a second, of all devices together.
    """
    return model_flops / (seconds * peak_flops) if seconds > 0 else math.nan
