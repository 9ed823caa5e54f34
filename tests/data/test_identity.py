"""What a run knows its data by: fingerprint, classes, groups, columns and splits."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import data
from data import tables
from plumbline import UserError

_PRINT_ORDER = """
import json, sys
import data
from configs import defaults
config = defaults.get_config().data
config.source, config.target, config.group = f"parquet:{sys.argv[1]}", "label", "who"
loaded = data.load(config, seed=0)
names = [loaded.features.class_names, loaded.features.group_names, loaded.features.columns[0].categories]
print(json.dumps([names, loaded.identity]))
"""


@pytest.fixture
def dataset(tmp_path, make_config):
    (tmp_path / "a.csv").write_text("\n".join(["x,who,label", *(f"{n},{n % 7},{n % 3}" for n in range(60))]))
    return data.load(make_config(source=f"csv:{tmp_path / 'a.csv'}", target="label", group="who"), seed=0)


def test_the_order_of_values_does_not_depend_on_the_process(tmp_path):
    values = ["nan", "1", "NaN", "10", "9", "2.5"] * 20
    table = pyarrow.table({"colour": values, "who": values[::-1], "label": values[2:] + values[:2]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = []
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", _PRINT_ORDER, str(tmp_path / "a.parquet")]
        found.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert found[0] == found[1] == found[2]
    assert json.loads(found[0])[0][:2] == [["1", "2.5", "9", "10", "NaN", "nan"]] * 2


def test_values_are_sorted_as_exact_numbers_or_alphabetically():
    assert tables.sorted_values(["9007199254740993", "-1", "9007199254740992", "inf", "1e3", "nan"]) == (
        "-1", "1e3", "9007199254740992", "9007199254740993", "inf", "nan",
    )  # fmt: skip
    assert tables.sorted_values(["b", "10", "9", "b"]) == ("10", "9", "b")


def test_data_are_the_same_if_everything_is(dataset):
    dataset.check_same(dataset.identity, dataset.features, source="csv:a.csv")
    dataset.check_same(dataset.fingerprint, dataset.features, source="csv:a.csv")  # As earlier versions stored it.


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"class_names": ("1", "0", "2")}, "class names"),
        ({"group_names": ("1", "0", "2", "3", "4", "5", "6")}, "group names"),
        ({"columns": ()}, "columns"),
    ],
)
def test_another_order_of_names_is_an_error(dataset, change, what):
    features = dataclasses.replace(dataset.features, **change)
    with pytest.raises(UserError, match=rf"^data.source: 'csv:a.csv' holds the same data .* but its {what} differ"):
        dataset.check_same(dataset.identity, features, source="csv:a.csv")


def test_other_splits_or_another_file_are_an_error(dataset, tmp_path, make_config):
    fields = {"source": f"csv:{tmp_path / 'a.csv'}", "target": "label"}
    other = data.load(make_config(**fields, group="who"), seed=1)
    assert other.fingerprint == dataset.fingerprint
    assert not np.array_equal(other.splits["train"].rows, dataset.splits["train"].rows)
    with pytest.raises(UserError, match="holds the same data as when this run began, but its splits differ"):
        other.check_same(dataset.identity, dataset.features, source="csv:a.csv")
    with (tmp_path / "a.csv").open("a") as file:
        file.write("\n61,1,1")
    other = data.load(make_config(**fields, group="who"), seed=0)
    with pytest.raises(UserError, match=r"^data.source: 'csv:a.csv' holds other data than when this run began; bring"):
        other.check_same(dataset.identity, dataset.features, source="csv:a.csv")
