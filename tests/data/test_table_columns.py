"""How the columns of a table are read: types, names of numbers, offsets, what is left out and what is refused."""

import datetime
import decimal
import re

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest

import data
from data import prediction, table_columns
from data.features import UNSEEN
from plumbline import UserError

_NAN = float("nan")


@pytest.fixture
def load(tmp_path, make_config):
    """Writes columns as CSV or Parquet, loads them, and returns the data set and its config."""

    def load(columns, *, name="a.csv", **fields):
        path = tmp_path / name
        _write(path, columns)
        kind = "parquet" if path.suffix == ".parquet" else "csv"
        fields = {"target": "label", **fields}
        config = make_config(source=f"{kind}:{path}", validation="none", **fields)
        return data.load(config, seed=0), config

    return load


def _write(path, columns):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    path.write_text("\n".join(",".join('"' + str(cell) + '"' for cell in row) for row in rows) + "\n")


def _labels(count):
    return [("no", "yes")[index % 2] for index in range(count)]


def _predict(loaded, path, columns):
    dataset, config = loaded
    _write(path, columns)
    (chunk,) = prediction.read_inputs(dataset.features, config, [path])
    return chunk


def _values(dataset, column=0):
    """Returns one column of all rows in the order of the file."""
    values = np.empty(sum(map(len, dataset.splits.values())))
    for split in dataset.splits.values():
        values[split.rows] = split.read(np.arange(len(split)))[:, column]
    return values


# ---- One spelling of numbers.


def test_categories_and_groups_have_one_spelling_in_every_file(load, tmp_path):
    count = 60
    codes = [("1", "1.0", "01", "2", "2.50")[index % 5] for index in range(count)]
    who = [("7", "7.0", "8")[index % 3] for index in range(count)]
    loaded = load({"code": codes, "who": who, "label": _labels(count)}, categorical=("code",), group="who", test="50 %")
    features = loaded[0].features
    assert (features.columns[0].categories, features.group_names) == (("1", "2", "2.5"), ("7", "8"))
    expected = [[2], [2], [3], [4], [UNSEEN]]
    csv = _predict(loaded, tmp_path / "b.csv", {"code": ["1.00", "1", "2.0", "2.5", "3"]})
    np.testing.assert_array_equal(csv.inputs, expected)
    for values in (
        [1.0, 1, 2, 2.5, 3],
        pyarrow.array([1, 1, 2, 2.5, 3], pyarrow.float32()),
        ["1", "01", "2", "2.5", "x"],
    ):
        parquet = _predict(loaded, tmp_path / "b.parquet", {"code": values})
        np.testing.assert_array_equal(parquet.inputs, expected)
    decimals = [decimal.Decimal(text) for text in ("1.00", "1.00", "2.00", "2.50", "3.00")]
    np.testing.assert_array_equal(_predict(loaded, tmp_path / "b.parquet", {"code": decimals}).inputs, expected)


def test_texts_among_numbers_keep_their_spelling(load, tmp_path):
    versions = [("1.10", "1.1", "1.2.3")[index % 3] for index in range(60)]
    loaded = load({"version": versions, "label": _labels(60)}, categorical=("version",))
    assert loaded[0].features.columns[0].categories == ("1.1", "1.10", "1.2.3")
    chunk = _predict(loaded, tmp_path / "b.csv", {"version": ["1.10", "1.1"]})
    np.testing.assert_array_equal(chunk.inputs[:, 0], [3, 2])


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_large_integers_are_exact_labels(load, name):
    first = 2**53
    values = [first + index % 3 for index in range(60)]
    dataset, _ = load({"x": list(range(60)), "label": values}, name=name, task="classification")
    assert dataset.features.class_names == (str(first), str(first + 1), str(first + 2))
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.labels, split.rows % 3)


def test_columns_with_unseen_categories_are_mentioned(load, tmp_path, capsys):
    loaded = load({"city": [("Rome", "Bonn")[n % 2] for n in range(60)], "label": _labels(60)})
    _predict(loaded, tmp_path / "b.csv", {"city": ["Rome"] * 19 + ["Oslo"]})
    assert not capsys.readouterr().err
    _predict(loaded, tmp_path / "b.csv", {"city": ["Rome"] * 9 + ["Oslo"]})
    line = capsys.readouterr().err
    assert "b.csv column 'city': 10% of the values do not occur in the training rows, such as 'Oslo'" in line
    assert line.count("\n") == 1


# ---- Numbers that float32 would merge.


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize(
    "values",
    [
        [1_700_000_000 + index for index in range(100)],
        [20_240_101 + 100 * (index // 28) + index % 28 for index in range(100)],
        [-1e9 - index / 8 for index in range(100)],
    ],
)
def test_numbers_are_told_apart_relative_to_an_offset(load, tmp_path, name, values):
    loaded = load({"time": values, "label": _labels(100)}, name=name)
    dataset = loaded[0]
    column = dataset.features.columns[0]
    assert column.offset in values
    found = _values(dataset)
    np.testing.assert_array_equal(found.astype(np.float64) + column.offset, values)
    np.testing.assert_array_equal(column.restore(found.astype(np.float32)), values)
    # The fitted preprocessing is that of the centred values.
    train = found[dataset.splits["train"].rows]
    assert dataset.preprocessing["std"][0] == pytest.approx(train.std(), rel=1e-6)
    for other in ("b.csv", "b.parquet"):
        chunk = _predict(loaded, tmp_path / other, {"time": values})
        np.testing.assert_array_equal(chunk.inputs[:, 0], found)
    restored = data.Features.from_json(dataset.features.to_json())
    assert restored == dataset.features


def test_other_numbers_have_no_offset(load):
    random = np.random.default_rng(0)
    columns = {
        "small": random.normal(0, 1, 400).tolist(),
        "decimals": np.round(random.normal(1000, 100, 400), 2).tolist(),
        "years": [1900 + n % 130 for n in range(400)],
        "large": (random.normal(0, 1e30, 400)).tolist(),
        "label": _labels(400),
    }
    dataset, _ = load(columns)
    assert [column.offset for column in dataset.features.columns] == [0, 0, 0, 0]
    np.testing.assert_array_equal(_values(dataset, 1), np.float32(columns["decimals"]))


def test_a_target_is_relative_to_an_offset_as_well(load):
    values = [1_700_000_000 + 3 * index for index in range(100)]
    dataset, _ = load({"x": list(range(100)), "label": values}, task="regression")
    offset = dataset.features.target_offset
    assert offset in values
    for split in dataset.splits.values():
        assert split.labels.dtype == np.float32
        np.testing.assert_array_equal(split.labels + np.float64(offset), np.array(values)[split.rows])
    plain, _ = load({"x": list(range(100)), "label": [n / 7 for n in range(100)]}, task="regression")
    assert plain.features.target_offset == 0


def test_values_that_still_merge_are_mentioned(load):
    values = [float(10 ** (index % 2 * 12)) + index for index in range(200)]
    dataset, _ = load({"x": values, "label": _labels(200)})
    assert any("'x' has values that are equal as float32" in line for line in dataset.opening)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_integers_that_float64_merges_are_mentioned(load, name):
    dataset, _ = load({"x": [2**60 + 7 * n % 60 for n in range(60)], "label": _labels(60)}, name=name)
    assert any("'x' has integers of more than 53 bits" in line for line in dataset.opening)


@pytest.mark.parametrize("categorical", [(), ("x",)])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([datetime.date(2024, 1, 1)] * 60, r"column 'x' holds dates or times \('2024-01-01'\)"),
        ([[1, 2]] * 60, r"column 'x' is of type list<.*>, which is not supported; add it to data.ignore"),
        ([b"a"] * 60, r"column 'x' is of type binary, which is not supported"),
    ],
)
def test_types_without_a_meaning_are_an_error(load, values, message, categorical):
    with pytest.raises(UserError, match=message):
        load({"x": values, "label": _labels(60)}, name="a.parquet", categorical=categorical)


# ---- Columns that are left out.


def test_columns_without_names_or_values_are_left_out(load, tmp_path):
    columns = {
        "": list(range(60)),
        "Unnamed: 3": ["a"] * 60,
        "empty": [("", "NaN", "<NA>")[n % 3] for n in range(60)],
        "x": [n / 2 for n in range(60)],
        "label": _labels(60),
    }
    dataset, _ = load(columns)
    assert [column.name for column in dataset.features.columns] == ["x"]
    line = dataset.opening[2]
    assert "4 left out" in line
    for part in ("unnamed (no name)", "Unnamed: 3 (no name)", "empty (no values in the training rows)"):
        assert part in line
    assert (
        load(columns, ignore=("", "x", "empty"), categorical=("Unnamed: 3",))[0].features.columns[0].kind
        == "categorical"
    )


def test_the_index_of_pandas_is_left_out(load, tmp_path, make_config):
    frame = pandas.DataFrame({"x": np.arange(60) / 2, "label": _labels(60)}, index=np.arange(60)[::-1])
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv")
    for kind in ("parquet", "csv"):
        config = make_config(source=f"{kind}:{tmp_path / 'a'}.{kind}", target="label", ignore=())
        assert [column.name for column in data.load(config, seed=0).features.columns] == ["x"]
        if kind == "csv":
            config.ignore = ("",)
            assert [column.name for column in data.load(config, seed=0).features.columns] == ["x"]


def test_identifiers_among_the_inputs_are_mentioned(load):
    columns = {"id": [10 * n for n in range(60)], "x": [n % 7 for n in range(60)], "label": _labels(60)}
    dataset, _ = load(columns)
    assert [line for line in dataset.opening if "note" in line] == [
        "  note: 'id' looks like an identifier or a row number"
    ]


def test_the_opening_fits_on_a_screen(load):
    columns = {f"a_rather_long_name_of_a_column_{n}": [f"{k * n}" for k in range(60)] for n in range(200)}
    dataset, _ = load({**columns, "label": _labels(60)})
    assert dataset.opening[0].endswith("60 rows; classification of 'label' (2 classes: no, yes)")
    assert len(dataset.opening) <= 12
    assert max(map(len, dataset.opening)) < 400


# ---- Numbers in other forms.


def test_written_numbers_are_numeric_columns(load, tmp_path):
    columns = {
        "price": [f"${1000 * n:,}" for n in range(60)],
        "share": [f"{n}%" for n in range(60)],
        "weight": [f"{n}kg" if n else "" for n in range(60)],
        "label": _labels(60),
    }
    loaded = load(columns)
    read = [(column.name, column.kind, column.unit) for column in loaded[0].features.columns]
    assert read == [("price", "numeric", "$"), ("share", "numeric", "%"), ("weight", "numeric", "kg")]
    np.testing.assert_array_equal(_values(loaded[0], 0), 1000.0 * np.arange(60))
    np.testing.assert_array_equal(_values(loaded[0], 2), [_NAN, *range(1, 60)])
    # One group of thousands alone would not be certain, but the training rows were.
    chunk = _predict(loaded, tmp_path / "b.csv", {"price": ["$1,234"], "share": ["7 %"], "weight": ["3"]})
    np.testing.assert_array_equal(chunk.inputs, [[1234, 7, 3]])
    texts = {"price": ["1,234"], "share": ["7%"], "weight": ["3 kg"]}
    np.testing.assert_array_equal(_predict(loaded, tmp_path / "b.parquet", texts).inputs, [[1234, 7, 3]])
    with pytest.raises(UserError, match=r"column 'share' holds '0.07', but training rows hold numbers with '%'"):
        _predict(loaded, tmp_path / "b.csv", {"price": ["$1"], "share": ["0.07"], "weight": ["3"]})


def test_decimal_commas_are_read_where_the_config_says_so(load, tmp_path):
    columns = {"x": [f"{n},5" for n in range(60)], "c": [f"{n % 3},50" for n in range(60)], "label": _labels(60)}
    loaded = load(columns, decimal=",", categorical=("c",))
    np.testing.assert_array_equal(_values(loaded[0]), np.arange(60) + 0.5)
    assert loaded[0].features.columns[1].categories == ("0.5", "1.5", "2.5")
    expected = [[1234.5, 3]]
    np.testing.assert_array_equal(
        _predict(loaded, tmp_path / "b.csv", {"x": ["1.234,5"], "c": ["1,5"]}).inputs, expected
    )
    np.testing.assert_array_equal(
        _predict(loaded, tmp_path / "b.parquet", {"x": [1234.5], "c": [1.5]}).inputs, expected
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([f"{n},5" for n in range(60)], r"'x' holds numbers with a comma, such as '0,5', .*; set data.decimal=','"),
        ([f"{n % 9 + 1},23{n % 10}" for n in range(60)], r"numbers with a comma, .* or '.' if it separates thousands"),
        ([n if n % 7 else "unknown" for n in range(60)], r"numbers and texts such as 'unknown' \(1\d.\d% of"),
        ([n if n % 7 else "not known" for n in range(49)], r"--config.data.missing_values=\"\(''.*,'not known'\)"),
        ([n % 5 if n % 7 else "-" for n in range(60)], r"numbers and texts such as '-'"),
        ([n if n % 3 else f"code {n}" for n in range(90)], r"numbers and texts such as 'code \d+', 'code \d+'"),
        ([f"{n}kg" if n % 2 else f"{n}g" for n in range(60)], r"numbers in several units, such as '0g', '1kg'"),
        ([f"{n % 28 + 1} May 2024" for n in range(60)], r"dates or times \('1 May 2024'\)"),
        ([f"May {2000 + n % 9}" for n in range(60)], r"dates or times \('May 2000'\)"),
        ([f"2024-{n % 12 + 1:02}" for n in range(60)], r"dates or times \('2024-01'\)"),
        ([f"{n % 12 + 1}/2024" for n in range(60)], r"dates or times \('1/2024'\)"),
        ([f"2024Q{n % 4 + 1}" for n in range(60)], r"dates or times \('2024Q1'\)"),
        ([f"Mon, {n % 28 + 1} January 2024 10:0{n % 10}" for n in range(60)], r"dates or times"),
        ([f"2024-05-{n % 28 + 1:02}T10:00:00Z" for n in range(60)], r"dates or times"),
        ([f"{n % 28 + 1}.{n % 12 + 1}." for n in range(60)], r"dates or times \('1.1.'\)"),
        ([f"{n % 28 + 1}. Mai 2024" for n in range(60)], r"dates or times \('1. Mai 2024'\)"),
        ([f"{n % 28 + 1:02} MÄRZ" for n in range(60)], r"dates or times \('01 MÄRZ'\)"),
        ([f"{n % 28 + 1} de mayo de 2024" for n in range(60)], r"dates or times"),
        ([f"août {2000 + n % 9}" for n in range(60)], r"dates or times"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused_with_the_flag(load, values, message):
    with pytest.raises(UserError) as caught:
        load({"x": values, "label": _labels(len(values))})
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert load({"x": values, "y": range(len(values)), "label": _labels(len(values))}, ignore=("x",))


@pytest.mark.parametrize(
    "values",
    [
        ["May", "June", "July"],
        ["Monday", "Friday"],
        ["1", "2", "3", "HS"],
        ["1st", "2nd", "3rd"],
        ["A1", "B2", "10th"],
        ["m", "k"],
        ["1.2.3", "1.10.0"],
        ["Set 1", "Mai", "Mars"],
        ["1.13.", "32.1."],
    ],
)
def test_names_stay_categories(load, values):
    columns = {"x": [values[n % len(values)] for n in range(60)], "label": _labels(60)}
    column = load(columns)[0].features.columns[0]
    assert (column.kind, set(column.categories)) == ("categorical", set(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([f"{n},5" for n in range(60)], r"numbers with a comma, such as '0,5', .*; set data.decimal=','"),
        ([f"{n}.5" if n % 7 else "unknown" for n in range(60)], r"numbers and texts such as 'unknown'"),
    ],
)
def test_unclear_numbers_are_no_classes(load, values, message):
    with pytest.raises(UserError, match=rf"^data.target: .*a.csv column 'label' holds {message}"):
        load({"x": range(60), "label": values})
    # A few are classes, and so are all that the config says are.
    assert load({"x": range(60), "label": values[:5] * 12})[0].features.task == "classification"
    assert load({"x": range(60), "label": values[:30] * 2}, task="classification")


def test_all_columns_that_cannot_be_read_are_named_at_once(load):
    columns = {
        "when": ["2024-05-01"] * 120,
        "size, m": [f"{n},5" for n in range(120)],
        "x": range(120),
        "who": [f"person {n}" for n in range(120)],
        "label": _labels(120),
    }
    with pytest.raises(UserError) as caught:
        load(columns)
    line = str(caught.value)
    assert "a.csv has 3 columns that cannot be read: 'when' holds dates" in line
    assert line.endswith("or leave all out with --config.data.ignore=\"('when','size, m','who')\"")
    with pytest.raises(UserError, match=r"""--config.data.ignore="\('x','when','size, m','who'\)"$"""):
        load(columns, ignore=("x",))


@pytest.mark.parametrize(
    ("decimal", "values"),
    [
        (",", [f"{n}.5" for n in range(60)]),
        (",", [f"0.{n + 100}" for n in range(60)]),
        (",", [f"{n % 28 + 1}.10" for n in range(60)]),
        (",", [f"{n % 3}.5 €" if n % 4 else "unknown" for n in range(60)]),
        (",", [f"{n},5" if n % 2 else f"{n}.5" for n in range(60)]),
        (".", [f"{n},5" for n in range(60)]),
        (".", [f"0,{n + 100}" for n in range(60)]),
    ],
)
def test_decimals_after_the_other_sign_are_no_categories(load, decimal, values):
    other = "." if decimal == "," else ","
    columns = {"x": values, "y": [f"{n}{decimal}5" for n in range(60)], "label": _labels(60)}
    with pytest.raises(UserError) as caught:
        load(columns, decimal=decimal)
    assert re.search(
        rf"column 'x' holds numbers with '{other}' before the decimals.*, such as '.*', but data.decimal is "
        rf"'{decimal}'; set data.decimal='{other}' if all .*data.categorical$",
        str(caught.value),
    ), caught.value
    assert load(columns, decimal=decimal, categorical=("x",))[0].features.columns[1].kind == "categorical"


@pytest.mark.parametrize("decimal", ["auto", ".", ","])
def test_the_decimal_sign_that_a_run_reads_is_named_at_prediction(load, tmp_path, decimal):
    sign, other = (",", ".") if decimal == "," else (".", ",")
    loaded = load({"x": [f"{n}{sign}5" for n in range(60)], "label": _labels(60)}, decimal=decimal)
    with pytest.raises(UserError, match=rf"'5\{other}5', but training rows hold numbers with '\{sign}' before the"):
        _predict(loaded, tmp_path / "b.csv", {"x": [f"5{other}5"]})


def test_separators_of_thousands_are_mentioned_where_only_the_config_tells(load):
    columns = {"x": [f"{n + 1}.{n + 100}" for n in range(60)], "y": ["1.234,5", "2"] * 30, "label": _labels(60)}
    notes = [line for line in load(columns, decimal=",")[0].opening if "between thousands" in line]
    assert notes == ["  note: 'x' has '.' between thousands, as in '1.100', '2.101', '3.102'"]


def test_constant_columns_and_some_dates_are_mentioned(load):
    columns = {
        "x": range(60),
        "one": [7] * 60,
        "same": ["a"] * 60,
        "gaps": ["b", ""] * 30,
        "when": [f"{n % 5 + 1}.5." if n % 5 else "later" for n in range(60)],
        "label": _labels(60),
    }
    opening = "\n".join(load(columns)[0].opening)
    assert "one value in all training rows: 'one', 'same'\n" in opening + "\n"
    assert "'when' has dates or times, such as '2.5.', which are read as categories" in opening


# ---- Rows without a label.


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("kind", ["class", "number"])
def test_rows_without_a_label_are_an_error_or_left_out(load, name, kind):
    gap = None if name.endswith("parquet") else ""
    value = (lambda n: ("no", "yes")[n % 2]) if kind == "class" else (lambda n: n / 3)
    columns = {"x": list(range(60)), "label": [gap if n % 10 == 3 else value(n) for n in range(60)]}
    with pytest.raises(UserError, match=r"'label' is missing, as in 6 rows; .*data.unlabelled='drop'"):
        load(columns, name=name)
    dataset, _ = load(columns, name=name, unlabelled="drop")
    rows = np.sort(np.concatenate([split.rows for split in dataset.splits.values()]))
    np.testing.assert_array_equal(rows, [n for n in range(60) if n % 10 != 3])
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.read(np.arange(len(split)))[:, 0], split.rows)
        expected = split.rows % 2 if kind == "class" else np.float32(split.rows / 3)
        np.testing.assert_array_equal(split.labels, expected)
    assert any("6 rows of" in line and "without a label left out" in line for line in dataset.opening)


def test_the_offset_is_that_of_the_sampled_values():
    assert table_columns.choose_offset(np.array([_NAN])) == 0
    values = 1.7e9 + np.arange(1_000_000.0)
    offset = table_columns.choose_offset(values)
    assert len(np.unique((values - offset).astype(np.float32))) == len(values)
