"""linear_probe: whole trainings of a head on a frozen trunk, with cached features relative to without.

A vision transformer with six blocks and width 128 trains on random 32x32 images (their content does not matter) with
everything except the head frozen, for 100 epochs, as is usual for linear probes. The measured side computes the inputs
of the head once (`transfer.cache_features`); the reference runs the trunk in every step. Both are whole calls of
`trainers.run.loop.train` in one process: they open the data, build and compile (from the compilation cache, after a
short first training of each), train, evaluate and save. The ratio is that of trainings per second.
"""

import argparse
import pathlib
import tempfile
import time

import ml_collections
import numpy as np
import PIL.Image

from benchmarks.measure import Result, compare
from configs.defaults import get_config
from trainers.run.loop import train

_IMAGES = {"train": 512, "test": 128}
_CLASSES = 4
_EPOCHS = 100
_ROUNDS = 2


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        _write_images(folder / "images")
        for cached in (True, False):
            _seconds(folder, cached, "2 epochs")

        def rate(cached: bool) -> float:
            return 1 / _seconds(folder, cached, f"{_EPOCHS} epochs")

        return [
            compare(
                "linear_probe",
                lambda: rate(True),
                lambda: rate(False),
                rounds=_ROUNDS,
                target=20.0,
                at_least=True,
                comparison=f"trainings/s of {_EPOCHS} epochs with the trunk frozen: with cached features / without",
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
    # Both in the same execution mode, so that no time is spent on choosing one.
    config.execution.mode = "loop"
    return config


def _write_images(folder: pathlib.Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in _IMAGES.items():
        for number in range(count):
            path = folder / split / str(number % _CLASSES) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
