import gzip
import re

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import data
from data.features import MISSING, UNSEEN
from plumbline import UserError

_HEADER = "age,colour,member,label"


def _write(path, rows, header=_HEADER):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def _rows(num_rows):
    return [
        f"{index}.5,{('red', 'blue')[index % 2]},{('true', 'False')[index % 3 == 0]},{('no', 'yes')[index % 2]}"
        for index in range(num_rows)
    ]


def _load(make_config, path, **fields):
    return data.load(make_config(source=f"csv:{path}", target="label", **fields), seed=0)


def test_columns_are_typed_and_numeric_ones_come_first(tmp_path, make_config):
    rows = _rows(20)
    rows[3] = " ?, red ,NA, yes"
    train, test = _write(tmp_path / "a.csv", rows), _write(tmp_path / "b.csv", ["1e3,green,,yes", "-2,?,true,no"])
    dataset = _load(make_config, train, test=test, validation="none")
    found = [(column.name, column.kind, column.categories, column.has_missing) for column in dataset.features.columns]
    assert found == [
        ("age", "numeric", (), True),
        ("member", "boolean", (), True),
        ("colour", "categorical", ("blue", "red"), False),
    ]
    assert dataset.features.class_names == ("no", "yes")
    assert dataset.features.categories == (4,)
    assert dataset.features.input_shape == (5,)
    inputs = dataset.splits["train"].read(np.arange(4))
    np.testing.assert_array_equal(inputs, [[0.5, 0, 3], [1.5, 1, 2], [2.5, 1, 3], [np.nan, np.nan, 3]])
    expected = [[1000, np.nan, UNSEEN], [-2, 1, MISSING]]
    np.testing.assert_array_equal(dataset.splits["test"].read(np.arange(2)), expected)


def test_gzip_and_parquet_hold_the_same_as_csv(tmp_path, make_config):
    rows = _rows(20)
    plain = _load(make_config, _write(tmp_path / "a.csv", rows))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    zipped = _load(make_config, tmp_path / "a.csv.gz")
    columns = list(zip(*(row.split(",") for row in rows), strict=True))
    typed = [np.array(columns[0], float), list(columns[1]), [v == "true" for v in columns[2]], list(columns[3])]
    pyarrow.parquet.write_table(pyarrow.table(typed, names=_HEADER.split(",")), tmp_path / "a.parquet")
    config = make_config(source=f"parquet:{tmp_path / 'a.parquet'}", target="label")
    parquet = data.load(config, seed=0)
    for other in (zipped, parquet):
        assert other.features == plain.features
        for name, split in plain.splits.items():
            np.testing.assert_array_equal(other.splits[name].rows, split.rows)
            everything = np.arange(len(split))
            np.testing.assert_array_equal(other.splits[name].read(everything), split.read(everything))


def test_a_numeric_target_is_classified_in_the_order_of_its_numbers(tmp_path, make_config):
    rows = [f"{index},{('10', '9', '1.0')[index % 3]}" for index in range(30)]
    dataset = _load(make_config, _write(tmp_path / "a.csv", rows, "x,label"))
    assert (dataset.features.task, dataset.features.class_names) == ("classification", ("1", "9", "10"))
    dataset = _load(make_config, _write(tmp_path / "a.csv", rows, "x,label"), task="regression")
    assert dataset.splits["train"].labels.dtype == np.float32
    assert set(dataset.splits["train"].labels) == {1, 9, 10}


def test_many_numbers_or_fractions_are_regression(tmp_path, make_config):
    for values in (range(21), (0.5, 1, 2)):
        rows = [f"{index},{list(values)[index % len(values)]}" for index in range(42)]
        dataset = _load(make_config, _write(tmp_path / "a.csv", rows, "x,label"))
        assert (dataset.features.task, dataset.features.num_outputs) == ("regression", 1)


def test_groups_weights_and_balanced_classes(tmp_path, make_config):
    rows = [f"{index},{index % 5},{index % 4},{'ab'[index % 3 == 0]}" for index in range(60)]
    path = _write(tmp_path / "a.csv", rows, "x,person,heavy,label")
    dataset = _load(make_config, path, group="person", weight="heavy", class_weights="balanced")
    assert [column.name for column in dataset.features.columns] == ["x"]
    assert dataset.features.group_names == ("0", "1", "2", "3", "4")
    train = dataset.splits["train"]
    np.testing.assert_array_equal(train.weights, train.rows % 4)
    np.testing.assert_array_equal(train.groups, train.rows % 5)
    assert dataset.class_weights[train.labels].mean() == pytest.approx(1)
    assert dataset.class_weights @ (np.bincount(train.labels) * [1, -1]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([], {}, r"a.csv' has a header but no rows"),
        ([*_rows(9), "1,red,true"], {}, r"a.csv' line 11 has 3 fields, its header 4"),
        ([*_rows(9), "1e999,red,true,no"], {}, r"a.csv row 11, column 'age' holds '1e999'; give a finite number"),
        ([*_rows(4), "", "-inf,red,true,no", *_rows(9)], {}, r"row 7, column 'age' holds '-inf'"),
        ([*_rows(9), "1,red,true,"], {}, r"a.csv row 11, column 'label' is missing"),
        ([f"1,red,true,{'no'}"] * 9, {}, r"data.target: column 'label' of .* is 'no' in every row"),
        (_rows(9), {"target": "lable"}, r"data.target: unknown name 'lable'; did you mean 'label'"),
        (_rows(9), {"ignore": ("agee",)}, r"data.ignore: unknown name 'agee'; did you mean 'age'"),
        (_rows(9), {"categorical": ("x",)}, r"data.categorical: unknown name 'x'"),
        (_rows(9), {"weight": "age", "group": "colr"}, r"data.group: unknown name 'colr'; did you mean 'colour'"),
        ([f"-1,{row}" for row in _rows(9)], {"weight": "w"}, r"row 2, column 'w' has the weight -1; give at least 0"),
        (_rows(9), {"task": "regression"}, r"data.task: column 'label' holds 'no', not a number"),
        (_rows(9), {"task": "ranking"}, r"data.task: unknown name 'ranking'"),
        ([f"2024-05-0{i + 1},{row}" for i, row in enumerate(_rows(9))], {}, r"'w' holds dates or times \('2024-05-0"),
        (_rows(9), {"test": "TEST:1,red,true,maybe"}, r"holds the label 'maybe', which no training row has; known: no"),
        (_rows(9), {"test": "TEST:old,red,true,no"}, r"column 'age' holds 'old', but training rows hold numbers"),
        (_rows(9), {"test": "TEST:1,red,often,no"}, r"'member' holds 'often', but training rows hold true or false"),
        (_rows(9), {"test": "nowhere.csv"}, r"data.test: no such file 'nowhere.csv'"),
        (_rows(9), {"test": "split:test"}, r"data.test: unknown name 'test'"),
        (_rows(9), {"test": "0 percent"}, r"data.test: '0 percent' is not valid"),
        (_rows(9), {"validation": "a bit"}, r"data.validation: 'a bit' is not valid; write 'auto', 'none', 'N"),
        (_rows(9), {"normalize": "imagenet"}, r"data.normalize: 'imagenet' is for images"),
        (_rows(9), {"class_weights": "even"}, r"data.class_weights: unknown value 'even'"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_an_error_in_one_line(rows, fields, message, tmp_path, make_config):
    header = _HEADER if not rows or len(rows[-1].split(",")) <= 4 else f"w,{_HEADER}"
    path = _write(tmp_path / "a.csv", rows, header)
    if fields.get("test", "").startswith("TEST:"):
        fields = {**fields, "test": _write(tmp_path / "b.csv", [fields["test"].removeprefix("TEST:")])}
    with pytest.raises(UserError) as raised:
        data.load(make_config(**{"source": f"csv:{path}", "target": "label", **fields}), seed=0)
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)


def test_an_empty_or_missing_file_is_an_error(tmp_path, make_config):
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"data.source: '.*a.csv' is empty"):
        _load(make_config, tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"data.source: no such file '.*b.csv'"):
        _load(make_config, tmp_path / "b.csv")


def test_nan_is_a_missing_number_in_parquet_and_csv(tmp_path, make_config):
    values = pyarrow.array([1.0, None, float("nan"), 4.0] * 5)
    labels = ["no", "yes"] * 10
    pyarrow.parquet.write_table(pyarrow.table({"x": values, "label": labels}), tmp_path / "a.parquet")
    parquet = data.load(make_config(source=f"parquet:{tmp_path / 'a.parquet'}", target="label"), seed=0)
    rows = [f"{('1', '', 'nan', '4')[index % 4]},{labels[index]}" for index in range(20)]
    plain = _load(make_config, _write(tmp_path / "a.csv", rows, "x,label"))
    for dataset in (parquet, plain):
        assert dataset.features.columns[0].has_missing
        train = dataset.splits["train"]
        expected = np.array([1, np.nan, np.nan, 4], np.float32)[train.rows % 4]
        np.testing.assert_array_equal(train.read(np.arange(len(train)))[:, 0], expected)
