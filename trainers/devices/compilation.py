"""The persistent cache of compiled programs."""

import pathlib
import warnings

import jax

from data import cache


def keep_programs(folder: str, cache_dir: str) -> None:
    """Stores compiled programs on disk, for later processes.

    Args:
      folder: of the programs; "" means beside the data caches, "none" stores nothing.
      cache_dir: the config's `data.cache_dir`.
    """
    if folder == "none":
        return
    path = pathlib.Path(folder).expanduser() if folder else cache.folder(cache_dir) / "programs"
    jax.config.update("jax_compilation_cache_dir", str(path))
    # By default JAX stores only programs that took a second to compile. Many programs here take less.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A kill while a program is being stored leaves part of it, which is compiled again. Nothing needs to be done.
    warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")
