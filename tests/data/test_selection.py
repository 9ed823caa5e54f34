import re
import shutil

import numpy as np
import pytest

import data
from data.pool import load_pool
from plumbline import UserError


def rows_of(dataset):
    return {name: set(split.rows.tolist()) for name, split in dataset.splits.items()}


def test_classes_that_are_kept_are_counted_in_the_order_of_the_source(make_config):
    whole = data.load(make_config(), seed=0)
    kept = data.load(make_config(classes=("9", "2", "5")), seed=0)
    assert kept.features.class_names == ("2", "5", "9")
    assert kept.features.num_outputs == 3
    for name, split in kept.splits.items():
        of_all = whole.splits[name]
        wanted = np.isin(of_all.labels, [2, 5, 9])
        np.testing.assert_array_equal(split.rows, of_all.rows[wanted])
        np.testing.assert_array_equal(np.array([2, 5, 9])[split.labels], of_all.labels[wanted])
        np.testing.assert_array_equal(split.groups, of_all.groups[wanted])
        np.testing.assert_array_equal(split.read(np.arange(len(split))), of_all.read(np.arange(len(of_all)))[wanted])


def test_fewer_examples_are_among_more_and_other_splits_keep_theirs(make_config):
    whole = rows_of(data.load(make_config(), seed=3))
    few, more = (data.load(make_config(examples_per_class=count), seed=3) for count in (5, 10))
    for dataset, count in ((few, 5), (more, 10)):
        np.testing.assert_array_equal(np.bincount(dataset.splits["train"].labels), [count] * 10)
        assert rows_of(dataset)["validation"] == whole["validation"]
        assert rows_of(dataset)["test"] == whole["test"]
    assert rows_of(few)["train"] < rows_of(more)["train"] < whole["train"]
    assert (np.diff(few.splits["train"].rows) > 0).all()


def test_each_seed_draws_other_examples_and_fits_on_them(make_config):
    fields = {"examples_per_class": 5, "validation": "none"}
    first, second = (data.load(make_config(**fields), seed=seed) for seed in (0, 1))
    assert rows_of(first)["train"] != rows_of(second)["train"]
    inputs = first.splits["train"].read(np.arange(50)) / 255
    np.testing.assert_allclose(first.preprocessing["mean"], inputs.mean(), rtol=1e-5)


def test_a_pool_has_what_is_kept(make_config):
    config = make_config(classes=("0", "1"), examples_per_class=4)
    pool = load_pool(config, seed=0)
    assert [len(pool.splits[name]) for name in ("train",)] == [8]
    assert set(pool.labels.tolist()) == {0, 1}
    assert pool.features.class_names == ("0", "1")


def test_classes_of_folders_and_tables_are_kept_as_well(image_folder, make_config, tmp_path):
    images = data.load(make_config(source=f"folder:{image_folder}", classes=("cat", "ape")), seed=0)
    assert images.features.class_names == ("ape", "cat")
    assert len(images.splits["test"]) == 8
    flowers = data.load(make_config(source="sklearn:iris", classes=("setosa", "virginica")), seed=0)
    assert flowers.features.class_names == ("setosa", "virginica")
    assert sum(map(len, flowers.splits.values())) == 100


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": ("ape", "ct")}, "data.classes: unknown name 'ct'; did you mean 'cat'? known: ape, bee, cat"),
        ({"classes": ("ape", "ape")}, "data.classes: 'ape' is named twice"),
        ({"classes": ("ape",)}, "data.classes: 'ape' is a single class"),
        ({"examples_per_class": 11}, "data.examples_per_class: 11 given, but class 'ape' has 10 training rows; give"),
        ({"source": "sklearn:diabetes", "classes": ("1", "2")}, "data.classes: needs a classification"),
        ({"source": "sklearn:diabetes", "examples_per_class": 5}, "data.examples_per_class: needs a classification"),
    ],
)
def test_an_impossible_selection_is_an_error_in_one_line(image_folder, make_config, fields, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        data.load(make_config(**{"source": f"folder:{image_folder}", "validation": "none", **fields}), seed=0)


def test_a_split_without_a_row_of_the_classes_is_an_error(image_folder, make_config):
    shutil.rmtree(image_folder / "test" / "bee")
    shutil.rmtree(image_folder / "test" / "cat")
    with pytest.raises(UserError, match=r"^data\.classes: no row of the test split is of bee, cat; name others"):
        data.load(make_config(source=f"folder:{image_folder}", classes=("bee", "cat")), seed=0)
