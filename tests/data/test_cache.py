import os

import numpy as np
import pytest

import data
from data import images


@pytest.fixture
def decoded_images(monkeypatch):
    """Names of the images that are decoded from here on."""
    names, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda *arguments: names.append(arguments[1]) or decode(*arguments))
    return names


def _train_inputs(config):
    split = data.load(config, seed=0).splits["train"]
    return split.read(np.arange(len(split)))


def test_a_second_start_decodes_nothing(image_folder, make_config, decoded_images):
    config = make_config(source=f"folder:{image_folder}")
    first = _train_inputs(config)
    assert len(decoded_images) == 42
    np.testing.assert_array_equal(_train_inputs(config), first)
    assert len(decoded_images) == 42


@pytest.mark.parametrize("damage", ["truncate", "overwrite", "remove"])
def test_a_damaged_cache_is_made_again(damage, image_folder, make_config, caplog):
    config = make_config(source=f"folder:{image_folder}")
    first = _train_inputs(config).copy()
    for file in (image_folder.parent / "cache" / "decoded").glob("*/images.npy"):
        content = file.read_bytes()
        file.unlink()
        if damage != "remove":
            file.write_bytes(content[:-7] if damage == "truncate" else bytes(len(content)))
    np.testing.assert_array_equal(_train_inputs(config), first)
    assert "damaged and is made again" in caplog.text


def test_a_changed_file_is_decoded_again(image_folder, make_config, decoded_images):
    config = make_config(source=f"folder:{image_folder}")
    fingerprint = data.load(config, seed=0).fingerprint
    os.utime(image_folder / "train" / "ape" / "000.png", ns=(1, 1))
    again = data.load(config, seed=0)
    assert len(decoded_images) == 42 + 30
    assert again.fingerprint == fingerprint


def test_the_fingerprint_does_not_depend_on_the_place(image_folder, make_config):
    fingerprint = data.load(make_config(source=f"folder:{image_folder}"), seed=0).fingerprint
    moved = image_folder.rename(image_folder.parent / "elsewhere")
    assert data.load(make_config(source=f"folder:{moved}"), seed=0).fingerprint == fingerprint
    os.replace(moved / "train" / "ape" / "000.png", moved / "train" / "ape" / "renamed.png")
    assert data.load(make_config(source=f"folder:{moved}"), seed=0).fingerprint != fingerprint


def test_without_a_cache_folder_that_can_be_written_nothing_is_kept(image_folder, make_config, capsys):
    fingerprint = data.load(make_config(source=f"folder:{image_folder}"), seed=0).fingerprint
    (image_folder.parent / "file").touch()
    (image_folder.parent / "link").symlink_to(image_folder / "missing" / "cache")
    for name, reason in (("file", "File exists"), ("link", "File exists"), ("file/below", "Not a directory")):
        wanted = image_folder.parent / name
        config = make_config(source=f"folder:{image_folder}", cache_dir=str(wanted))
        for _ in range(2):
            assert data.load(config, seed=0).fingerprint == fingerprint
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"data.cache_dir: '{wanted}' cannot be written ({reason}), so nothing is cached")
