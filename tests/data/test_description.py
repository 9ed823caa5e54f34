import shutil

import numpy as np
import pytest

import data
from data import description
from data.row_lists import RowLists
from tests.data.conftest import write_images


def test_a_folder_in_short_and_in_full(image_folder, make_config):
    write_images(image_folder / "val", per_class=2)
    for name in ("ape", "bee", "cat"):
        (image_folder / "test" / name / "000.png").rename(image_folder / "test" / f"{name}.png")
        shutil.rmtree(image_folder / "test" / name)
    (image_folder / "train" / "ape" / "notes\n.txt").touch()
    config = make_config(source=f"folder:{image_folder}", validation="none")
    dataset = data.load(config, seed=0)
    short = description.describe(dataset, config)
    assert short == [
        "data: classification of 'label' into 3 classes (ape, bee, cat); 24 train, 6 test",
        "inputs: images of 6x5 pixels, RGB",
        "left out: 3 files in 'test' without class folders (plumbline predict takes them), such as "
        f"'{image_folder}/test/ape.png'",
        f"left out: 1 file of another type (.txt), such as '{image_folder}/train/ape/notes\ufffd.txt'",
        "not used: split 'val' of the source; --config.data.validation=auto takes it",
    ]
    full = description.describe(dataset, config, full=True)
    assert [line for line in full if line not in short] == [
        "classes: class       train        test",
        *(f"         {name}             8           2" for name in ("ape", "bee", "cat")),
    ]


@pytest.fixture
def table(tmp_path, make_config):
    """A table with missing values and groups, and its config."""
    lines = [f"{row},{'?' if row % 4 == 1 else 'rgb'[row % 3]},{row % 5},{row % 2}" for row in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["x,colour,person,label", *lines]))
    fields = {"target": "label", "group": "person", "validation": "none"}
    config = make_config(source=f"csv:{tmp_path / 'a.csv'}", **fields)
    return data.load(config, seed=0), config


def test_a_table_says_how_each_column_was_read(table):
    dataset, config = table
    short = description.describe(dataset, config)
    assert short == [*dataset.opening, "  splits: 32 train, 8 test; 5 groups by 'person'"]
    assert "  1 numeric: x" in short
    train = dataset.splits["train"].rows
    full = description.describe(dataset, config, full=True)
    (numbers,) = (line for line in full if line.startswith("input: x "))
    assert numbers == f"input: x       numeric, {train.min()} to {train.max()}, mean {train.mean():.6g}"
    missing = int((train % 4 == 1).sum())
    counts = {letter: int(((train % 3 == each) & (train % 4 != 1)).sum()) for each, letter in enumerate("rgb")}
    (categories,) = (line for line in full if line.startswith("input: colour "))
    assert categories.endswith(f", {missing} missing")
    assert all(f"{letter} ({count})" in categories for letter, count in counts.items())


def test_all_columns_that_are_left_out_are_named_in_full(tmp_path, make_config):
    names = [f"a column that holds nothing at all with the number {number}" for number in range(20)]
    rows = [f"{row}," + "," * 20 + f"{row % 2}" for row in range(20)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(["x", *names, "label"]), *rows]))
    config = make_config(source=f"csv:{tmp_path / 'a.csv'}", target="label", validation="none")
    dataset = data.load(config, seed=0)
    short, full = (description.describe(dataset, config, full=full) for full in (False, True))
    assert not all(any(name in line for line in short) for name in names)
    assert all(any(name in line for line in full) for name in names)


def test_a_resumed_run_names_the_same_columns_that_are_left_out(tmp_path, make_config):
    rows = [f"{row},{row},,{row % 3},{row % 2}" for row in range(20)]
    (tmp_path / "a.csv").write_text("\n".join([",x,empty,bought,label", *rows]))
    config = make_config(source=f"csv:{tmp_path / 'a.csv'}", target="label", validation="none", ignore=("bought",))
    first = data.load(config, seed=0)
    assets = data.RunAssets(tokenizer="", row_lists=RowLists(), columns=first.features.columns)
    lines = [
        [line for line in dataset.opening if "left out" in line]
        for dataset in (first, data.load(config, seed=0, assets=assets))
    ]
    assert lines[0] == lines[1]
    assert lines[0][0].startswith("  4 left out: label (data.target), bought (data.ignore), ")


def test_a_line_lists_some_of_many_classes(tmp_path, make_config):
    write_images(tmp_path / "train", per_class=1, classes=tuple(f"a class with the number {n}" for n in range(40)))
    write_images(tmp_path / "test", per_class=2, classes=("a class with the number 0",))
    config = make_config(source=f"folder:{tmp_path}", validation="none")
    lines = description.describe(data.load(config, seed=0), config)
    assert max(map(len, lines)) < 260
    assert " and 35 more)" in lines[0]


def test_a_batch_is_described_with_shapes_types_and_ranges():
    batch = {"inputs": np.array([[0, 255], [7, 8]], np.uint8), "labels": np.array([0.5, np.nan], np.float32)}
    assert description.describe_batch(batch, np.zeros((2, 2), np.float32)) == [
        "inputs               uint8 (2, 2)  0 to 255, mean 67.5",
        "labels               float32 (2,)  0.5 to 0.5, mean 0.5",
        "inputs of the model  float32 (2, 2)  0 to 0, mean 0",
    ]


def test_texts_are_shown_with_their_tokens(tmp_path, make_config):
    lines = [f"ab {row},{row % 2}" for row in range(20)]
    (tmp_path / "texts.csv").write_text("\n".join(["line,label", *lines]))
    fields = {"target": "label", "text": "line", "tokenizer": "characters", "text_length": 8, "validation": "none"}
    dataset = data.load(make_config(source=f"csv:{tmp_path / 'texts.csv'}", **fields), seed=0)
    split = dataset.splits["train"]
    name, tokens = description.describe_texts(dataset.features, split, np.array([0]))
    assert name.endswith(f": 'ab {split.rows[0]}'")
    assert tokens == f"  4 tokens: 'a' 'b' ' ' '{split.rows[0]}'"
