import os
import re
import shutil

import numpy as np
import PIL.Image
import pytest

import data
from data.sources import open_source
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
        (image_folder / "train").rename(image_folder / "learn")
    elif case == "other files":
        (image_folder / "train" / "dog").mkdir()
        (image_folder / "train" / "dog" / "1.heic").touch()
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
        (
            "other files",
            r"has no images but 1 file of another type \(.heic\), such as '.*'; put .png, .jpg or other",
        ),
        ("unseen class", r"data.source: '.*yak' is a class without training data; known: ape, bee, cat"),
        ("no train", r"has learn, test but no 'train'; expected"),
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


def _classes_and_rows(folder, make_config, **fields):
    dataset = data.load(make_config(source=f"folder:{folder}", image_size=6, channels=3, **fields), seed=0)
    return dataset.features.class_names, {name: len(split) for name, split in dataset.splits.items()}


def test_every_type_of_image_counts_in_any_letter_case_and_below_a_class(image_folder, make_config):
    bee = image_folder / "train" / "bee"
    for ending in ("webp", "BMP", "tiff", "Gif", "JFIF", "avif"):
        PIL.Image.new("RGB", (6, 5), (200, 10, 30)).save(bee / f"z.{ending}")
    (bee / "album.png" / "deeper").mkdir(parents=True)
    PIL.Image.new("RGB", (6, 5)).save(bee / "album.png" / "deeper" / "1.jpeg")
    (image_folder / "elsewhere").mkdir()
    PIL.Image.new("RGB", (6, 5)).save(image_folder / "elsewhere" / "2.png")
    (bee / "link").symlink_to(image_folder / "elsewhere")
    (image_folder / "elsewhere").rename(image_folder / ".elsewhere")
    (bee / "link").unlink()
    (bee / "link").symlink_to(image_folder / ".elsewhere")
    assert _classes_and_rows(image_folder, make_config, validation="none")[1] == {"train": 38, "test": 12}
    part = open_source(make_config(source=f"folder:{image_folder}")).part("train")
    names = [part.records.name(row).removeprefix(f"'{image_folder}/train/") for row in range(10, 28)]
    assert names == sorted(names)
    assert {"bee/album.png/deeper/1.jpeg'", "bee/link/2.png'"} < set(names)


def test_what_is_left_out_is_counted_with_the_reason(image_folder, make_config):
    train = image_folder / "train"
    for name in ("ape/notes.txt", "ape/list.csv", "bee/more.TXT", "bee/._001.png", "cat/.DS_Store", "cat/Thumbs.db"):
        (train / name).write_bytes(b"x")
    shutil.copy(train / "ape" / "000.png", train / "stray.png")
    (train / "cat" / "loop").symlink_to(train / "cat")
    found = open_source(make_config(source=f"folder:{image_folder}")).part("train").left_out
    assert {entry.reason: entry.number for entry in found} == {
        "beside the class folders": 1,
        "of another type": 3,
        "with a hidden name": 1,
        "linking to a folder above": 1,
    }
    assert "3 files of another type (.csv, .txt), such as" in found[1].describe()
    assert found[0].describe() == f"1 file beside the class folders, such as '{train}/stray.png'"


def test_a_test_folder_without_classes_is_no_split_and_is_counted(image_folder, make_config):
    """As in many competitions: the images to predict have no labels."""
    for name in ("ape", "bee", "cat"):
        for file in (image_folder / "test" / name).iterdir():
            file.rename(image_folder / "test" / f"{name}-{file.name}")
        (image_folder / "test" / name).rmdir()
    shutil.copy(image_folder / "train" / "ape" / "000.png", image_folder / "train" / "stray.png")
    shutil.copytree(image_folder / "test", image_folder / "images")
    for image in (image_folder / "images").iterdir():
        image.unlink()
    classes, rows = _classes_and_rows(image_folder, make_config, validation="none")
    assert (classes, rows) == (("ape", "bee", "cat"), {"train": 24, "test": 6})
    source = open_source(make_config(source=f"folder:{image_folder}"))
    assert source.unlabelled["test"].number == 12
    with pytest.raises(UserError, match=r"data.test: 'test' has no class folders, .*plumbline predict"):
        data.load(make_config(source=f"folder:{image_folder}", test="split:test"), seed=0)


def test_flat_train_and_test_folders_are_never_classes(tmp_path, make_config):
    for name in ("train", "test", "examples"):
        (tmp_path / name).mkdir()
        PIL.Image.new("RGB", (6, 5)).save(tmp_path / name / "1.png")
    with pytest.raises(UserError, match=r"train' has 0 class folders, but needs at least 2; expected"):
        data.load(make_config(source=f"folder:{tmp_path}"), seed=0)


def test_a_class_may_be_called_train(tmp_path, make_config):
    write_images(tmp_path, per_class=10, classes=("bus", "train"))
    assert _classes_and_rows(tmp_path, make_config, validation="none") == (("bus", "train"), {"train": 16, "test": 4})


def test_images_may_lie_below_the_class_folders_alone(tmp_path, make_config):
    for name in ("bus", "car"):
        write_images(tmp_path / name, per_class=10, classes=("images",))
    assert _classes_and_rows(tmp_path, make_config, validation="none")[0] == ("bus", "car")
    for name in ("bus", "car"):
        write_images(tmp_path / name, per_class=10, classes=("more",))
    with pytest.raises(UserError, match=r"has 'bus' and 'car' with the same folders, 'images' and 'more' among them"):
        data.load(make_config(source=f"folder:{tmp_path}"), seed=0)


def test_a_folder_around_the_data_set_is_named(image_folder, make_config):
    outer = image_folder.parent / "outer"
    outer.mkdir()
    image_folder.rename(outer / "inner")
    with pytest.raises(UserError, match=r"has 1 class folder, .*; is it '.*outer/inner'\?"):
        data.load(make_config(source=f"folder:{outer}"), seed=0)


def test_names_of_classes_agree_in_both_spellings_of_accented_letters(tmp_path, make_config):
    write_images(tmp_path / "train", per_class=4, classes=("caf\u00e9", "tea"))
    write_images(tmp_path / "test", per_class=4, classes=("cafe\u0301", "tea"))
    classes, rows = _classes_and_rows(tmp_path, make_config, validation="none")
    assert (classes, rows["test"]) == (("caf\u00e9", "tea"), 8)


def test_file_names_that_are_not_utf8_are_read_and_can_be_printed(image_folder, make_config):
    odd = os.fsdecode(b"\xff\xfe.png")
    shutil.copy(image_folder / "train" / "ape" / "000.png", image_folder / "train" / "ape" / odd)
    part = open_source(make_config(source=f"folder:{image_folder}")).part("train")
    names = [part.records.name(row) for row in range(len(part))]
    (row,) = [row for row, name in enumerate(names) if "\\xff\\xfe.png" in name]
    assert part.records.read_encoded(row) == part.records.read_encoded(0)
    "".join(names).encode()
    dataset = data.load(make_config(source=f"folder:{image_folder}", validation="none"), seed=0)
    np.testing.assert_array_equal(*dataset.splits["train"].read(np.array([0, row])))


@pytest.mark.parametrize("in_cache", [True, False])
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("gone.png", "no such file, or a link to a file that is gone"),
        ("004.png", "Too many levels of symbolic links"),
        ("/proc/self/mem", "Input/output error"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(target, reason, in_cache, image_folder, make_config):
    image = image_folder / "train" / "bee" / "004.png"
    image.unlink()
    image.symlink_to(target)
    config = make_config(source=f"folder:{image_folder}", cache_limit_gib=8.0 if in_cache else 0.0)
    with pytest.raises(UserError) as raised:
        data.load(config, seed=0)
    assert str(raised.value) == f"data.source: '{image}' cannot be read ({reason}); make it readable, or remove it"


def test_a_file_that_becomes_unreadable_is_not_blamed_on_the_cache(image_folder, make_config, monkeypatch):
    monkeypatch.setattr("data.sources.folder._fingerprint", lambda records, names, sizes: str(len(names)))
    image = image_folder / "train" / "bee" / "004.png"
    image.unlink()
    image.symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"^data.source: '.*004.png' cannot be read \(Input/output error\)"):
        data.load(make_config(source=f"folder:{image_folder}"), seed=0)


def test_an_unreadable_folder_is_named_in_one_line(image_folder, make_config, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"^data.source: '.*train/bee' cannot be read \(Permission denied\); make"):
        data.load(make_config(source=f"folder:{image_folder}"), seed=0)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_the_own_validation_split_is_taken_under_its_usual_names(name, image_folder, make_config):
    write_images(image_folder / name, per_class=2)
    config = make_config(source=f"folder:{image_folder}", validation="auto")
    dataset = data.load(config, seed=0)
    assert {split: len(part) for split, part in dataset.splits.items()} == {"train": 30, "validation": 6, "test": 12}
    first = np.asarray(PIL.Image.open(image_folder / name / "ape" / "000.png"))
    np.testing.assert_array_equal(dataset.splits["validation"].read(np.array([0]))[0], first)
    assert dataset.unused_splits == ()
    config.validation = "10 percent"
    assert data.load(config, seed=0).unused_splits == (name,)


def test_without_an_own_validation_split_auto_is_10_percent(image_folder, make_config):
    config = make_config(source=f"folder:{image_folder}", validation="auto")
    auto = data.load(config, seed=0)
    config.validation = "10 percent"
    assert auto.identity == data.load(config, seed=0).identity
    assert len(auto.splits["validation"]) == 3


def test_two_own_validation_splits_need_a_choice(image_folder, make_config):
    for name in ("dev", "val"):
        write_images(image_folder / name, per_class=2)
    with pytest.raises(
        UserError, match=r"data.validation: the source has 'dev' and 'val'; choose one with 'split:NAME'"
    ):
        data.load(make_config(source=f"folder:{image_folder}", validation="auto"), seed=0)
    config = make_config(source=f"folder:{image_folder}", validation="auto", test="split:dev")
    assert len(data.load(config, seed=0).splits["validation"]) == 6


def test_splits_may_be_called_training_and_testing_in_any_letter_case(image_folder, make_config):
    expected = data.load(make_config(source=f"folder:{image_folder}"), seed=0)
    (image_folder / "train").rename(image_folder / "Training")
    (image_folder / "test").rename(image_folder / "TESTING")
    (image_folder / "annotations").mkdir()
    (image_folder / "annotations" / "boxes.xml").touch()
    dataset = data.load(make_config(source=f"folder:{image_folder}"), seed=0)
    assert dataset.identity == expected.identity
    assert dataset.unused_splits == ()


def test_classes_that_differ_in_letter_case_alone_are_an_error(image_folder, make_config):
    for name in ("ape", "bee", "cat"):
        (image_folder / "test" / name).rename(image_folder / "test" / name.title())
    with pytest.raises(UserError, match=r"test/Ape' is a class without training data; known: ape, bee, cat"):
        data.load(make_config(source=f"folder:{image_folder}"), seed=0)


@pytest.mark.parametrize("place", ["train/bee", "test", "train/ape/more"])
def test_a_link_to_a_folder_that_is_gone_is_named(place, image_folder, make_config):
    if (image_folder / place).exists():
        shutil.rmtree(image_folder / place)
    (image_folder / place).symlink_to("gone")
    with pytest.raises(
        UserError, match=f"^data.source: '{image_folder / place}' cannot be read .no such file, or a link"
    ):
        data.load(make_config(source=f"folder:{image_folder}"), seed=0)
