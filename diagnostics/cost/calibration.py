"""The step time on this machine's CPU, extrapolated from a step of the same model on a smaller batch.

The speed of a CPU depends on its caches and its load. So a small step is timed, and its time is extrapolated to another
batch by the operations of the compiled programs:

    seconds = dispatch + scale * (P * products + FLOPs / F + elements / E + bytes / B) + fresh memory

`dispatch` is the time of a step with the same state that computes nothing. P, F, E and B are the relative costs of the
kinds of work (P is the start of a matrix product, which wakes threads), and `scale`, from the small step, is the speed
of this machine. `fresh memory` is the time to allocate the pages of intermediate values, if the allocator returns them
to the operating system after every step (the GNU C library does, above 32 MiB); it is timed by allocating as much.
"""

import ctypes
import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

import jax
import numpy as np

from diagnostics.cost.program import Compiled, Examples, compile_step, make_training
from diagnostics.cost.work import Operation
from trainers.building import Training
from trainers.devices.mesh import in_flight, num_batch_shards
from trainers.devices.step_programs import StepPrograms
from trainers.step.state import TrainState
from trainers.step.train_step import Batch, Metrics, TrainStep, make_train_step, zero_metrics

# Relative costs, fitted to the steps of six perceptrons and seven vision transformers on two cores of an AMD
# EPYC.
_PRODUCT_SECONDS, _FLOPS, _ELEMENTS, _BYTES = 7.3e-6, 1.9e11, 1.9e10, 1.0e11
# The small step has at most the batch divided by this, and at most this many FLOPs: it takes less than a second.
_SHARE, _MOST_FLOPS = 4, 2e10
_WINDOWS, _WINDOW_SECONDS = 11, 0.12
_PAGE = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The calibration of this machine for one model.

    Attributes:
      dispatch: seconds of a step that computes nothing.
      scale: seconds of a step for each second that its operations would take at the rates above.
      batch_size: of the timed step.
      seconds: of the timed step.
    """

    dispatch: float
    scale: float
    batch_size: int
    seconds: float

    @property
    def flops_rate(self) -> float:
        """Floating-point operations a second that matrix products reach here."""
        return _FLOPS / self.scale

    def step_seconds(self, compiled: Compiled) -> float:
        """The estimate for a step."""
        fresh = fresh_memory_seconds(compiled.memory.temporary)
        return self.dispatch + self.scale * _nominal_seconds(compiled.operations) + fresh


def calibrate(training: Training, examples: Examples, devices: Sequence[jax.Device]) -> Calibration:
    """Times a small step of the model on this machine's CPU.

    Args:
      training: whose step is to be estimated.
      examples: what it trains on.
      devices: CPU devices of this process.
    """
    config = training.config.copy_and_resolve_references()
    parts = num_batch_shards(training.mesh) * config.train.accumulation_steps
    per_example = training.model_flops / config.train.batch_size
    wanted = min(config.train.batch_size / _SHARE, _MOST_FLOPS / max(1.0, per_example))
    with config.unlocked():
        config.train.batch_size = max(1, round(wanted / parts)) * parts
    small = make_training(config, examples, devices)
    compiled = compile_step(small)
    seconds, dispatch = step_timers(small, make_train_step(small.program), _idle(small))
    turns = [(seconds(), dispatch()) for _ in range(_WINDOWS)]
    total, idle = (statistics.median(times) for times in zip(*turns, strict=True))
    arithmetic = max(0.0, total - idle - fresh_memory_seconds(compiled.memory.temporary))
    return Calibration(
        dispatch=idle,
        scale=arithmetic / _nominal_seconds(compiled.operations),
        batch_size=config.train.batch_size,
        seconds=total,
    )


def step_timers(training: Training, *train_steps: TrainStep) -> list[Callable[[], float]]:
    """For each train step a function that dispatches it for a moment, as the trainer does, and returns its seconds.

    Args:
      training: whose shapes, shardings and devices they share.
      train_steps: functions `(state, batch) -> (state, metrics)`.
    """
    return [_timer(training, train_step) for train_step in train_steps]


def fresh_memory_seconds(size: int) -> float:
    """Seconds that the operating system takes to hand out memory that the allocator has given back before."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    library.free.argtypes = (ctypes.c_void_p,)

    def ask() -> float:
        began = time.perf_counter()
        address = library.malloc(size)
        if address:
            np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))[::_PAGE] = 1
            library.free(address)
        return time.perf_counter() - began

    ask()
    return statistics.median(ask() for _ in range(3)) if size else 0.0


def _nominal_seconds(operations: Sequence[Operation]) -> float:
    return sum(
        each.times
        * (
            (_PRODUCT_SECONDS if each.flops else 0.0)
            + each.flops / _FLOPS
            + each.elements / _ELEMENTS
            + each.bytes / _BYTES
        )
        for each in operations
    )


def _timer(training: Training, train_step: TrainStep) -> Callable[[], float]:
    config = training.config
    programs = StepPrograms(
        train_step,
        training.mesh,
        training.shardings,
        batch_size=config.train.batch_size,
        mode=config.parallel.mode,
    )
    generator = np.random.default_rng(0)
    batch = {
        name: (generator.integers(0, 2, leaf.shape) if name == "inputs" else np.ones(leaf.shape)).astype(leaf.dtype)
        for name, leaf in training.batch.items()
    }
    if np.issubdtype(batch["labels"].dtype, np.integer):
        batch["labels"][:] = 0
    placed = programs.place("loop", batch)
    state = jax.jit(training.init, out_shardings=training.shardings)(*training.init_arguments)
    held: tuple[TrainState, Metrics] = state, zero_metrics(training.program)
    most, left = in_flight(training.mesh)

    def measure() -> float:
        nonlocal held
        tokens: deque = deque()
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < _WINDOW_SECONDS:
            *state_and_sums, token = programs.compiled["loop"](*held, placed, None)
            held = tuple(state_and_sums)
            tokens.append(token)
            steps += 1
            if len(tokens) > most:
                while len(tokens) > left:
                    jax.block_until_ready(tokens.popleft())
        jax.block_until_ready(held)
        return (time.perf_counter() - began) / steps

    measure()  # Compiles.
    return measure


def _idle(training: Training) -> TrainStep:
    """A step of the same state that computes nothing."""

    def idle(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        del batch
        return dataclasses.replace(state, step=state.step + 1), zero_metrics(training.program)

    return idle
