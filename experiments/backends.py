"""Errors of JAX about an accelerator that cannot be used, in one line: what is installed, and what to install."""

import importlib.metadata
import os
import pathlib
import re
import traceback

_MODULE = f"jax{os.sep}_src{os.sep}xla_bridge.py"
_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu")
_DRIVER = pathlib.Path("/proc/driver/nvidia/version")
# Oldest NVIDIA drivers that JAX supports, newest first, and the extra with the CUDA libraries for them.
_DRIVERS = ((580, "gpu"), (525, "gpu-cuda12"))
_GPUS = ("cuda", "gpu")
_CPU = "or unset JAX_PLATFORMS to use the devices that are available"


def describe(error: BaseException) -> str:
    """The message for an exception that JAX raised because it cannot use an accelerator; "" for others."""
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, (RuntimeError, AssertionError)) or not frames or not frames[-1].filename.endswith(_MODULE):
        return ""
    asked = os.environ.get("JAX_PLATFORMS", "")
    lines = str(error).removeprefix("Unable to initialize backend ").split("(set JAX_PLATFORMS")[0].strip().splitlines()
    reason = f" ({lines[0].rstrip('. ')})" if lines else ""
    driver = driver_version()
    remedy = "use cpu, cuda or tpu"
    if asked in _GPUS:
        remedy = gpu_remedy(driver)
    elif asked == "tpu":
        remedy = "on a machine with TPUs, pip install -c constraints.txt -e '.[tpu]'"
    return (
        f"JAX_PLATFORMS: '{asked}' cannot be used here{reason}; installed: {', '.join(_installed(driver))}; "
        f"{remedy}, {_CPU}"
    )


def gpu_remedy(driver: int) -> str:
    """What to install for NVIDIA GPUs, by the major version of the driver; 0: there is none."""
    wanted = next((extra for oldest, extra in _DRIVERS if driver >= oldest), "")
    if wanted:
        return f"for the driver, pip install -c constraints.txt -e '.[{wanted}]'"
    what = "update the NVIDIA driver" if driver else "install an NVIDIA driver"
    extras = " or ".join(f"{oldest} for '.[{extra}]'" for oldest, extra in _DRIVERS)
    return f"{what} (at least {extras}), and pip install -c constraints.txt -e '.[{_DRIVERS[0][1]}]'"


def driver_version() -> int:
    """Major version of the NVIDIA driver of this machine; 0 if there is none."""
    try:
        found = re.search(r"\b(\d{3})\.\d+", _DRIVER.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _installed(driver: int) -> list[str]:
    plugins = []
    for name in _PLUGINS:
        try:
            plugins.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    jax = f"jax {importlib.metadata.version('jax')}"
    return [jax if plugins else f"{jax} for CPUs only", *plugins, f"NVIDIA driver {driver or 'none'}"]
