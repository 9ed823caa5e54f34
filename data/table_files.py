"""Files of tables: CSV in any usual form and compression, and Parquet files or folders of them."""

import contextlib
import hashlib
import os
import pathlib
import re
from collections.abc import Collection

from data import compressed_files, tables
from data.compressed_files import has_strange_name
from data.csv_files import Form, guess_encoding, read_csv
from data.tables import Table
from plumbline import UserError

__all__ = ["PARQUET_EXTENSIONS", "Form", "is_parquet", "read"]

PARQUET_EXTENSIONS = (".parquet", ".pq")
# How pandas names an index in a Parquet file.
_INDEX = r"__index_level_\d+__"


def is_parquet(path: str) -> bool:
    """Returns whether a path names a Parquet file or a folder of them."""
    try:
        is_folder = _locate(path).is_dir()
    except OSError:
        is_folder = False  # Reading it says why.
    return is_folder or path.lower().endswith(PARQUET_EXTENSIONS)


def _locate(path: str) -> pathlib.Path:
    return pathlib.Path(os.path.expanduser(path))  # noqa: PTH111 (this one leaves an unknown ~name as it is)


def read(path: str, form: Form, field: str) -> Table:
    """Reads a CSV file (which may be compressed), a Parquet file (.parquet or .pq) or a folder of Parquet files.

    Args:
      path: path of the file; a leading ~ is the home directory.
      form: how the text of a CSV file is read.
      field: config field or argument that names the file, for messages.

    Raises:
      UserError: there is no such file, it is empty, or it is not of the type of its name.
    """
    import pyarrow

    file = _locate(path)
    parquet = is_parquet(path)
    try:
        if not file.exists():
            raise UserError(f"{field}: no such file '{path}'; give the path of a CSV or Parquet file")
        files = _parquet_files(file, path, field) if file.is_dir() else [file]
        if any((empty := each).stat().st_size == 0 for each in files):
            name = str(empty) if file.is_dir() else path
            raise UserError(f"{field}: '{name}' is empty; give a file with a header and rows")
        if file.is_dir():
            table, line = _read_folder(files, form, field), lambda row: row + 1
        elif parquet:
            table, line = _read_parquet(file), lambda row: row + 1
        else:
            table, line = read_csv(file, path, form, field)
        fingerprint = _fingerprint(files)
    except (pyarrow.ArrowException, UnicodeError, *compressed_files.ERRORS) as error:
        raise _unreadable(file, path, parquet, form, field, error) from None
    if table.num_rows == 0:
        raise UserError(f"{field}: '{path}' has a header but no rows; give a file with rows")
    return tables.from_arrow(
        table,
        name=path,
        missing_values=form.missing_values,
        typed=parquet,
        line=line,
        fingerprint=fingerprint,
        field=field,
        decimal=form.decimal,
        text=form.text,
        numbered=not parquet and not form.header,
    )


def _unreadable(file: pathlib.Path, path: str, parquet: bool, form: Form, field: str, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return UserError(f"{field}: '{path}' cannot be read ({error.strerror}); check the file and its permissions")
    reason = " ".join(str(error).split())[:200]
    if not parquet and ("UTF8" in reason or isinstance(error, UnicodeError)):
        encoding = "UTF-8" if form.encoding == "auto" else form.encoding
        guess = guess_encoding(file)
        remedy = f"set data.encoding='{guess}', which fits, or save it as UTF-8"
        if field == "inputs":
            remedy = f"save it as {encoding}, which this run reads (it can be read as {guess})"
        return UserError(f"{field}: '{path}' is not encoded as {encoding} ({reason}); {remedy}")
    kind = "Parquet" if parquet else "CSV"
    return UserError(f"{field}: '{path}' cannot be read as {kind} ({reason}); fix or replace it")


def _parquet_files(folder: pathlib.Path, path: str, field: str) -> list[pathlib.Path]:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in PARQUET_EXTENSIONS and not file.name.startswith((".", "_")) and file.is_file()
    )
    if not files:
        raise UserError(f"{field}: folder '{path}' has no Parquet files; expected .parquet files in it or below it")
    return files


def _read_parquet(file: pathlib.Path):
    import pyarrow.parquet

    with file.open("rb") if has_strange_name(file) else contextlib.nullcontext(file) as source:
        return pyarrow.parquet.ParquetFile(source).read()


def _read_folder(files: list[pathlib.Path], form: Form, field: str):
    """Reads Parquet files that have the same columns, in any order and perhaps with numbers of other types."""
    import pyarrow

    read = []
    for file in files:
        try:
            read.append(_read_parquet(file))
        except (pyarrow.ArrowException, UnicodeError, *compressed_files.ERRORS) as error:
            raise _unreadable(file, str(file), True, form, field, error) from None
        _check_same_columns(files[0], read[0].schema, file, read[-1].schema, field)
    return read[0] if len(read) == 1 else pyarrow.concat_tables(read, promote_options="permissive")


def _check_same_columns(first: pathlib.Path, expected, file: pathlib.Path, found, field: str) -> None:
    """Raises if the schemas of two files of a folder differ in their columns, other than in an index of pandas."""
    import pyarrow

    names = [
        {name for name in schema.names if not tables.is_unnamed(name) and not re.fullmatch(_INDEX, name)}
        for schema in (expected, found)
    ]
    remedy = "give files with the same columns, or name one file"
    differences = [
        f"'{file}' {verb} the column{'s' if len(others) > 1 else ''} {_list(others)}"
        for verb, others in (("lacks", names[0] - names[1]), ("has in addition", names[1] - names[0]))
        if others
    ]
    if differences:
        raise UserError(f"{field}: {' and '.join(differences)}, compared with '{first}'; {remedy}")
    # Of two columns with one name, reading the whole table says so.
    for name in sorted(name for name in names[0] if [*expected.names, *found.names].count(name) == 2):
        try:
            types = [schema.field(name) for schema in (expected, found)]
            pyarrow.unify_schemas([pyarrow.schema([each]) for each in types], promote_options="permissive")
        except pyarrow.ArrowException:
            raise UserError(
                f"{field}: the column '{name}' is of type {types[1].type} in '{file}', but {types[0].type} in "
                f"'{first}'; convert one of them, or name one file"
            ) from None


def _list(names: Collection[str]) -> str:
    shown = sorted(names)
    return ", ".join(f"'{name}'" for name in shown[:10]) + (f" and {len(shown) - 10} more" if shown[10:] else "")


def _fingerprint(files: Collection[pathlib.Path]) -> str:
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
