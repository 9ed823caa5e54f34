"""Files of tables: CSV in any usual form and compression, and Parquet files or folders of them."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Collection

from data import compressed_files, tables
from data.compressed_files import has_strange_name
from data.csv_files import Form, guess_encoding, read_csv
from data.tables import Table
from plumbline import UserError

__all__ = ["PARQUET_EXTENSIONS", "Form", "is_parquet", "read"]

PARQUET_EXTENSIONS = (".parquet", ".pq")


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
        if any(each.stat().st_size == 0 for each in files):
            raise UserError(f"{field}: '{path}' is empty; give a file with a header and rows")
        table, line = _read_parquet(files) if parquet else read_csv(file, path, form, field)
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
        return UserError(
            f"{field}: '{path}' is not encoded as {encoding} ({reason}); set data.encoding='{guess}', which fits, or "
            "save it as UTF-8"
        )
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


def _read_parquet(files: list[pathlib.Path]):
    import pyarrow
    import pyarrow.parquet

    read = []
    for file in files:
        with file.open("rb") if has_strange_name(file) else contextlib.nullcontext(file) as source:
            read.append(pyarrow.parquet.ParquetFile(source).read())
    table = read[0] if len(read) == 1 else pyarrow.concat_tables(read, promote_options="permissive")
    return table, lambda row: row + 1


def _fingerprint(files: Collection[pathlib.Path]) -> str:
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
