"""What the commands that train populations share."""

import os


def population_devices() -> None:
    """Makes one device of each CPU core, unless XLA's flags say how many; comes before JAX looks for devices.

    The small programs of a population fill one core each.
    """
    import jax

    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
