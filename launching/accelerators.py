"""Accelerators, by their names in clouds and clusters."""

import dataclasses
import difflib
import re
from typing import Literal

from launching import gpus
from plumbline import UserError


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """The accelerators of one node.

    Attributes:
      kind: "tpu", "gpu" or "cpu".
      name: "v5litepod-16", "H100" or "cpu".
      count: GPUs or cores of the node (0: all its cores); 1 for a TPU.
      hosts: machines of the node; more than 1 for a TPU pod.
    """

    kind: Literal["tpu", "gpu", "cpu"]
    name: str
    count: int
    hosts: int = 1

    def __str__(self) -> str:
        """Returns the name for the command line."""
        if self.kind == "tpu":
            return f"tpu-{self.name}"
        return f"{self.name}:{self.count}" if self.count else self.name

    @property
    def generation(self) -> str:
        """Generation of a TPU, such as "v5litepod"."""
        return self.name.partition("-")[0]

    @property
    def extra(self) -> str:
        """The extra that installs JAX for it; "" for CPUs."""
        if self.kind == "gpu":
            return f"[{gpus.extra(self.name)}]"
        return "[tpu]" if self.kind == "tpu" else ""


@dataclasses.dataclass(frozen=True)
class _Generation:
    """A generation of TPUs.

    Sizes of v2 to v5p count cores, eight to a host. Sizes of v5e and v6e count chips; a pod with more than eight chips
    has four to a host.

    Attributes:
      sizes: that exist; the number in the name.
      per_host: size of one host of a pod.
    """

    sizes: tuple[int, ...]
    per_host: int


_CORES = tuple(range(8, 12_289, 8))
_GENERATIONS = {
    "v2": _Generation((8, 32, 128, 256, 512), 8),
    "v3": _Generation((8, 32, 64, 128, 256, 512, 1024, 2048), 8),
    "v4": _Generation(_CORES, 8),
    "v5litepod": _Generation((1, 4, 8, 16, 32, 64, 128, 256), 4),
    "v5p": _Generation(_CORES, 8),
    "v6e": _Generation((1, 4, 8, 16, 32, 64, 128, 256), 4),
}
_FORMS = "a TPU (tpu-v5litepod-16), GPUs (H100:8) or CPU cores (cpu:8)"


def parse_accelerator(text: str) -> Accelerator:
    """Parses `tpu-GENERATION-SIZE`, `NAME`, `NAME:COUNT`, `cpu` or `cpu:CORES`.

    Raises:
      UserError: it has another form, there is no such TPU, or JAX does not run on the GPU.
    """
    if match := re.fullmatch(r"tpu-([a-z0-9]+)-(\d+)", text):
        # Google's tools say v5litepod for what its documentation calls v5e.
        return _make_tpu(text, match[1].replace("v5e", "v5litepod"), int(match[2]))
    if match := re.fullmatch(r"([A-Za-z][\w.-]*?)(?::([1-9]\d*))?", text):
        name, count = match[1], int(match[2] or 0)
        if name.lower() == "cpu":
            return Accelerator("cpu", "cpu", count)
        if not re.match(r"(tpu|v\d+[a-z]*-\d)", name):
            gpus.extra(name)
            return Accelerator("gpu", name, count or 1)
    near = difflib.get_close_matches(text, [f"tpu-{name}-{size}" for name in _GENERATIONS for size in (8, 16, 32)], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(f"--accelerator: '{text}' is not {_FORMS}{hint}")


def _make_tpu(text: str, generation: str, size: int) -> Accelerator:
    if generation not in _GENERATIONS:
        near = difflib.get_close_matches(generation, _GENERATIONS, n=1)
        hint = f"did you mean 'tpu-{near[0]}-{size}'? " if near else ""
        raise UserError(f"--accelerator: no TPU '{text}'; {hint}generations: {', '.join(_GENERATIONS)}")
    known = _GENERATIONS[generation]
    if size not in known.sizes:
        nearest = min(known.sizes, key=lambda other: abs(other - size))
        raise UserError(f"--accelerator: no TPU '{text}' of that size; did you mean 'tpu-{generation}-{nearest}'?")
    hosts = 1 if size <= 8 else size // known.per_host
    return Accelerator("tpu", f"{generation}-{size}", 1, hosts)
