"""Tables in memory: columns as pyarrow arrays, and their values as numbers or texts."""

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from data import written_numbers
from data.written_numbers import Written, spell
from plumbline import UserError, pluralize, unknown_name

# Texts of a boolean column, in lower case.
_BOOLEANS = {"false": 0.0, "true": 1.0}
# Inputs are float32; larger values would become infinite.
_LARGEST = float(np.finfo(np.float32).max)
# How pandas names a column without a name.
_UNNAMED = re.compile(r"(Unnamed: \d+(_level_\d+)?)?")


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
      decimal: sign before the decimals of numbers in texts: ".", "," or "auto".
      numbered: whether the columns have no names but c0, c1, ..., by their position.
    """

    name: str
    columns: dict[str, object]
    num_rows: int
    typed: bool
    line: Callable[[int], int]
    fingerprint: str
    field: str
    decimal: str = "auto"
    numbered: bool = False

    @property
    def named(self) -> tuple[str, ...]:
        """Names of the columns that have one."""
        return tuple(name for name in self.columns if not is_unnamed(name))

    def place(self, row: int, column: str) -> str:
        """Returns the location of a value, for messages."""
        return f"{self.name} row {self.line(row)}, column '{column}'"


def from_arrow(
    table,
    *,
    name: str,
    missing_values: Collection[str],
    typed: bool,
    line: Callable[[int], int],
    fingerprint: str,
    field: str = "data.source",
    decimal: str = "auto",
    text: str = "",
    numbered: bool = False,
) -> Table:
    """Converts a pyarrow table to a `Table`: strips texts, and sets missing values and NaN to null.

    Texts and names of columns get Unicode's composed form (NFC), so that they compare as they look; texts in the column
    `text`, which a tokenizer reads, stay as they are.
    """
    columns = {}
    names = number_unnamed([clean_name(column_name) for column_name in table.column_names])
    for column_name, column in zip(names, table.columns, strict=True):
        if column_name in columns:
            raise UserError(f"{field}: '{name}' has two columns '{column_name}'; rename one")
        columns[column_name] = _clean(column, missing_values, compose=column_name != clean_name(text))
    return Table(
        name=name,
        columns=columns,
        num_rows=table.num_rows,
        typed=typed,
        line=line,
        fingerprint=fingerprint,
        field=field,
        decimal=decimal,
        numbered=numbered,
    )


def check_width(table: Table, width: int, target: str, *, needs_target: bool = False) -> None:
    """Checks that columns without names have the positions of the training, of which only the last may be left out.

    Args:
      table: the table; nothing is checked if its columns have names.
      width: number of columns of the training file; 0 if it is not known or its columns have names.
      target: name of the target column, which may be left out if it is the last one.
      needs_target: whether the target must be there.

    Raises:
      UserError: the table has another number of columns.
    """
    found = len(table.columns)
    if not width or not table.numbered or found == width:
        return
    is_last = target == f"c{width - 1}"
    if found == width - 1 and is_last and not needs_target:
        return
    if found == width - 1 and not needs_target:
        remedy = f"keep the target column '{target}', whose cells may be empty, as only a last column can be left out"
    else:
        also = " (all but the last one, the target, will do)" if is_last and not needs_target else ""
        remedy = f"give the {width} columns of the training in their order{also}"
    raise UserError(
        f"{table.field}: '{table.name}' has {pluralize(found, 'column')}, the training file {width}, and without a "
        f"header (data.header=False) columns are matched by position; {remedy}"
    )


def clean_name(name: str) -> str:
    """Returns the name of a column without surrounding white space, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name.strip())


def number_unnamed(names: Sequence[str]) -> list[str]:
    """Names all but the first of the columns without a name as pandas does, so that names are distinct."""
    first = names.index("") if "" in names else None
    return [name or ("" if index == first else f"Unnamed: {index}") for index, name in enumerate(names)]


def is_unnamed(name: str) -> bool:
    """Returns whether a column has no name, or the one that pandas gives it."""
    return _UNNAMED.fullmatch(name) is not None


def column(table: Table, name: str, field: str):
    """Returns a column as a pyarrow array.

    Raises:
      UserError: there is no such column; the message suggests the nearest name.
    """
    name = clean_name(name)
    if name not in table.columns:
        shown = table.named
        error = unknown_name(field, name, shown)
        hint = ""
        if not table.typed and sum(map(written_numbers.is_number, shown)) > 0.5 * len(shown):
            hint = "; if its first line is not a header, set data.header=False, which names columns c0, c1, ..."
        elif len(table.columns) == 1 and not table.typed:
            hint = "; if they are several, set data.delimiter"
        raise UserError(f"{error} (columns of {table.name}){hint}")
    return table.columns[name]


def numbers(
    table: Table, name: str, array, *, boolean: bool = False, unit: str | None = None, decimal: str | None = None
) -> np.ndarray:
    """Converts a numeric or boolean column to (n,) float64, with NaN for missing values.

    Args:
      table: table with the column.
      name: name of the column.
      array: the column, or some rows of it.
      boolean: whether the column holds true and false.
      unit: unit of numbers in texts; None: whichever they have.
      decimal: sign before the decimals of numbers in texts; None: that of the table.

    Raises:
      UserError: a value is not a number (or boolean), or is infinite.
    """
    if array.null_count == len(array):
        return np.full(len(array), np.nan)
    if boolean:
        return _booleans(table, name, array)
    if is_text(array):
        written = read_numbers(table, array, unit=unit, decimal=decimal)
        if written.strange.any():
            row = int(np.argmax(written.strange))
            expected = _describe_numbers(written, unit) + _describe_sign(array[row : row + 1], decimal or table.decimal)
            raise _other_type(table, name, array, row, expected)
        values = written.values
    elif _is_number_type(array.type):
        values = to_float64(array)
    else:
        present = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
        raise _other_type(table, name, array, int(present[0]), "numbers")
    bad = np.abs(values) > _LARGEST
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(
            f"{table.place(row, name)} holds '{array[row]}'; give a finite number, or leave the cell empty if it is "
            "missing (data.missing_values lists texts that mean missing)"
        )
    return values


def to_float64(array) -> np.ndarray:
    """Converts numbers of any type to (n,) float64, with NaN for missing values."""
    import pyarrow
    import pyarrow.compute

    return pyarrow.compute.cast(array, pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)


def read_numbers(table: Table, array, *, unit: str | None = None, decimal: str | None = None) -> Written:
    """Reads a column of texts as numbers; see `written_numbers.read`."""
    return written_numbers.read(array, decimal=decimal or table.decimal, unit=unit)


def texts(array) -> list[str | None]:
    """Converts a column to texts, with None for missing values. Numbers have the spelling of `spell`."""
    import pyarrow

    if is_text(array):
        return array.to_pylist()
    coded = array if pyarrow.types.is_nested(array.type) else array.dictionary_encode()
    if not isinstance(coded, pyarrow.DictionaryArray):
        return [None if value is None else str(value) for value in array.to_pylist()]
    # The shortest text of a float32 is not that of the float64 it is converted to.
    short = array.type in (pyarrow.float32(), pyarrow.float16())
    names = [
        spell(float(str(np.float32(value))) if short else value)
        if isinstance(value, float) or _is_number_type(array.type)
        else str(value)
        for value in coded.dictionary.to_pylist()
    ]
    return [None if code is None else names[code] for code in coded.indices.to_pylist()]


def spelled_texts(table: Table, array, *, decimal: str | None = None) -> list[str | None]:
    """Converts a column to texts as `texts` does, with the one spelling of numbers also where texts are numbers."""
    if not is_text(array):
        return texts(array)
    decimal = decimal or table.decimal
    coded = array.dictionary_encode()
    distinct = coded.dictionary.to_pylist()
    written = written_numbers.read(coded.dictionary, decimal=decimal, unit="")
    names = []
    for index, text in enumerate(distinct):
        # Integers are exact, which float64 is not.
        plain = text.replace(",", ".") if decimal == "," and "." not in text else text
        if written.strange[index]:
            names.append(text)
        elif written.missing[index]:
            names.append(None)
        elif written_numbers.is_number(plain) and (decimal != "," or "." not in text):
            names.append(spell(plain))
        else:
            names.append(spell(float(written.values[index])))
    return [None if code is None else names[code] for code in coded.indices.to_pylist()]


def labels(table: Table, name: str, *, numeric: bool) -> list[str | None]:
    """Converts a target column to class names, with None for missing values.

    Args:
      table: table with the column.
      name: name of the column.
      numeric: whether texts may be numbers, which get one spelling ("1" for 1, 1.0 and 01).
    """
    array = table.columns[name]
    return spelled_texts(table, array) if numeric else texts(array)


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


def require_values(table: Table, name: str, array, *, remedy: str = "") -> None:
    """Checks that a column has no missing values.

    Args:
      table: table with the column.
      name: name of the column.
      array: the column.
      remedy: what else can be done about a missing value, for the message.

    Raises:
      UserError: a value is missing.
    """
    missing = is_missing(table, array)
    if missing.any():
        row, count = int(np.argmax(missing)), int(missing.sum())
        others = f", as in {count:,} rows" if count > 1 else ""
        raise UserError(f"{table.place(row, name)} is missing{others}; fill it in or remove the row{remedy}")


def is_missing(table: Table, array) -> np.ndarray:
    """Returns (n,) bool: whether a value is missing. Among numbers in texts, "nan" means so as well."""
    missing = array.is_null().to_numpy(zero_copy_only=False)
    if is_text(array) and is_numeric(table, array):
        missing = missing | read_numbers(table, array).missing
    return missing


def is_text(array) -> bool:
    """Returns whether the values are texts; numbers in a file without types are texts as well."""
    return _is_text(array.type)


def is_numeric(table: Table, array) -> bool:
    """Returns whether all values that are not missing are numbers."""
    if _is_number_type(array.type):
        return True
    if table.typed or not is_text(array):
        return False
    return not read_numbers(table, array).strange.any()


def is_boolean(array) -> bool:
    """Returns whether all values that are not missing are true or false."""
    import pyarrow

    if pyarrow.types.is_boolean(array.type):
        return True
    if not is_text(array):
        return False
    distinct = array.drop_null().unique()
    return (
        len(distinct) > 0
        and all(value.lower() in _BOOLEANS for value in distinct[:100].to_pylist())
        and len(distinct) < 100
    )


def _clean(column, missing_values: Collection[str], *, compose: bool):
    import pyarrow
    import pyarrow.compute

    column = column.combine_chunks()
    if isinstance(column, pyarrow.ChunkedArray):
        column = pyarrow.concat_arrays(column.chunks) if column.num_chunks else pyarrow.array([], column.type)
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type) or pyarrow.types.is_string_view(column.type):
        column = pyarrow.compute.utf8_trim_whitespace(column.cast(pyarrow.large_string()))
        if compose and not pyarrow.compute.all(pyarrow.compute.string_is_ascii(column)).as_py():
            column = pyarrow.compute.utf8_normalize(column, "NFC")
        missing = pyarrow.array(sorted(missing_values), pyarrow.large_string())
        is_missing = pyarrow.compute.is_in(column, value_set=missing)
        return pyarrow.compute.if_else(is_missing, pyarrow.scalar(None, pyarrow.large_string()), column)
    if pyarrow.types.is_floating(column.type):
        nan = pyarrow.compute.is_nan(column)
        if pyarrow.compute.any(nan).as_py():
            return pyarrow.compute.if_else(nan, pyarrow.scalar(None, column.type), column)
    return column


def _booleans(table: Table, name: str, array) -> np.ndarray:
    import pyarrow

    coded = array.cast(pyarrow.large_string()).dictionary_encode()
    distinct = np.array([*(_BOOLEANS.get(text.lower(), np.nan) for text in coded.dictionary.to_pylist()), np.nan])
    values = distinct[coded.indices.fill_null(len(distinct) - 1).to_numpy(zero_copy_only=False)]
    strange = array.is_valid().to_numpy(zero_copy_only=False) & np.isnan(values)
    if strange.any():
        raise _other_type(table, name, array, int(np.argmax(strange)), "true or false")
    return values


def _describe_numbers(written: Written, unit: str | None) -> str:
    unit = written.unit if unit is None else unit
    return f"numbers with '{unit}'" if unit else "numbers"


def _describe_sign(array, decimal: str) -> str:
    """Returns how decimals are written if a text is a number with the other sign before them, else ""."""
    sign, other = (",", ".") if decimal == "," else (".", ",")
    again = written_numbers.read(array, decimal=other)
    return "" if again.strange.any() or again.missing.any() else f" with '{sign}' before the decimals"


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


def _is_text(kind) -> bool:
    import pyarrow

    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _is_number_type(kind) -> bool:
    import pyarrow

    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_decimal(kind)
