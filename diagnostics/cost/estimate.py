"""The estimate of one config on one set of devices."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from diagnostics.cost import calibration, roofline
from diagnostics.cost.calibration import Calibration
from diagnostics.cost.collectives import Sum, by_kind
from diagnostics.cost.prices import Bill, Price
from diagnostics.cost.program import Compiled, Examples, compile_step
from diagnostics.cost.roofline import StepTime
from diagnostics.cost.target import Target
from diagnostics.cost.work import unknown_loops
from trainers.building import Training
from trainers.devices.flops import RULE

# Share of a GPU's memory that a process can use; the driver and libraries take the rest.
_USABLE = 0.92


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The cost of a training.

    Attributes:
      target: the devices.
      training: whose step it is.
      compiled: the compiled step.
      available: bytes of memory that each device has; 0 unknown.
      time: roofline terms; None on a CPU, which is timed.
      calibration: what was timed; None but on a CPU.
      seconds: of one step; nan if the program does not fit.
      num_devices: on which it runs.
      total_steps: of the training.
      bill: for the whole run.
      price: that the bill was made with.
      examples_source: where the number and form of examples are known from.
    """

    target: Target
    training: Training
    compiled: Compiled
    available: int
    time: StepTime | None
    calibration: Calibration | None
    seconds: float
    num_devices: int
    total_steps: int
    bill: Bill
    price: Price
    examples_source: str

    @property
    def fits(self) -> bool:
        """Whether the step's memory fits each device."""
        return not self.compiled.overflow and (not self.available or self.compiled.memory.total <= self.available)

    @property
    def least_seconds(self) -> float:
        """Of one step, as `seconds`, if a GPU's compiler fuses all vector arithmetic; else the same as `seconds`.

        What is left are the matrix products, one reading and writing of the state, and the collectives.
        """
        if self.target.kind != "gpu" or self.time is None:
            return self.seconds
        memory = self.compiled.memory
        state = memory.parameters + memory.optimizer + memory.average + memory.rest
        return min(self.seconds, roofline.least_seconds(self.time, self.target.hardware, 2 * state + memory.batch))

    @property
    def examples_per_second(self) -> float:
        """Over all devices."""
        return self.training.config.train.batch_size / self.seconds

    @property
    def hours(self) -> float:
        """Of all steps; compilation, evaluations, checkpoints and preemptions come on top."""
        return self.total_steps * self.seconds / 3600

    @property
    def peak_flops(self) -> float | None:
        """A second, of all devices together; None of a CPU."""
        hardware = self.target.hardware
        return None if hardware is None else hardware.peak_flops[self.training.config.model.dtype] * self.num_devices

    @property
    def mfu(self) -> float | None:
        """Model FLOP/s as a share of the peak; None of a CPU, whose peak is not known."""
        return self.peak_flops and roofline.mfu(self.seconds, self.training.model_flops, self.peak_flops)

    @property
    def collectives(self) -> dict[str, Sum]:
        """By kind, in one step."""
        return by_kind(self.compiled.collectives)

    def to_json(self) -> dict[str, Any]:
        """Returns all figures as plain values; in bytes and seconds, and per device unless the name says otherwise."""
        memory, config = self.compiled.memory, self.training.config
        return {
            "device": self.target.text,
            "devices": self.num_devices,
            "basis": self.target.basis,
            "mesh": dict(self.training.mesh.shape),
            "batch_size": config.train.batch_size,
            "accumulation_steps": config.train.accumulation_steps,
            "remat": config.model.remat,
            "model": config.model.name,
            "parameters": self.training.num_parameters,
            "examples": self.examples_source,
            "steps": self.total_steps,
            "fits": self.fits,
            "overflow": self.compiled.overflow,
            "memory": {
                **dataclasses.asdict(memory),
                "arguments": memory.arguments,
                "total": memory.total,
                "available": self.available,
            },
            "flops": {
                "rule": RULE,
                "model": self.training.model_flops,
                "compiled": self.compiled.flops * self.num_devices,
                "compiled_per_device": self.compiled.flops,
                "xla_per_device_loops_once": self.compiled.xla_flops,
                "loops_counted_once": list(unknown_loops(self.compiled.module)) if self.compiled.module else [],
            },
            "bytes": {
                "per_device": self.compiled.bytes,
                "xla_per_device_loops_once": self.compiled.xla_bytes,
            },
            "collectives": {kind: dataclasses.asdict(each) for kind, each in self.collectives.items()},
            "step_seconds": _or_none(self.seconds),
            "step_seconds_range": [_or_none(self.least_seconds), _or_none(self.seconds)],
            "roofline": self.time and {**dataclasses.asdict(self.time), "bound": self.time.bound},
            "calibration": self.calibration and dataclasses.asdict(self.calibration),
            "assumptions": assumptions(self),
            "examples_per_second": _or_none(self.examples_per_second),
            "mfu": _or_none(self.mfu),
            "hours": _or_none(self.hours),
            "bill": {
                **{name: _or_none(amount) for name, amount in dataclasses.asdict(self.bill).items()},
                "currency": self.price.currency,
                "date": self.price.date,
            },
            "compile_seconds": self.compiled.seconds,
        }


def make_estimate(
    training: Training, examples: Examples, target: Target, devices: Sequence[Any], price: Price
) -> Estimate:
    """Compiles a step and estimates the cost of its training.

    Args:
      training: of `make_training`, over these devices.
      examples: what it trains on.
      target: the devices.
      devices: as JAX knows them.
      price: of one.
    """
    config, compiled = training.config, compile_step(training)
    num_devices = training.mesh.size
    time, learnt, seconds = None, None, float("nan")
    if compiled.module is not None and target.hardware is not None:
        time = roofline.step_time(
            compiled.operations, compiled.collectives, target.hardware, target.shape, config.model.dtype
        )
        seconds = time.seconds
    elif compiled.module is not None:
        learnt = calibration.calibrate(training, examples, devices)
        seconds = learnt.step_seconds(compiled)
    total_steps = training.clock.total_steps
    return Estimate(
        target=target,
        training=training,
        compiled=compiled,
        available=_available(target, num_devices),
        time=time,
        calibration=learnt,
        seconds=seconds,
        num_devices=num_devices,
        total_steps=total_steps,
        # A CPU machine has one price, however many devices JAX shows.
        bill=Bill.of(price, hours=total_steps * seconds / 3600, devices=1 if target.hardware is None else num_devices),
        price=price,
        examples_source=examples.source,
    )


def assumptions(estimate: Estimate) -> str:
    """Describes the assumptions of the step time in one sentence."""
    if estimate.calibration is None:
        return roofline.ASSUMPTIONS
    return (
        f"calibrated by timing one step of {estimate.calibration.batch_size} examples here "
        f"({estimate.calibration.seconds * 1e3:.3g} ms); steps dispatched one at a time (execution.mode 'loop')"
    )


def _or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _available(target: Target, num_devices: int) -> int:
    if target.kind == "tpu":
        return target.hardware.memory_bytes
    if target.kind == "gpu":
        return int(target.hardware.memory_bytes * _USABLE)
    # All devices share the machine's memory.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // num_devices
