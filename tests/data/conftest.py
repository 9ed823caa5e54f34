"""Configs and small image folders for the tests of `data`."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from configs import defaults


@pytest.fixture
def make_config(tmp_path):
    """`config.data` with a cache of its own and the fields given."""

    def make(**fields):
        config = defaults.get_config().data
        config.cache_dir = str(tmp_path / "cache")
        config.update(fields)
        return config

    return make


@pytest.fixture
def image_folder(tmp_path):
    """A folder of 3 classes: 30 training and 12 test images of 6x5 RGB, each of one colour and noise."""
    write_images(tmp_path / "images" / "train", per_class=10)
    write_images(tmp_path / "images" / "test", per_class=4)
    return tmp_path / "images"


def write_images(folder: pathlib.Path, per_class: int, classes=("ape", "bee", "cat")) -> None:
    random = np.random.default_rng(per_class)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{index:03}.png")
