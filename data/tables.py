"""Tables: reading CSV and Parquet, inferring column types from the training rows, encoding as numbers."""

import csv
import dataclasses
import gzip
import hashlib
import pathlib
from collections.abc import Callable, Collection, Iterable

import numpy as np

from data.features import FIRST_CATEGORY, MISSING, UNSEEN, Column
from plumbline import UserError, unknown_name

PARQUET_EXTENSIONS = (".parquet", ".pq")
# Share of values from which on a text column is taken for a mistyped column of numbers or of identifiers.
_MOSTLY = 0.9
# In a table with fewer rows, a column of distinct texts may well be categorical.
_ENOUGH_ROWS = 50
# Texts of a boolean column, in lower case.
_BOOLEANS = {"false": 0.0, "true": 1.0}
# Dates as 2024-05-01, 1/5/2024 or 1.5.24, times as 14:30, or both.
_DATE_OR_TIME = (
    r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})|\d{1,2}:\d{2})"
    r"([ T]?\d{1,2}:\d{2}.*|:\d{2}.*)?$"
)
# Inputs are float32; larger values would become infinite.
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table: texts are stripped, missing values are null.

    Attributes:
      name: name of the file or data set, for messages.
      columns: pyarrow arrays by column name, in file order.
      num_rows: number of rows without the header.
      typed: whether the file has types (Parquet) or all values are texts (CSV).
      line: maps a row, counted from 0, to its line in the file, or to its number from 1 if there are no lines.
      fingerprint: fingerprint of the content.
      field: config field or argument that names the table, for messages; "inputs" of a trained run.
    """

    name: str
    columns: dict[str, object]
    num_rows: int
    typed: bool
    line: Callable[[int], int]
    fingerprint: str
    field: str

    def place(self, row: int, column: str) -> str:
        """Returns the location of a value, for messages."""
        return f"{self.name} row {self.line(row)}, column '{column}'"


def read(path: str, missing_values: Collection[str], field: str) -> Table:
    """Reads a CSV file with a header (may end in .gz), or a Parquet file (.parquet or .pq).

    Args:
      path: path of the file.
      missing_values: texts that mark a missing value.
      field: config field or argument that names the file, for messages.

    Raises:
      UserError: there is no such file, it is empty, or it is not of the type of its name.
    """
    import pyarrow

    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{field}: no such file '{path}'; give the path of a CSV or Parquet file")
    if file.stat().st_size == 0:
        raise UserError(f"{field}: '{path}' is empty; give a file with a header and rows")
    parquet = file.suffix in PARQUET_EXTENSIONS
    try:
        table = _read_parquet(file) if parquet else _read_csv(file, field)
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:200]
        if "UTF8" in reason or isinstance(error, UnicodeError):
            raise UserError(f"{field}: '{path}' is not encoded as UTF-8 ({reason}); save it as UTF-8") from None
        form = "Parquet" if parquet else "CSV"
        raise UserError(f"{field}: '{path}' cannot be read as {form} ({reason}); fix or replace it") from None
    if table.num_rows == 0:
        raise UserError(f"{field}: '{path}' has a header but no rows; give a file with rows")
    return from_arrow(
        table,
        name=path,
        missing_values=missing_values,
        typed=parquet,
        line=(lambda row: row + 1) if parquet else _CsvLines(file),
        fingerprint=_sha256(file),
        field=field,
    )


def from_arrow(
    table,
    *,
    name: str,
    missing_values: Collection[str],
    typed: bool,
    line: Callable[[int], int],
    fingerprint: str,
    field: str = "data.source",
) -> Table:
    """Converts a pyarrow table to a `Table`: strips texts and sets missing values to null."""
    import pyarrow
    import pyarrow.compute

    columns = {}
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        stripped = column_name.strip()
        if stripped in columns:
            raise UserError(f"{field}: '{name}' has two columns '{stripped}'; rename one")
        column = column.combine_chunks()
        if isinstance(column, pyarrow.ChunkedArray):
            column = pyarrow.concat_arrays(column.chunks) if column.num_chunks else pyarrow.array([], column.type)
        if pyarrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if _is_text(column.type):
            column = pyarrow.compute.utf8_trim_whitespace(column.cast(pyarrow.large_string()))
            missing = pyarrow.array(sorted(missing_values), pyarrow.large_string())
            is_missing = pyarrow.compute.is_in(column, value_set=missing)
            column = pyarrow.compute.if_else(is_missing, pyarrow.scalar(None, pyarrow.large_string()), column)
        columns[stripped] = column
    return Table(
        name=name,
        columns=columns,
        num_rows=table.num_rows,
        typed=typed,
        line=line,
        fingerprint=fingerprint,
        field=field,
    )


def column(table: Table, name: str, field: str):
    """Returns a column as a pyarrow array.

    Raises:
      UserError: there is no such column; the message suggests the nearest name.
    """
    if name not in table.columns:
        error = unknown_name(field, name, table.columns)
        raise UserError(f"{error} (columns of {table.name})")
    return table.columns[name]


def infer_columns(
    table: Table, rows: np.ndarray, *, leave_out: Collection[str], categorical: Collection[str]
) -> tuple[Column, ...]:
    """Infers the input columns from the training rows. Numeric and boolean ones come first, then categorical ones.

    Args:
      table: table with all rows.
      rows: (n,) training rows.
      leave_out: columns that are not inputs.
      categorical: numeric columns to treat as categorical.

    Raises:
      UserError: a column has dates, times, nested values or no values in the training rows, or no column is left.
    """
    import pyarrow

    taken = pyarrow.array(rows)
    columns = [
        _infer_column(table, name, array.take(taken), name in categorical)
        for name, array in table.columns.items()
        if name not in leave_out
    ]
    if not columns:
        raise UserError(f"data.source: {table.name} has no input columns left; remove some from data.ignore")
    return tuple(sorted(columns, key=lambda found: found.kind == "categorical"))


def encode(table: Table, columns: Iterable[Column]) -> np.ndarray:
    """Encodes the input columns as (n, F) float32, with NaN for missing numbers and codes for categories.

    Raises:
      UserError: a column is missing or has another type than in training, or a number is NaN or infinite.
    """
    encoded = []
    for expected in columns:
        if expected.name not in table.columns:
            known = ", ".join(table.columns)
            hint = "; is the separator ';'?" if len(table.columns) == 1 and ";" in known else ""
            raise UserError(f"{table.name}: lacks the input column '{expected.name}'; it has {known}{hint}")
        array = table.columns[expected.name]
        if expected.kind == "categorical":
            encoded.append(_codes(table, expected, array))
        else:
            encoded.append(numbers(table, expected.name, array, boolean=expected.kind == "boolean"))
    return np.stack(encoded, axis=1).astype(np.float32)


def numbers(table: Table, name: str, array, *, boolean: bool = False) -> np.ndarray:
    """Converts a numeric or boolean column to (n,) float64, with NaN for missing values.

    Raises:
      UserError: a value is not a number (or boolean), or is NaN or infinite.
    """
    import pyarrow
    import pyarrow.compute

    missing = array.is_null().to_numpy(zero_copy_only=False)
    if missing.all():
        return np.full(len(array), np.nan)
    if boolean:
        text = pyarrow.compute.utf8_lower(array.cast(pyarrow.large_string()))
        values = np.array([_BOOLEANS.get(value, np.nan) for value in text.to_pylist()])
        if (strange := ~missing & np.isnan(values)).any():
            raise _other_type(table, name, array, int(np.argmax(strange)), "true or false")
    else:
        values = _cast(table, name, array, missing)
    bad = ~missing & ~(np.abs(values) <= _LARGEST)
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(
            f"{table.place(row, name)} holds '{array[row]}'; give a finite number, or leave the cell empty if it is "
            "missing (data.missing_values lists texts that mean missing)"
        )
    return np.where(missing, np.nan, values)


def texts(array) -> list[str | None]:
    """Converts a column to texts, with None for missing values. Integers have no decimal point."""
    return [None if value is None else _text(value) for value in array.to_pylist()]


def labels(table: Table, name: str, *, numeric: bool) -> list[str | None]:
    """Converts a target column to class names, with None for missing values.

    Args:
      table: table with the column.
      name: name of the column.
      numeric: whether to normalise numbers ("1" for 1, 1.0 and 01).
    """
    array = table.columns[name]
    if not numeric:
        return texts(array)
    values = numbers(table, name, array)
    return [None if np.isnan(value) else _text(float(value)) for value in values]


def sorted_values(values: Iterable[str]) -> tuple[str, ...]:
    """Returns the distinct values, sorted as numbers if all are numbers (NaN last), else alphabetically."""
    distinct = set(values)
    try:
        return tuple(sorted(distinct, key=_number_key))
    except ValueError:
        return tuple(sorted(distinct))


def _number_key(text: str) -> tuple[bool, int | float, str]:
    """Returns a key for a total order of numbers, which NaN alone would not have. Integers are compared exactly."""
    try:
        return False, int(text), text
    except ValueError:
        value = float(text)
    return value != value, 0.0 if value != value else value, text


def require_values(table: Table, name: str, array) -> None:
    """Checks that a column has no missing values.

    Raises:
      UserError: a value is missing.
    """
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        others = f", as in {array.null_count} rows" if array.null_count > 1 else ""
        raise UserError(f"{table.place(row, name)} is missing{others}; fill it in or remove the row")


def is_text(array) -> bool:
    """Returns whether the values are texts; numbers in a file without types are texts as well."""
    return _is_text(array.type)


def is_numeric(table: Table, array) -> bool:
    """Returns whether all values that are not missing are numbers."""
    import pyarrow
    import pyarrow.compute

    kind = array.type
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_decimal(kind):
        return True
    if table.typed or not _is_text(kind):
        return False
    try:
        pyarrow.compute.cast(array, pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return False
    return True


def _infer_column(table: Table, name: str, array, categorical: bool) -> Column:
    import pyarrow
    import pyarrow.compute

    has_missing = array.null_count > 0
    if array.null_count == len(array):
        raise UserError(f"data.source: {table.name} column '{name}' has no training values; add it to data.ignore")
    kind = array.type
    if categorical:
        return Column(
            name=name,
            kind="categorical",
            categories=sorted_values(value for value in texts(array) if value is not None),
            has_missing=has_missing,
        )
    if is_numeric(table, array):
        return Column(name=name, kind="numeric", has_missing=has_missing)
    if _is_boolean(array):
        return Column(name=name, kind="boolean", has_missing=has_missing)
    first = array.drop_null()[0]
    if pyarrow.types.is_temporal(kind) or (_is_text(kind) and _all_dates(array)):
        raise UserError(
            f"data.source: {table.name} column '{name}' holds dates or times ('{first}'), which are not supported; "
            "convert them to numbers, or add the column to data.ignore"
        )
    if not _is_text(kind):
        raise UserError(
            f"data.source: {table.name} column '{name}' is of type {kind}, which is not supported; add it to "
            "data.ignore"
        )
    _refuse_mistaken_categories(table, name, array)
    categories = sorted_values(array.drop_null().unique().to_pylist())
    return Column(name=name, kind="categorical", categories=categories, has_missing=has_missing)


def _refuse_mistaken_categories(table: Table, name: str, array) -> None:
    """Raises for texts that are not categories: numbers with a typing error among them, or identifiers."""
    import pyarrow.compute

    present = array.drop_null()
    are_numbers = pyarrow.compute.match_substring_regex(present, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    share = pyarrow.compute.mean(are_numbers).as_py()
    if not table.typed and _MOSTLY <= share < 1:
        first = present.filter(pyarrow.compute.invert(are_numbers))[0]
        raise UserError(
            f"data.source: {table.name} column '{name}' holds numbers and texts such as '{first}'; correct them, add "
            "them to data.missing_values, or add the column to data.categorical"
        )
    if len(present) >= _ENOUGH_ROWS and len(present.unique()) >= _MOSTLY * len(present):
        raise UserError(
            f"data.source: {table.name} column '{name}' has a different text in almost every row, as identifiers do; "
            "add it to data.ignore, or to data.categorical"
        )


def _codes(table: Table, expected: Column, array) -> np.ndarray:
    import pyarrow
    import pyarrow.compute

    if not _is_text(array.type):
        if pyarrow.types.is_nested(array.type) or pyarrow.types.is_temporal(array.type):
            raise UserError(
                f"{table.name} column '{expected.name}' is of type {array.type}, but training rows hold categories"
            )
        array = pyarrow.array(texts(array), pyarrow.large_string())
    value_set = pyarrow.array(expected.categories, pyarrow.large_string())
    found = pyarrow.compute.index_in(array, value_set=value_set, skip_nulls=True)
    codes = pyarrow.compute.fill_null(found, UNSEEN - FIRST_CATEGORY).to_numpy(zero_copy_only=False) + FIRST_CATEGORY
    return np.where(array.is_null().to_numpy(zero_copy_only=False), MISSING, codes)


def _cast(table: Table, name: str, array, missing: np.ndarray) -> np.ndarray:
    import pyarrow
    import pyarrow.compute

    # In a file with types, such as Parquet, booleans and texts are not numbers.
    if is_numeric(table, array):
        return pyarrow.compute.cast(array, pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    present = np.flatnonzero(~missing)
    row = next(row for row in present.tolist() if not is_numeric(table, array.slice(row, 1)))
    raise _other_type(table, name, array, row, "numbers")


def _other_type(table: Table, name: str, array, row: int, expected: str) -> UserError:
    where = f"{table.place(row, name)} holds '{array[row]}', but training rows hold {expected}"
    if table.field == "inputs":
        return UserError(
            f"{where}; correct it, or leave the cell empty if it is missing (a new run reads it so with "
            "data.missing_values)"
        )
    return UserError(
        f"{where}; correct it, add it to data.missing_values, or add the column to data.categorical or data.ignore"
    )


def _is_boolean(array) -> bool:
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_boolean(array.type):
        return True
    if not _is_text(array.type):
        return False
    distinct = array.drop_null().unique()
    return len(distinct) > 0 and all(value.lower() in _BOOLEANS for value in distinct.to_pylist())


def _all_dates(array) -> bool:
    import pyarrow.compute

    matches = pyarrow.compute.match_substring_regex(array.drop_null(), _DATE_OR_TIME)
    return pyarrow.compute.all(matches).as_py()


def _is_text(kind) -> bool:
    import pyarrow

    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _read_parquet(file: pathlib.Path):
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(file).read()


def _read_csv(file: pathlib.Path, field: str):
    """Reads all columns as texts, so that only the training rows determine the types."""
    import pyarrow
    import pyarrow.csv

    parse_options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with _text_file(file) as stream:
        header = next(csv.reader(stream), [])
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise UserError(f"{field}: '{file}' has two columns '{twice}'; rename one")
    convert_options = pyarrow.csv.ConvertOptions(
        column_types={name: pyarrow.large_string() for name in header}, strings_can_be_null=False
    )
    try:
        return pyarrow.csv.read_csv(file, parse_options=parse_options, convert_options=convert_options)
    except pyarrow.ArrowInvalid:
        with _text_file(file) as stream:
            reader = csv.reader(stream)
            for fields in reader:
                if fields and len(fields) != len(header):
                    raise UserError(
                        f"{field}: '{file}' line {reader.line_num} has {len(fields)} fields, its header {len(header)}; "
                        "correct the line (a value with a comma needs quotes)"
                    ) from None
        raise


class _CsvLines:
    """Maps rows to lines of a CSV file. The file is read when this is first called."""

    def __init__(self, file: pathlib.Path):
        self._file = file
        self._lines = None

    def __call__(self, row: int) -> int:
        if self._lines is None:
            with _text_file(self._file) as stream:
                reader = csv.reader(stream)
                # pyarrow skips empty lines as well. A row with line breaks has the number of its last line.
                self._lines = [reader.line_num for fields in reader if fields][1:]
        return self._lines[row]


def _text_file(file: pathlib.Path):
    opened = gzip.open if file.suffix == ".gz" else open
    return opened(file, "rt", encoding="utf-8-sig", newline="")


def _sha256(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
