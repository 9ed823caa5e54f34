"""The script that `start_up` compares with: imports, a model, decoded digits, and one jitted step, written by hand.

    python -m benchmarks.bare_start CONFIG DIGITS.npz PROGRAMS

It imports the libraries that a training run of Plumbline imports (JAX, Flax NNX, Optax, Orbax, ML Collections, absl,
rich, tensorboardX), reads the config file and an `.npz` of images and labels, takes a step on the first batch, waits
for it and prints the time (Unix, s). PROGRAMS is the folder of JAX's compilation cache, or "none".
"""

import pathlib
import runpy
import sys
import time

import absl.app  # noqa: F401
import jax
import numpy as np
import orbax.checkpoint  # noqa: F401
import rich.progress  # noqa: F401
import tensorboardX  # noqa: F401

from benchmarks import bare


def main(config_file: str, digits: str, programs: str) -> None:
    if programs != "none":
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(programs)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    config = runpy.run_path(config_file)["get_config"]()
    with np.load(digits) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    scaled = images / np.float32(255)
    total_steps = 30 * len(images) // config.train.batch_size
    init, step = bare.make(
        config,
        shape=images.shape[1:],
        num_classes=10,
        mean=scaled.mean(axis=(0, 1, 2)),
        std=scaled.std(axis=(0, 1, 2)),
        total_steps=total_steps,
        warmup_steps=total_steps // 10,
    )
    batch = slice(0, config.train.batch_size)
    jax.block_until_ready(step(init(), images[batch], labels[batch]))
    print(time.time())


if __name__ == "__main__":
    main(*sys.argv[1:])
