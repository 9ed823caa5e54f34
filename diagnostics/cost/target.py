"""The devices of a plan, which need not be present: TPU pod slices, GPUs, or this machine.

JAX reads its environment when it is imported, so a command calls `parse` and `set_environment` before anything that
imports JAX.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import resource
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

from plumbline import UserError
from trainers.devices import hardware
from trainers.devices.hardware import Hardware

# Shapes of slices that Google Cloud offers, up to 512 chips.
_SHAPES_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SHAPES_3D = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
TPU_SHAPES = {"v5e": _SHAPES_2D, "v5p": _SHAPES_3D, "v6e": _SHAPES_2D}
GPUS = ("v100", "t4", "l4", "a100-40", "a100-80", "h100", "h200", "b200")
_GREATEST_GPU_COUNT = 1024

_INSTALL = "install it with .venv/bin/pip install -c constraints.txt -e '.[plan-tpu]'"


@dataclasses.dataclass(frozen=True)
class Target:
    """The devices that a program is compiled for.

    Attributes:
      text: as the user wrote it: "v5e:16x16", "h100:8", "cpu".
      kind: "tpu", "gpu" or "cpu".
      hardware: peaks of one device; None for a CPU, which is timed.
      shape: sides of the torus, or the number of devices; () for all devices of this machine.
    """

    text: str
    kind: str
    hardware: Hardware | None
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The device: "v5e", "h100", "cpu"."""
        return "cpu" if self.hardware is None else self.hardware.name

    @property
    def num_devices(self) -> int:
        """The number of devices; 0 for all of this machine."""
        return math.prod(self.shape) if self.shape else 0

    @property
    def basis(self) -> str:
        """Says in one sentence which compiler the figures come from."""
        if self.kind == "tpu":
            return "compiled for these TPUs by libtpu, ahead of time"
        if self.kind == "gpu":
            return (
                f"compiled for {self.num_devices} CPU devices in place of GPUs, whose compiler is not here: memory, "
                "collectives and bytes are those of the program as partitioned and fused for a CPU, which moves more "
                "than a GPU's would. Time and money are ranges, from a program that fuses all vector arithmetic to "
                "this one; they are not to be compared with those of TPUs"
            )
        return "compiled for the CPU devices of this machine"


def parse(text: str) -> Target:
    """Parses a device as a user writes it.

    Args:
      text: "v5e:16x16", "v5p:4x4x4", "h100:8" or "cpu"; a GPU alone is one.

    Raises:
      UserError: there is no such device, shape or number; the message lists those known.
    """
    name, _, size = text.partition(":")
    if name == "cpu":
        if size and not _is_count(size):
            raise UserError(f"--device: '{text}': after 'cpu:' comes a number of devices, such as cpu:8")
        return Target(text, "cpu", None, (int(size),) if size else ())
    if name in TPU_SHAPES:
        if size not in TPU_SHAPES[name]:
            known = ", ".join(f"{name}:{shape}" for shape in TPU_SHAPES[name])
            raise UserError(f"--device: unknown topology '{text}'; known: {known}")
        return Target(text, "tpu", hardware.BY_NAME[name], tuple(int(side) for side in size.split("x")))
    if name in GPUS:
        if size and not _is_count(size):
            raise UserError(f"--device: '{text}': after '{name}:' comes a number of GPUs, such as {name}:8")
        return Target(text, "gpu", hardware.BY_NAME[name], (int(size or 1),))
    known = ", ".join((*(f"{name}:{shapes[-2]}" for name, shapes in TPU_SHAPES.items()), *GPUS, "cpu"))
    raise UserError(f"--device: unknown device '{name}'; known: {known}")


def set_environment(target: Target, environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets the environment that JAX and libtpu read when they are imported; call it before.

    Raises:
      UserError: libtpu is needed and not installed.
    """
    environment["JAX_PLATFORMS"] = "cpu"
    if target.kind == "tpu":
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(f"--device: '{target.text}' needs libtpu, which is not installed; {_INSTALL}")
        # There is no TPU here to be asked what it is, and libtpu's complaints about that are not the user's.
        environment["TPU_SKIP_MDS_QUERY"] = "1"
        # Several plans may be made at once: none of them holds a TPU.
        environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"
        environment.setdefault("TPU_STDERR_LOG_LEVEL", "3")
        environment.setdefault("TPU_MIN_LOG_LEVEL", "3")
    elif target.num_devices:
        # Flags given by hand come later, but this one must be the last of its name.
        flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", environment.get("XLA_FLAGS", ""))
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={target.num_devices}".strip()


def deepen_stack(target: Target) -> None:
    """Restarts this process with the largest stack allowed, if it compiles for TPUs and has a smaller one.

    With the usual 8 MiB, libtpu crashes on larger convolutional networks for v6e. The stack size of threads is fixed
    when a process starts, so raising the limit in a running process has no effect.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if target.kind == "tpu" and soft != hard:
        resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def devices(target: Target) -> list[Any]:
    """Returns the devices to compile for: those of a described topology, or those of this process.

    Raises:
      UserError: this process was started with fewer devices.
    """
    import jax

    if target.kind == "tpu":
        from jax.experimental import topologies

        options = {"chips_per_host_bounds": (1, 1, 1)} if target.num_devices == 1 else {}
        with _silenced():
            topology = topologies.get_topology_desc(platform="tpu", topology_name=target.text, **options)
        return list(topology.devices)
    here = jax.devices("cpu")
    if target.num_devices > len(here):
        raise UserError(f"--device: '{target.text}': this process has {len(here)} CPU devices")
    return here[: target.num_devices] if target.num_devices else here


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppresses messages of libtpu on standard error about finding no TPU."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _is_count(text: str) -> bool:
    return text.isdecimal() and 1 <= int(text) <= _GREATEST_GPU_COUNT
