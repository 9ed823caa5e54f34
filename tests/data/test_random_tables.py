"""Random tables, written in every form, are read as pandas reads them, and predicted as they were trained."""

import bz2
import gzip
import lzma

import numpy as np
import pandas
import pytest

import data
from data import prediction
from data.features import FIRST_CATEGORY, MISSING
from data.written_numbers import spell

pytestmark = pytest.mark.slow

_TABLES = 300
_WORDS = (
    "red",
    "Köln",
    "a b",
    "it's",
    "x,y",
    "p;q",
    'say "hi"',
    "0 km/h fast",
    "nan",
    "日本",
    "true north",
    "-",
    "1e",
    "A1",
)
_DELIMITERS = (",", ";", "\t", "|")
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


def _column(random, kind, count):
    """Returns values, with None for missing ones."""
    match kind:
        case "float":
            values = (random.normal(random.choice([0, 1e3, -1e6]), 10.0 ** random.integers(-3, 4), count)).tolist()
        case "rounded":
            values = np.round(random.normal(0, 100, count), int(random.integers(0, 4))).tolist()
        case "integer":
            values = random.integers(-1000, 1000, count).tolist()
        case "time":
            values = (1_600_000_000 + random.integers(0, 10**6, count)).tolist()
        case "date":
            values = (20_200_000 + 100 * random.integers(1, 13, count) + random.integers(1, 29, count)).tolist()
        case "boolean":
            values = [bool(value) for value in random.integers(0, 2, count)]
        case "word":
            chosen = random.choice(_WORDS, int(random.integers(2, 6)), replace=False)
            # At least one is no number and no gap, so that the column is one of words.
            values = [*map(str, random.choice([*chosen, "blue"], count - 1)), "blue"]
    if random.random() < 0.5:
        gaps = random.random(count) < 0.2
        gaps[-1] = False
        values = [None if gap else value for value, gap in zip(values, gaps, strict=True)]
    return values


def _make(random):
    """Returns the kind of each column, and all columns with a label and sometimes a group."""
    count = int(random.integers(40, 90))
    kinds = {
        f"column {n}": str(random.choice(["float", "rounded", "integer", "time", "date", "boolean", "word"]))
        for n in range(int(random.integers(1, 6)))
    }
    columns = {name: _column(random, kind, count) for name, kind in kinds.items()}
    labels = random.choice(["class", "number", "float", "large"])
    columns["label"] = {
        "class": lambda: [str(word) for word in random.choice(["no", "yes", "nan", "é"], count)],
        "number": lambda: random.integers(0, 5, count).tolist(),
        "float": lambda: random.normal(0, 1, count).tolist(),
        "large": lambda: (2**53 + random.integers(0, 4, count)).tolist(),
    }[labels]()
    if random.random() < 0.3:
        columns["who"] = random.integers(0, 9, count).tolist()
    return kinds, columns


def _cell(value, random, decimal):
    if value is None:
        return str(random.choice(["", "?", "NA"]))
    if isinstance(value, bool):
        return str(random.choice([str(value), str(value).lower()]))
    if isinstance(value, float):
        return repr(value).replace(".", decimal)
    if isinstance(value, int) and random.random() < 0.2:
        return f"{value}{decimal}0"
    return str(value)


def _write_csv(path, columns, random):
    """Writes a CSV file in a random form; returns the fields of the config that must say how."""
    delimiter, encoding = str(random.choice(_DELIMITERS)), str(random.choice(_ENCODINGS))
    decimal = "," if delimiter == ";" and random.random() < 0.5 else "."
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    lines = []
    for row in rows:
        cells = [_cell(value, random, decimal) for value in row]
        quoted = [
            '"' + cell.replace('"', '""') + '"' if set(cell) & {delimiter, '"', "\n"} or random.random() < 0.1 else cell
            for cell in cells
        ]
        lines.append(delimiter.join(quoted))
    content = (("\r\n" if random.random() < 0.3 else "\n").join(lines) + "\n").encode(encoding)
    compress = {".csv": bytes, ".csv.gz": gzip.compress, ".csv.bz2": bz2.compress, ".tsv.XZ": lzma.compress}
    ending = str(random.choice(list(compress)))
    path = path.with_name(path.name + ending)
    path.write_bytes(compress[ending](content))
    return path, {"decimal": decimal} if decimal == "," else {}


def _frame(columns):
    """Returns the columns as a person would have them in pandas."""
    frame = {}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int} and None in values:
            frame[name] = pandas.array(values, dtype="Int64")
        elif kinds == {float}:
            frame[name] = np.array([np.nan if value is None else value for value in values])
        else:
            frame[name] = values
    return pandas.DataFrame(frame)


def _expected(column, values):
    """Returns what a column must be as an input."""
    if column.kind == "categorical":
        codes = {name: FIRST_CATEGORY + index for index, name in enumerate(column.categories)}
        return [MISSING if value is None else codes.get(str(value), 0) for value in values]
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    return (numbers - column.offset).astype(np.float32)


@pytest.mark.parametrize("part", range(3))
def test_random_tables_are_read_as_they_were_written(tmp_path, make_config, part):
    random = np.random.default_rng(part)
    for case in range(_TABLES // 3):
        kinds, columns = _make(random)
        csv, fields = _write_csv(tmp_path / f"table {case}, {part}", columns, random)
        parquet = tmp_path / f"{case}.parquet"
        frame = _frame(columns)
        frame.to_parquet(parquet)
        common = {"target": "label", "group": "who" if "who" in columns else "", "validation": "20 percent"}
        configs = [
            make_config(source=f"csv:{csv}", **common, **fields),
            make_config(source=f"parquet:{parquet}", **common, **fields),
        ]
        loaded = [data.load(config, seed=case) for config in configs]
        _check_values(loaded[0], kinds, columns)
        assert loaded[0].features == loaded[1].features, columns
        assert loaded[0].assignment == loaded[1].assignment
        inputs = [
            chunk.inputs
            for dataset, config in zip(loaded, configs, strict=True)
            for path in (csv, parquet)
            for chunk in [*prediction.read_inputs(dataset.features, config, [path])]
        ]
        inputs += [prediction.read_frame(loaded[0].features, configs[0], frame).inputs]
        for name, split in loaded[0].splits.items():
            own = split.read(np.arange(len(split)))
            np.testing.assert_array_equal(own, loaded[1].splits[name].read(np.arange(len(split))))
            for found in inputs:
                np.testing.assert_array_equal(found[split.rows], own)
        for path in (csv, parquet):
            path.unlink()


def _check_values(dataset, kinds, columns):
    features = dataset.features
    assert {column.name for column in features.columns} == set(kinds)
    for index, column in enumerate(features.columns):
        kind = {"boolean": "boolean", "word": "categorical"}.get(kinds[column.name], "numeric")
        assert column.kind == kind, columns[column.name]
        expected = np.array(_expected(column, columns[column.name]))
        train = dataset.splits["train"].rows
        assert column.has_missing == any(columns[column.name][row] is None for row in train)
        if kind == "categorical":
            seen = {columns[column.name][row] for row in train} - {None}
            assert column.categories == tuple(sorted(seen))
        for split in dataset.splits.values():
            np.testing.assert_array_equal(split.read(np.arange(len(split)))[:, index], expected[split.rows])
    labels = columns["label"]
    for split in dataset.splits.values():
        if features.task == "regression":
            np.testing.assert_array_equal(split.labels, np.array(labels, np.float32)[split.rows])
        else:
            named = [features.class_names[label] for label in split.labels]
            assert named == [spell(labels[row]) for row in split.rows]
        if "who" in columns:
            assert [features.group_names[group] for group in split.groups] == [
                str(columns["who"][row]) for row in split.rows
            ]
    rows = np.sort(np.concatenate([split.rows for split in dataset.splits.values()]))
    np.testing.assert_array_equal(rows, np.arange(len(labels)))
