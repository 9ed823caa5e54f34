"""Which GPUs JAX runs on, and which of its CUDA versions they take.

JAX for CUDA 13 needs compute capability 7.5 and an NVIDIA driver of at least 580; for CUDA 12 it needs 5.2 and a driver
of at least 525.
"""

import re

from plumbline import UserError

_CUDA_13, _CUDA_12 = (7, 5), (5, 2)
# Compute capability of GPUs from before CUDA 13's, by the beginning of the name in clouds and clusters.
_OLDER = {
    "K20": (3, 5),
    "K40": (3, 5),
    "K80": (3, 7),
    "M4": (5, 2),
    "M40": (5, 2),
    "M60": (5, 2),
    "P100": (6, 0),
    "P4": (6, 1),
    "P40": (6, 1),
    "V100": (7, 0),
    "V100S": (7, 0),
    "TITANV": (7, 0),
}
_VENDORS = ("TESLA", "NVIDIA", "GRID")


def extra(name: str) -> str:
    """The extra that installs JAX for a GPU: "gpu" (CUDA 13) or "gpu-cuda12". Unknown GPUs count as new.

    Args:
      name: as in clouds and clusters, such as "V100-32GB" or "tesla_p100".

    Raises:
      UserError: JAX does not run on it.
    """
    words = [word for word in name.upper().replace("_", "-").split("-") if word not in _VENDORS]
    model = words[0] if words else ""
    if re.match(r"MI\d|GAUDI|RADEON", model):
        raise UserError(f"--accelerator: '{name}' is no NVIDIA GPU, and there are no extras for others; choose another")
    capability = _OLDER.get(model, _CUDA_13)
    if capability < _CUDA_12:
        raise UserError(
            f"--accelerator: '{name}' has compute capability {'.'.join(map(str, capability))}, and JAX needs at least "
            f"{'.'.join(map(str, _CUDA_12))}; choose a newer GPU, such as T4"
        )
    return "gpu" if capability >= _CUDA_13 else "gpu-cuda12"
