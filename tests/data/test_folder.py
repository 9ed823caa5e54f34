import re
import shutil

import numpy as np
import PIL.Image
import pytest

import data
from plumbline import UserError
from tests.data.conftest import write_images


def test_images_and_labels_are_those_of_the_files(image_folder, make_config):
    dataset = data.load(make_config(source=f"folder:{image_folder}", validation="none"), seed=0)
    assert dataset.features.class_names == ("ape", "bee", "cat")
    for name, per_class in (("train", 10), ("test", 4)):
        split = dataset.splits[name]
        inputs = split.read(np.arange(len(split)))
        for row, label in enumerate(np.repeat([0, 1, 2], per_class)):
            file = image_folder / name / dataset.features.class_names[label] / f"{row % per_class:03}.png"
            np.testing.assert_array_equal(inputs[row], np.asarray(PIL.Image.open(file)))
            assert split.labels[row] == label


def test_without_split_folders_a_fifth_of_each_class_is_the_test(image_folder, make_config):
    dataset = data.load(make_config(source=f"folder:{image_folder / 'train'}", validation="none"), seed=0)
    np.testing.assert_array_equal(np.bincount(dataset.splits["test"].labels), [2, 2, 2])
    rows = np.concatenate([split.rows for split in dataset.splits.values()])
    np.testing.assert_array_equal(np.sort(rows), np.arange(30))


def test_a_corrupt_image_is_named_or_counted_with_weight_0(image_folder, make_config):
    (image_folder / "train" / "bee" / "004.png").write_bytes(b"broken")
    fields = {"source": f"folder:{image_folder}", "validation": "none"}
    with pytest.raises(
        UserError, match=r"data.max_corrupt: .*bee/004\.png' is corrupt; 1 corrupt image found so far, 0 "
    ):
        data.load(make_config(**fields), seed=0)
    train = data.load(make_config(**fields, max_corrupt=1), seed=0).splits["train"]
    np.testing.assert_array_equal(np.flatnonzero(train.weights == 0), [14])
    assert not train.read(np.array([14])).any()
    # A cache made with more leave still keeps to the limit.
    with pytest.raises(UserError, match=r"bee/004\.png"):
        data.load(make_config(**fields), seed=0)


def _break(image_folder, case):
    odd = image_folder / "train" / "cat" / "009.png"
    if case == "empty class":
        (image_folder / "train" / "dog").mkdir()
    elif case == "unseen class":
        write_images(image_folder / "test", 1, classes=("yak",))
    elif case == "no train":
        (image_folder / "train").rename(image_folder / "training")
    elif case == "missing":
        shutil.rmtree(image_folder)
    elif case == "odd size":
        PIL.Image.new("RGB", (7, 5)).save(odd)
    elif case == "odd channels":
        PIL.Image.new("L", (6, 5)).save(odd)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty class", r"data.source: '.*dog' has no images; put"),
        ("unseen class", r"data.source: '.*yak' is a class without training data; known: ape, bee, cat"),
        ("no train", r"has test, training but no 'train'; expected"),
        ("missing", r"data.source: no such folder '.*images'; expected"),
        ("odd size", r"data.image_size: '.*cat/009.png' has 7x5 pixels, the first image 6x5; set data.image_size"),
        ("odd channels", r"data.channels: '.*cat/009.png' has 1 channels, the first image 3; set data.channels"),
    ],
)
def test_a_wrong_folder_is_an_error_in_one_line(case, message, image_folder, make_config):
    _break(image_folder, case)
    with pytest.raises(UserError) as raised:
        data.load(make_config(source=f"folder:{image_folder}"), seed=0)
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("case", ["odd size", "odd channels"])
def test_a_size_and_channels_in_the_config_take_images_of_any_form(case, image_folder, make_config):
    _break(image_folder, case)
    config = make_config(source=f"folder:{image_folder}", image_size=4, channels=1)
    assert data.load(config, seed=0).features.shape == (4, 4, 1)
