"""Input columns of a table: their types, inferred from the training rows, and their encoding as numbers."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

import ml_collections
import numpy as np

from data import tables, written_numbers
from data.features import FIRST_CATEGORY, MISSING, UNSEEN, Column
from data.tables import Table
from data.written_numbers import Written
from plumbline import UserError, pluralize

# Share of values from which on a text column is taken for a mistyped column of numbers, of dates or of identifiers.
_MOSTLY = 0.9
# Share of numbers from which on texts among them are refused if they look like gaps in a quantity.
_PARTLY = 0.5
# A column with more distinct numbers is a quantity.
_MANY_NUMBERS = 20
# In a table with fewer rows, a column of distinct texts may well be categorical.
_ENOUGH_ROWS = 50
# Texts that people write for a missing value, in lower case.
_GAPS = (
    *("-", "--", "---", ".", "..", "*", "?", "unknown", "unk", "missing", "none", "null", "nil", "na", "n/a", "n.a."),
    *("n.a", "nd", "tbd", "tba", "void", "empty", "undefined", "not available", "not applicable", "not known"),
    "no data",
)
_MONTH = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)"
)
# Months in German, and in full in Dutch, French, Italian, Portuguese and Spanish.
_FOREIGN_MONTH = (
    r"(jan(uar)?|jän(ner)?|feb(ruar|er)?|mär(z)?|mrz|mai|juni|juli|okt(ober)?|dez(ember)?"
    r"|januari|februari|maart|mei|augustus|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre"
    r"|décembre|gennaio|febbraio|marzo|aprile|maggio|giugno|luglio|agosto|settembre|ottobre|novembre|dicembre"
    r"|janeiro|fevereiro|março|abril|maio|junho|julho|setembro|outubro|novembro|dezembro"
    r"|enero|febrero|mayo|junio|julio|septiembre|octubre|noviembre|diciembre)"
)
_DAY = r"\d{1,2}(st|nd|rd|th)?\.?"
_YEAR = r"('?\d{2}|\d{4})"
# Dates as 2024-05-01, 1/5/2024, 1.5.24, 24.5., 2024-05, 05/2024, 2024Q1, 3 May 2024, May 2024, Fri, May 3, 3. Mai 2024
# and 3 de mayo, times as 14:30.
_DATE_OR_TIME = (
    r"(?i)^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})|\d{1,2}:\d{2}"
    r"|(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])\."
    r"|\d{4}[-/](0?[1-9]|1[0-2])|(0?[1-9]|1[0-2])/\d{4}|\d{4}[- ]?(Q[1-4]|W\d{1,2})|Q[1-4][- /]?\d{4}"
    rf"|{_DAY}[- ]?(de )?{_FOREIGN_MONTH}\.?([-, ]+(de )?{_YEAR})?|{_FOREIGN_MONTH}\.? \d{{4}}"
    rf"|((mon|tues?|wed(nes)?|thu(rs)?|fri|sat(ur)?|sun)(day)?,? )?"
    rf"({_DAY}[- ]?{_MONTH}\.?([-, ]+{_YEAR})?|{_MONTH}\.?[- ]{_DAY}(,? {_YEAR})?|{_MONTH}\.?[-, /]+{_YEAR}))"
    r"([ T]?\d{1,2}:\d{2}.*|:\d{2}.*|,? \d{1,2}:\d{2}.*)?$"
)
_NO_VALUES = "no values in the training rows"
# Texts that a message names all.
_FEW_WORDS = 5
# Share of the distinct values of a column that float32 may merge.
_MERGED = 0.01
# Up to this one, float64 tells integers apart.
_LARGEST_INTEGER = 2.0**53
# Values that show whether float32 merges them.
_SHOWN = 20_000
# Share of the cells of a column from which on values that training has not seen are mentioned.
_UNSEEN_SHARE = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inferred:
    """How the columns of a table are read.

    Attributes:
      columns: the input columns, numeric and boolean ones first.
      left_out: why the others are no inputs, by name.
      remarks: what a user should know about some inputs, in sentences.
    """

    columns: tuple[Column, ...]
    left_out: Mapping[str, str]
    remarks: tuple[str, ...] = ()


class _Unreadable(Exception):
    """A column that cannot be an input.

    Args:
      what: what it holds.
      remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str):
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy


def infer_columns(
    table: Table, rows: np.ndarray, *, left_out: Mapping[str, str], config: ml_collections.ConfigDict
) -> Inferred:
    """Infers the input columns from the training rows. Numeric and boolean ones come first, then categorical ones.

    Columns without a name, without values in the training rows, and those in which pandas stores the index of a table
    are left out.

    Args:
      table: table with all rows.
      rows: (n,) training rows.
      left_out: columns that are not inputs, with the reason.
      config: `config.data`.

    Raises:
      UserError: columns have dates, times, nested values or numbers in an unclear form, or no column is left.
    """
    import pyarrow

    taken, left_out = pyarrow.array(rows), dict(left_out)
    categorical = {tables.clean_name(name) for name in config.categorical}
    columns, problems, remarks, constant = [], {}, [], []
    for name, whole in table.columns.items():
        if name in left_out:
            continue
        if name not in categorical and (tables.is_unnamed(name) or re.fullmatch(r"__index_level_\d+__", name)):
            left_out[name] = "an index without a name" if name.startswith("__") else "no name"
            continue
        array = whole.take(taken)
        if array.null_count == len(array):
            left_out[name] = _NO_VALUES
            continue
        try:
            found, remark = _infer_column(table, name, array, name in categorical, config)
        except _Unreadable as error:
            problems[name] = error
            continue
        if found is None:
            left_out[name] = _NO_VALUES
            continue
        columns.append(found)
        constant += [name] if _is_constant(array) else []
        remarks += [remark] if remark else []
        remarks += [f"'{name}' looks like an identifier or a row number"] if _counts_up(found, whole) else []
    if problems:
        raise _refuse(table, problems, config.ignore)
    if not columns:
        raise UserError(f"data.source: {table.name} has no input columns left; remove some from data.ignore")
    if constant:
        remarks.append(_describe_constant(constant))
    ordered = sorted(columns, key=lambda found: found.kind == "categorical")
    return Inferred(columns=tuple(ordered), left_out=left_out, remarks=tuple(remarks))


def check_target(table: Table, name: str, config: ml_collections.ConfigDict) -> None:
    """Checks that texts to predict are classes, and not numbers that are written in an unclear way.

    Args:
      table: table with all rows.
      name: name of the target column.
      config: `config.data`.

    Raises:
      UserError: many distinct texts look like numbers.
    """
    array = table.columns[name]
    if table.typed or not tables.is_text(array):
        return
    written = tables.read_numbers(table, array)
    if not written.strange.any() or len(array.filter(written.formed).unique()) <= _MANY_NUMBERS:
        return
    try:
        _refuse_unclear_numbers(table, array, written, config)
    except _Unreadable as error:
        remedy = error.remedy.removesuffix(", or add the column to data.categorical")
        raise UserError(
            f"data.target: {table.name} column '{name}' {error.what}; {remedy}, or set "
            "data.task='classification' if they are classes"
        ) from None


def encode(table: Table, columns: Sequence[Column]) -> np.ndarray:
    """Encodes the input columns as (n, F) float32, with NaN for missing numbers and codes for categories.

    Numbers are relative to the `offset` of their column, which is subtracted in float64.

    Raises:
      UserError: a column is missing or has another type than in training, or a number is infinite.
    """
    encoded = np.empty((table.num_rows, len(columns)), np.float32)
    for index, expected in enumerate(columns):
        name = tables.clean_name(expected.name)
        if name not in table.columns:
            known = ", ".join(table.named)
            hint = ""
            if len(table.columns) == 1 and not table.typed:
                remedy = "separate them as in the training file" if table.field == "inputs" else "set data.delimiter"
                hint = f"; if it has several, {remedy}"
            raise UserError(f"{table.name}: lacks the input column '{expected.name}'; it has {known}{hint}")
        array = table.columns[name]
        if expected.kind == "categorical":
            encoded[:, index] = _codes(table, expected, array)
        else:
            boolean = expected.kind == "boolean"
            # Columns of earlier versions have no sign before the decimals; their numbers were plain.
            values = tables.numbers(
                table, name, array, boolean=boolean, unit=expected.unit, decimal=expected.decimal or None
            )
            encoded[:, index] = values - expected.offset if expected.offset else values
    return encoded


def describe_unseen(table: Table, columns: Sequence[Column], encoded: np.ndarray) -> list[str]:
    """Describes the columns of which more than 5 percent of the cells hold categories that training has not seen.

    Args:
      table: the table.
      columns: its input columns.
      encoded: (n, F) the result of `encode`.
    """
    lines = []
    for index, column in enumerate(columns):
        if column.kind != "categorical" or not len(encoded):
            continue
        unseen = encoded[:, index] == UNSEEN
        if unseen.mean() > _UNSEEN_SHARE:
            examples = _examples(table.columns[tables.clean_name(column.name)].filter(unseen))
            lines.append(
                f"{table.name} column '{column.name}': {unseen.mean():.0%} of the values do not occur in the training "
                f"rows, such as {examples}; the model takes them for one unknown value"
            )
    return lines


def choose_offset(values: np.ndarray) -> float:
    """Returns the value to subtract from numbers before they become float32; 0 if float32 tells them apart as well.

    Args:
      values: (n,) float64, NaN for missing ones.
    """
    shown = _distinct(values)
    if not len(shown) or _count_merged(shown) <= _MERGED * len(shown):
        return 0.0
    offset = float(shown[(len(shown) - 1) // 2])
    return offset if _count_merged(shown - offset) < _count_merged(shown) else 0.0


def describe_merged(name: str, values: np.ndarray, offset: float) -> str:
    """Returns a sentence if float32 merges distinct values, else ""."""
    shown = _distinct(values)
    merged = _count_merged(shown - offset)
    if merged <= _MERGED * len(shown):
        return ""
    return f"'{name}' has values that are equal as float32 ({merged:,} of {len(shown):,}); rescale it if that matters"


def _distinct(values: np.ndarray) -> np.ndarray:
    """Returns the sorted distinct values, of a few thousand neighbouring and a few thousand scattered rows."""
    if len(values) > _SHOWN:
        scattered = np.linspace(0, len(values) - 1, _SHOWN // 2).astype(np.int64)
        values = np.concatenate([values[: _SHOWN // 2], values[scattered]])
    return np.unique(values[~np.isnan(values)])


def _count_merged(distinct: np.ndarray) -> int:
    with np.errstate(over="ignore"):
        return len(distinct) - len(np.unique(distinct.astype(np.float32)))


def _infer_column(
    table: Table, name: str, array, categorical: bool, config: ml_collections.ConfigDict
) -> tuple[Column | None, str]:
    """Returns the column, or None if it has no values, and a remark; raises `_Unreadable`."""
    import pyarrow

    has_missing = array.null_count > 0
    if pyarrow.types.is_temporal(array.type):
        raise _dates(str(array.drop_null()[0]))
    if not (tables.is_text(array) or tables.is_numeric(table, array) or tables.is_boolean(array)):
        raise _Unreadable(f"is of type {array.type}, which is not supported", "add it to data.ignore")
    if categorical:
        numeric = tables.is_text(array) and tables.is_numeric(table, array)
        found = tables.spelled_texts(table, array) if numeric else tables.texts(array)
        categories = tables.sorted_values(value for value in found if value is not None)
        return Column(name=name, kind="categorical", categories=categories, has_missing=None in found), ""
    if tables.is_text(array):
        return _infer_text(table, name, array, config)
    if tables.is_numeric(table, array):
        return _numeric(name, array, tables.to_float64(array), has_missing)
    return Column(name=name, kind="boolean", has_missing=has_missing), ""


def _infer_text(table: Table, name: str, array, config: ml_collections.ConfigDict) -> tuple[Column | None, str]:
    if tables.is_boolean(array):
        return Column(name=name, kind="boolean", has_missing=array.null_count > 0), ""
    written = tables.read_numbers(table, array)
    if written.missing.all():
        return None, ""
    # In a file with types, plain numbers that are stored as texts are names.
    are_names = table.typed and written_numbers.all_plain(array)
    if not written.strange.any() and not are_names:
        decimal = "" if written.decimal == table.decimal else written.decimal
        column, remark = _numeric(
            name, array, written.values, bool(written.missing.any()), unit=written.unit, decimal=decimal
        )
        return column, remark or _describe_thousands(table, name, array)
    first, share = _find_dates(array)
    if share >= _MOSTLY:
        raise _dates(first)
    if not are_names:
        _refuse_unclear_numbers(table, array, written, config)
    present = array.drop_null()
    distinct = present.unique()
    if len(present) >= _ENOUGH_ROWS and len(distinct) >= _MOSTLY * len(present):
        raise _Unreadable(
            "has a different text in almost every row, as identifiers do",
            "add it to data.ignore, or to data.categorical",
        )
    categories = tables.sorted_values(distinct.to_pylist())
    remark = f"'{name}' has a different text in every row" if len(distinct) == len(present) else ""
    if share >= _PARTLY:
        remark = f"'{name}' has dates or times, such as '{first}', which are read as categories"
    return Column(name=name, kind="categorical", categories=categories, has_missing=array.null_count > 0), remark


def _numeric(name: str, array, values: np.ndarray, has_missing: bool, **form: str) -> tuple[Column, str]:
    offset = choose_offset(values)
    column = Column(name=name, kind="numeric", has_missing=has_missing, offset=offset, **form)
    return column, _describe_long_integers(name, array, values) or describe_merged(name, values, offset)


def _describe_thousands(table: Table, name: str, array) -> str:
    """Returns a sentence if only the config says that a sign separates thousands, as in 1.234, else ""."""
    import pyarrow.compute

    if table.decimal == "auto":
        return ""
    separator = "." if table.decimal == "," else ","
    separated = pyarrow.compute.match_substring(array, separator)
    signs = pyarrow.compute.any(pyarrow.compute.match_substring(array, table.decimal)).as_py()
    if signs or not pyarrow.compute.any(separated).as_py():
        return ""
    return f"'{name}' has '{separator}' between thousands, as in {_examples(array.filter(separated))}"


def _describe_long_integers(name: str, array, values: np.ndarray) -> str:
    """Returns a sentence if integers are too long even for float64, else ""."""
    if not np.nanmax(np.abs(values)) > _LARGEST_INTEGER:
        return ""
    written, found = len(array.slice(0, _SHOWN).drop_null().unique()), len(_distinct(values[:_SHOWN]))
    if written - found <= _MERGED * written:
        return ""
    return f"'{name}' has integers of more than 53 bits, some of which are equal as numbers; leave out identifiers"


def _dates(first: str) -> _Unreadable:
    return _Unreadable(
        f"holds dates or times ('{first}'), which are not supported",
        "convert them to numbers, or add the column to data.ignore",
    )


def _find_dates(array) -> tuple[str, float]:
    """Returns the first date or time, "" if there is none, and their share of the texts."""
    import pyarrow.compute

    present = array.drop_null()
    matches = pyarrow.compute.match_substring_regex(present, _DATE_OR_TIME)
    share = pyarrow.compute.mean(matches).as_py()
    return (present.filter(matches)[0].as_py() if share else ""), share


def _is_constant(array) -> bool:
    """Returns whether all values are the same one, and none is missing."""
    return not array.null_count and len(array[:1000].unique()) == 1 and len(array.unique()) == 1


def _describe_constant(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"one value in all training rows: {shown}{more}"


def _refuse_unclear_numbers(table: Table, array, written: Written, config: ml_collections.ConfigDict) -> None:
    """Raises for numbers that are not written in one clear way, or that have texts among them."""
    present, strange = ~written.missing, written.strange
    count = int(present.sum())
    if table.decimal != "auto":
        _refuse_other_decimals(table, array, written)
    if written.commas and written.formed.sum() >= _PARTLY * count:
        commas = array.filter(written.formed & strange)
        raise _Unreadable(
            f"holds numbers with a comma, such as {_examples(commas)}",
            "set data.decimal=',' if decimals follow the comma, or '.' if it separates thousands",
        )
    if len(written.units) > 1 and written.formed.sum() == count and "" not in written.units[:1]:
        raise _Unreadable(
            f"holds numbers in several units, such as {_examples(array.filter(present))}",
            "convert them to one unit, or add the column to data.categorical",
        )
    numbers = present & ~strange
    share = numbers.sum() / count
    if table.typed or share < _PARTLY:
        return
    texts = array.filter(strange)
    words = sorted(set(texts.to_pylist()))
    are_gaps = all(word.lower() in _GAPS for word in words)
    many = len(np.unique(written.values[numbers])) > _MANY_NUMBERS
    if share >= _MOSTLY or are_gaps or many:
        values = _as_flag((*config.missing_values, *words))
        flag = f" (--config.data.missing_values={values})" if len(words) <= _FEW_WORDS else ""
        raise _Unreadable(
            f"holds numbers and texts such as {_examples(texts)} ({1 - share:.1%} of the values)",
            f"correct them, add them to data.missing_values{flag}, or add the column to data.categorical",
        )


def _refuse_other_decimals(table: Table, array, written: Written) -> None:
    """Raises for numbers whose decimals follow the sign that the config does not name."""
    other = "." if table.decimal == "," else ","
    again = tables.read_numbers(table, array, decimal=other)
    others = written.strange & ~again.strange
    if not others.any() or (others | ~written.strange)[~written.missing].mean() < _PARTLY:
        return
    dates = " (or dates without a year)" if other == "." else ""
    raise _Unreadable(
        f"holds numbers with '{other}' before the decimals{dates}, such as {_examples(array.filter(others))}, but "
        f"data.decimal is '{table.decimal}'",
        f"set data.decimal='{other}' if all columns are written so, else rewrite the column, or add the column to "
        "data.categorical",
    )


def _examples(array) -> str:
    return ", ".join(f"'{str(value)[:40]}'" for value in array.slice(0, 10_000).unique().to_pylist()[:3])


def _as_flag(names: Collection[str]) -> str:
    """Returns names as a tuple for the command line."""
    return '"(' + "".join(f"{name!r}," for name in names).removesuffix("," if len(names) > 1 else "") + ')"'


def _refuse(table: Table, problems: Mapping[str, _Unreadable], ignored: Sequence[str]) -> UserError:
    if len(problems) == 1:
        ((name, problem),) = problems.items()
        return UserError(f"data.source: {table.name} column '{name}' {problem.what}; {problem.remedy}")
    shown = list(problems.items())[:20]
    more = f"; and {len(problems) - len(shown)} more" if len(problems) > len(shown) else ""
    listed = "; ".join(f"'{name}' {problem.what} ({problem.remedy})" for name, problem in shown)
    names = _as_flag((*ignored, *problems)) if len(problems) <= len(shown) else '"(...)"'
    return UserError(
        f"data.source: {table.name} has {pluralize(len(problems), 'column')} that cannot be read: {listed}{more}; or "
        f"leave all out with --config.data.ignore={names}"
    )


def _counts_up(column: Column, array) -> bool:
    """Returns whether a numeric column holds integers that increase from row to row."""
    if column.kind != "numeric" or array.null_count or len(array) < _ENOUGH_ROWS or column.unit:
        return False
    import pyarrow

    try:
        values = array.slice(0, 10_000).cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
        return False
    return bool((np.diff(values) > 0).all() and (values == np.round(values)).all())


def _codes(table: Table, expected: Column, array) -> np.ndarray:
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_nested(array.type) or pyarrow.types.is_temporal(array.type):
        raise UserError(
            f"{table.name} column '{expected.name}' is of type {array.type}, but training rows hold categories"
        )
    if not tables.is_text(array):
        array = pyarrow.array(tables.texts(array), pyarrow.large_string())
    elif written_numbers.are_spelled(expected.categories):
        array = pyarrow.array(
            tables.spelled_texts(table, array, decimal=expected.decimal or None), pyarrow.large_string()
        )
    value_set = pyarrow.array(expected.categories, pyarrow.large_string())
    found = pyarrow.compute.index_in(array, value_set=value_set, skip_nulls=True)
    codes = pyarrow.compute.fill_null(found, UNSEEN - FIRST_CATEGORY).to_numpy(zero_copy_only=False) + FIRST_CATEGORY
    return np.where(array.is_null().to_numpy(zero_copy_only=False), MISSING, codes)
