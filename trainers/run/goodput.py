"""Where the wall time of a run goes, over all of its starts, and how well its steps use the hardware.

Goodput is the share of wall time spent in useful steps. The rest is badput: compiling, waiting for data (reading while
no step is in flight), checkpoints, evaluations, the first start (opening the data and making the state), and restarts.
A restart includes everything since the checkpoint that the run resumed from. MFU, the model FLOPs utilization, is the
share of the peak FLOP/s of the hardware that the model uses in those steps (Chowdhery et al. 2022, "PaLM", appendix B).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainers.building import Training
from trainers.devices import flops, hardware

# What wall time goes into besides "steps".
BADPUT = ("start", "compile", "data", "checkpoint", "evaluation", "restart")


class Goodput:
    """The clock of one call of `train`, which continues the clocks of earlier calls.

    Args:
      began: when the call began, in Unix seconds.
    """

    def __init__(self, began: float):
        self._began = began
        self._opening = "start"
        self._badput = dict.fromkeys(BADPUT, 0.0)
        self._earlier = dict.fromkeys(("steps", *BADPUT), 0.0)
        self._first: tuple[int, dict[str, float]] | None = None
        self._logged: tuple[int, float] | None = None

    @property
    def is_stepping(self) -> bool:
        """Whether the first dispatch, which compiles, is over."""
        return self._first is not None

    def resume_from(self, saved: Mapping[str, Any]) -> None:
        """Continues the clock that `to_save` wrote into the checkpoint that the run resumes from."""
        if saved:
            self._opening = "restart"
            self._earlier |= saved["seconds"]
            self._earlier["restart"] += max(0.0, self._began - saved["time"])

    def to_save(self) -> dict[str, Any]:
        """The fields of this clock for a checkpoint."""
        return {"seconds": self.seconds(), "time": time.time()}

    def add(self, name: str, seconds: float) -> None:
        """Adds time to one of `BADPUT`."""
        self._badput[name] += seconds

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Adds the time of the block to one of `BADPUT`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def begin_stepping(self, step: int) -> None:
        """Marks the end of the first dispatch. Time before it that is not badput yet is the start or restart."""
        self.add(self._opening, time.time() - self._began - sum(self._badput.values()))
        self.go_back(step)

    def go_back(self, step: int) -> None:
        """Counts steps from `step` again, after a rollback."""
        self._first = self._logged = step, self._own()

    def seconds(self) -> dict[str, float]:
        """Wall time of the run over all its starts, in seconds, by what it went into."""
        own = self._own()
        return {name: self._earlier[name] + own[name] for name in self._earlier}

    def figures(
        self, step: int, *, flops_per_step: int, peak_flops: float | None, whole_call: bool = False
    ) -> dict[str, Any]:
        """Goodput so far, and model FLOP/s and MFU since the last call.

        Args:
          step: steps taken.
          flops_per_step: model FLOPs of a step, over all devices.
          peak_flops: peak FLOP/s of all devices together; None if it is unknown.
          whole_call: FLOP/s and MFU of all steps of this call of `train`.
        """
        seconds = self.seconds()
        figures: dict[str, Any] = {"goodput": _ratio(seconds["steps"], sum(seconds.values())), "seconds": seconds}
        if self._first is not None and self._logged is not None:
            (since, before), own = self._first if whole_call else self._logged, self._own()
            rate = _ratio((step - since) * flops_per_step, own["steps"] - before["steps"])
            figures |= {"model_flops_per_second": rate, "mfu": rate / peak_flops if rate and peak_flops else None}
            self._logged = step, own
        return figures

    def rates(self, step: int, batch_size: int) -> dict[str, float]:
        """Speed of the steps of this call after the first dispatch, with saving and logging, without evaluation.

        Args:
          step: steps taken.
          batch_size: examples of a step.
        """
        rate = float("nan")
        if self._first is not None:
            (since, before), own = self._first, self._own()
            counted = ("steps", "data", "checkpoint")
            rate = _ratio(step - since, sum(own[name] - before[name] for name in counted)) or rate
        return {"steps_per_second": rate, "examples_per_second": rate * batch_size}

    def _own(self) -> dict[str, float]:
        """Wall time of this call. Time that is not badput goes into steps or, before the first step, into the start."""
        left = max(0.0, time.time() - self._began - sum(self._badput.values()))
        own = {"steps": 0.0, **self._badput}
        own["steps" if self.is_stepping else self._opening] += left
        return own


def _ratio(share: float | int, whole: float) -> float | None:
    return share / whole if whole > 0 else None


def training_figures(goodput: Goodput, training: Training, step: int, *, whole_call: bool = False) -> dict[str, Any]:
    """Goodput and MFU, and the figures they are computed from.

    Args:
      goodput: the clock of the run.
      training: its description.
      step: steps taken.
      whole_call: MFU of all steps of this call of `train`, not of those since the last figures.
    """
    mesh = training.mesh
    peak = hardware.peak_flops(mesh.devices.flat[0].device_kind, training.config.model.dtype)
    peak = peak and peak * mesh.size
    with goodput.during("compile"):
        flops_per_step = training.model_flops
    return {
        **goodput.figures(step, flops_per_step=flops_per_step, peak_flops=peak, whole_call=whole_call),
        "flops_per_step": flops_per_step,
        "peak_flops": peak,
        "rule": flops.RULE,
    }
