"""Data of accelerators, by their names in JAX: peak FLOP/s, memory, bandwidths, power.

The figures are published by the makers: in Google's Cloud TPU documentation (one page for each generation, "System
architecture"; for v4 also Jouppi et al. 2023, "TPU v4", table 4), and in NVIDIA's data sheets, without sparsity. They
are peaks, of which a program reaches a part.
"""

import dataclasses
from collections.abc import Mapping

GIB, GB = 2**30, 10**9
_TERA = 1e12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """One device, as `jax.devices()` counts them.

    Attributes:
      name: its common name, such as "v5e" or "h100".
      peak_flops: floating-point operations per second by type of the inputs, "bfloat16" and "float32"; sums are in
        float32. For "float32" it is the rate at JAX's default precision: TPUs then multiply in bfloat16, NVIDIA GPUs
        since Ampere in TensorFloat-32.
      memory_bytes: of the device's own memory.
      memory_bandwidth: bytes per second from and to it.
      links: to other devices, each as fast as `link_bandwidth`.
      link_bandwidth: bytes per second over one link, one way.
      torus_axes: axes of the torus of links, two links per axis; 0 where a switch joins the devices.
      wraps: lengths at which a side of the torus is a ring: "16" (only 16), "4s" (every multiple of 4) or "" (none).
      network_bandwidth: bytes per second and device, one way, between hosts that no link joins; 0: unknown.
      devices_per_host: on the usual host.
      watts: the published power of a chip or board under load; None if it is not published.
    """

    name: str
    peak_flops: Mapping[str, float]
    memory_bytes: int
    memory_bandwidth: float
    links: int
    link_bandwidth: float
    torus_axes: int = 0
    wraps: str = ""
    network_bandwidth: float = 0.0
    devices_per_host: int
    watts: float | None = None


def _tpu(
    name: str,
    teraflops: float,
    *,
    memory_gib: int,
    memory_gb_s: float,
    axes: int,
    link_gb_s: float,
    wraps: str,
    devices_per_host: int,
    watts: float | None = None,
) -> Hardware:
    return Hardware(
        name=name,
        peak_flops={"bfloat16": teraflops * _TERA, "float32": teraflops * _TERA},
        memory_bytes=memory_gib * GIB,
        memory_bandwidth=memory_gb_s * GB,
        links=2 * axes,
        link_bandwidth=link_gb_s * GB,
        torus_axes=axes,
        wraps=wraps,
        devices_per_host=devices_per_host,
        watts=watts,
    )


def _gpu(
    name: str,
    *,
    bfloat16: float,
    float32: float,
    memory_gb: int,
    memory_gb_s: float,
    nvlink_gb_s: float,
    network_gb_s: float,
    devices_per_host: int,
    watts: float,
) -> Hardware:
    """`nvlink_gb_s`: one way, over all links; without NVLink, that of PCI Express."""
    return Hardware(
        name=name,
        peak_flops={"bfloat16": bfloat16 * _TERA, "float32": float32 * _TERA},
        memory_bytes=memory_gb * GIB,
        memory_bandwidth=memory_gb_s * GB,
        links=1,
        link_bandwidth=nvlink_gb_s * GB,
        network_bandwidth=network_gb_s * GB,
        devices_per_host=devices_per_host,
        watts=watts,
    )


# Google publishes the bandwidth between chips in both directions over all links. Half of it, divided by the number of
# links, is that of a link one way.
_V4 = _tpu(
    "v4", 275.0, memory_gib=32, memory_gb_s=1228.0, axes=3, link_gb_s=50.0, wraps="4s", devices_per_host=4, watts=192.0
)  # fmt: skip
_V5E = _tpu("v5e", 197.0, memory_gib=16, memory_gb_s=819.0, axes=2, link_gb_s=50.0, wraps="16", devices_per_host=8)
_V5P = _tpu("v5p", 459.0, memory_gib=95, memory_gb_s=2765.0, axes=3, link_gb_s=100.0, wraps="4s", devices_per_host=4)
_V6E = _tpu("v6e", 918.0, memory_gib=32, memory_gb_s=1638.0, axes=2, link_gb_s=100.0, wraps="16", devices_per_host=8)
# A chip is two devices, which share its memory, links and peak (2307 teraflops in bfloat16, 192 GiB, 7380 GB/s).
_V7X = _tpu("v7x", 2307 / 2, memory_gib=96, memory_gb_s=3690.0, axes=3, link_gb_s=50.0, wraps="4s", devices_per_host=8)

# V100 and T4 have no bfloat16: XLA computes it in float32 there.
_V100 = _gpu(
    "v100", bfloat16=15.7, float32=15.7, memory_gb=16, memory_gb_s=900.0, nvlink_gb_s=150.0, network_gb_s=3.0,
    devices_per_host=8, watts=300.0,
)  # fmt: skip
_V100_32 = dataclasses.replace(_V100, name="v100-32", memory_bytes=32 * GIB)
_T4 = _gpu(
    "t4", bfloat16=8.1, float32=8.1, memory_gb=15, memory_gb_s=320.0, nvlink_gb_s=16.0, network_gb_s=3.0,
    devices_per_host=4, watts=70.0,
)  # fmt: skip
_A100_40 = _gpu(
    "a100-40", bfloat16=312.0, float32=156.0, memory_gb=40, memory_gb_s=1555.0, nvlink_gb_s=300.0, network_gb_s=12.5,
    devices_per_host=8, watts=400.0,
)  # fmt: skip
_A100_80 = _gpu(
    "a100-80", bfloat16=312.0, float32=156.0, memory_gb=80, memory_gb_s=2039.0, nvlink_gb_s=300.0, network_gb_s=25.0,
    devices_per_host=8, watts=400.0,
)  # fmt: skip
_L4 = _gpu(
    "l4", bfloat16=121.0, float32=60.0, memory_gb=22, memory_gb_s=300.0, nvlink_gb_s=32.0, network_gb_s=3.0,
    devices_per_host=8, watts=72.0,
)  # fmt: skip
_H100 = _gpu(
    "h100", bfloat16=989.0, float32=494.0, memory_gb=80, memory_gb_s=3350.0, nvlink_gb_s=450.0, network_gb_s=50.0,
    devices_per_host=8, watts=700.0,
)  # fmt: skip
_H100_PCIE = _gpu(
    "h100-pcie", bfloat16=756.0, float32=378.0, memory_gb=80, memory_gb_s=2000.0, nvlink_gb_s=300.0, network_gb_s=25.0,
    devices_per_host=8, watts=350.0,
)  # fmt: skip
_H200 = _gpu(
    "h200", bfloat16=989.0, float32=494.0, memory_gb=140, memory_gb_s=4800.0, nvlink_gb_s=450.0, network_gb_s=50.0,
    devices_per_host=8, watts=700.0,
)  # fmt: skip
_B200 = _gpu(
    "b200", bfloat16=2250.0, float32=1125.0, memory_gb=178, memory_gb_s=8000.0, nvlink_gb_s=900.0, network_gb_s=50.0,
    devices_per_host=8, watts=1000.0,
)  # fmt: skip

BY_DEVICE_KIND: dict[str, Hardware] = {
    "TPU v4": _V4,
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
    "TPU7x": _V7X,
    "TPU v7x": _V7X,
    "Tesla V100-SXM2-16GB": _V100,
    "Tesla V100-SXM2-32GB": _V100_32,
    "Tesla V100-SXM3-32GB": _V100_32,
    "Tesla T4": _T4,
    "NVIDIA A100-SXM4-40GB": _A100_40,
    "NVIDIA A100-SXM4-80GB": _A100_80,
    "NVIDIA L4": _L4,
    "NVIDIA H100 80GB HBM3": _H100,
    "NVIDIA H100 PCIe": _H100_PCIE,
    "NVIDIA H200": _H200,
    "NVIDIA B200": _B200,
}
"""By `device.device_kind`; several names may mean the same device."""

BY_NAME: dict[str, Hardware] = {hardware.name: hardware for hardware in BY_DEVICE_KIND.values()}
"""By the common name."""


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Peak floating-point operations per second of one device; None if the device or the type is not in the table.

    Args:
      device_kind: as `jax.Device.device_kind`.
      dtype: of the arithmetic: "bfloat16" or "float32".
    """
    hardware = BY_DEVICE_KIND.get(device_kind)
    return None if hardware is None else hardware.peak_flops.get(dtype)
