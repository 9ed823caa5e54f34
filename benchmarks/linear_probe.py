"""linear_probe: whole trainings of a head on a frozen trunk, from cached features against without.

A vision transformer of six blocks and width 128 on 32x32 images (random ones; what they show does not matter here) has
all but its head frozen and is trained for 100 epochs, as linear probes are. Ours computes what the head reads once
(`transfer.cache_features`), the other goes through the trunk at every step. Both are whole calls of
`trainers.run.loop.train` in one process: they open the data, build and compile (from the cache of compiled programs,
after a first short training of each), train, evaluate and save. What is compared is trainings per second.
"""

import argparse
import pathlib
import tempfile
import time

import ml_collections
import numpy as np
import PIL.Image

from benchmarks.measure import Result, side_by_side
from configs.defaults import get_config
from trainers.run.loop import train

_IMAGES = {"train": 512, "test": 128}
_CLASSES = 4
_EPOCHS = 100
_ROUNDS = 2


def run(options: argparse.Namespace) -> list[Result]:
    """One result."""
    del options
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        _write_images(folder / "images")
        for cached in (True, False):
            _seconds(folder, cached, "2 epochs")

        def rate(cached: bool) -> float:
            return 1 / _seconds(folder, cached, f"{_EPOCHS} epochs")

        return [
            side_by_side(
                "linear_probe",
                lambda: rate(True),
                lambda: rate(False),
                rounds=_ROUNDS,
                target=20.0,
                at_least=True,
                divided=f"trainings/s of {_EPOCHS} epochs with the trunk frozen: cached features / none cached",
                unit="trainings/s",
            )
        ]


def _seconds(folder: pathlib.Path, cached: bool, duration: str) -> float:
    config = _config(folder)
    config.transfer.cache_features = cached
    config.train.duration = duration
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        train(config, workdir)
        return time.perf_counter() - began


def _config(folder: pathlib.Path) -> ml_collections.ConfigDict:
    config = get_config()
    config.data.source = f"folder:{folder / 'images'}"
    config.data.cache_dir = str(folder / "cache")
    config.data.validation = "none"
    config.model.name = "vit"
    config.model.vit.update({"patch_size": 4, "width": 128, "depth": 6, "heads": 4, "mlp_size": 512})
    config.transfer.freeze = ("^(?!head/)",)
    config.train.log_every = "10 epochs"
    config.train.tensorboard = False
    # Both by the same way of dispatching, so that no time goes into finding one.
    config.execution.mode = "loop"
    return config


def _write_images(folder: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in _IMAGES.items():
        for number in range(count):
            path = folder / split / str(number % _CLASSES) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
