"""The persistent cache of compiled programs."""

import pathlib

import jax

from data import cache


def keep_programs(folder: str, cache_dir: str) -> None:
    """Keeps compiled programs between processes.

    Args:
      folder: where; "" means beside the data caches, "none" keeps none.
      cache_dir: the config's `data.cache_dir`.
    """
    if folder == "none":
        return
    path = pathlib.Path(folder).expanduser() if folder else cache.folder(cache_dir) / "programs"
    jax.config.update("jax_compilation_cache_dir", str(path))
    # JAX's default keeps only what took a second to compile; many of our programs are smaller, and still worth it.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
