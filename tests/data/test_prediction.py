import gzip

import numpy as np
import PIL.Image
import pytest

import data
from data import prediction
from plumbline import UserError


def _read(dataset, config, *paths):
    return list(prediction.read_inputs(dataset.features, config, paths))


@pytest.fixture
def table(tmp_path, make_config):
    rows = [f"{index},{'ab'[index % 2]},{('no', 'yes')[index % 2]}" for index in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["x,c,label", *rows]))
    config = make_config(source=f"csv:{tmp_path / 'a.csv'}", target="label", validation="none")
    return data.load(config, seed=0), config


def test_a_table_is_read_as_in_training(table, tmp_path):
    dataset, config = table
    (chunk,) = _read(dataset, config, tmp_path / "a.csv")
    for split in dataset.splits.values():
        np.testing.assert_array_equal(chunk.inputs[split.rows], split.read(np.arange(len(split))))
        names = [dataset.features.class_names[label] for label in split.labels]
        assert [chunk.labels[row] for row in split.rows] == names
    assert chunk.names[:2] == [f"{tmp_path / 'a.csv'}:2", f"{tmp_path / 'a.csv'}:3"]


def test_a_table_may_lack_its_target_and_mix_its_columns(table, tmp_path):
    dataset, config = table
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"extra,c,x\n1,b,5\n2,never seen,?\n"))
    (chunk,) = _read(dataset, config, tmp_path / "b.csv.gz")
    np.testing.assert_array_equal(chunk.inputs, [[5, 3], [np.nan, 0]])
    assert chunk.labels is None


def test_a_table_without_an_input_column_is_an_error(table, tmp_path):
    dataset, config = table
    (tmp_path / "b.csv").write_text("X,c\n1,b\n")
    with pytest.raises(UserError, match=r"b.csv: input column: unknown name 'x'|b.csv: .*'x'"):
        _read(dataset, config, tmp_path / "b.csv")


def test_images_are_found_in_folders_and_read_as_in_training(image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}", validation="none")
    dataset = data.load(config, seed=0)
    (image_folder / "test" / "notes.txt").write_text("no image")
    (chunk,) = _read(dataset, config, image_folder / "test", image_folder / "train" / "ape" / "000.png")
    test = dataset.splits["test"]
    np.testing.assert_array_equal(chunk.inputs[:-1], test.read(np.arange(len(test))))
    assert chunk.names[-1] == str(image_folder / "train" / "ape" / "000.png")
    PIL.Image.new("L", (50, 40)).save(image_folder / "odd.JPG")
    assert _read(dataset, config, image_folder / "odd.JPG")[0].inputs.shape == (1, 5, 6, 3)


def test_what_cannot_be_predicted_is_an_error(image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}")
    dataset = data.load(config, seed=0)
    (image_folder / "broken.png").write_bytes(b"broken")
    (image_folder / "empty").mkdir()
    (image_folder / "a.csv").write_text("x\n1\n")
    for name, message in {
        "broken.png": r"broken.png' is corrupt",
        "empty": r"empty' has no images",
        "nowhere": r"no such file or folder",
        "a.csv": r"a.csv' is no image; the model was trained on images",
    }.items():
        with pytest.raises(UserError, match=message):
            _read(dataset, config, image_folder / name)
