"""Devices for the commands that train populations."""

import os


def use_a_device_per_core() -> None:
    """Makes one device of each CPU core, unless XLA's flags set their number. Call it before JAX looks for devices.

    Each small program of a population uses one core.
    """
    import jax

    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
