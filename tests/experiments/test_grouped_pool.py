import numpy as np
import pytest

from configs import defaults
from experiments.grouped_pool import load_grouped_pool
from plumbline import UserError


@pytest.fixture
def config(tmp_path):
    """Of a table of four hospitals."""
    rows = [f"{20 + n},{'abcd'[n % 4]},{'yes' if n % 3 else 'no'}" for n in range(80)]
    (tmp_path / "people.csv").write_text("\n".join(["age,hospital,label", *rows]) + "\n")
    config = defaults.get_config()
    config.data.source, config.data.target = f"csv:{tmp_path / 'people.csv'}", "label"
    return config


def test_a_column_of_a_table_becomes_its_groups_and_is_no_input(config):
    assert load_grouped_pool(config.copy_and_resolve_references(), "").groups is None
    pool = load_grouped_pool(config, "hospital")
    assert pool.features.group_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(pool.groups, pool.rows % 4)
    assert [column.name for column in pool.features.columns] == ["age"]


def test_unknown_groups_are_refused(config):
    with pytest.raises(UserError, match=r"^--groups: .*'hospitl'.*hospital"):
        load_grouped_pool(config, "hospitl")
    digits = defaults.get_config()
    with pytest.raises(UserError, match="--groups: no 'author' in 'digits', whose groups are 'writer 0'"):
        load_grouped_pool(digits, "author")


def test_a_source_without_groups_is_refused(tmp_path):
    from PIL import Image

    for shade, split in enumerate(("train", "test")):
        for number, name in enumerate(("cat", "dog")):
            for image in range(12):
                path = tmp_path / split / name / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), 100 * number + 50 * shade + image).save(path)
    config = defaults.get_config()
    config.data.source = f"folder:{tmp_path}"
    with pytest.raises(UserError, match="has no groups, so there is no 'animal'; leave --groups out"):
        load_grouped_pool(config, "animal")
