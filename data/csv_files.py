"""CSV files: encoding, delimiter and header are found from the first lines, all fields are read as texts."""

import codecs
import contextlib
import csv
import dataclasses
import io
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator

import ml_collections

from data import tables
from data.compressed_files import open_arrow, open_bytes, open_text
from plumbline import UserError, pluralize

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}
"""Delimiters that "auto" tells apart, by the names that a config may use for them."""

# In the order in which a byte order mark is recognised: UTF-32 begins as UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings to name in the error for a file that is not UTF-8. The last one fits any file.
_GUESSES = ("cp1252", "latin-1")
# Lines that show which delimiter a file has.
_SHOWN = 50
# Bytes that show which encoding a file has.
_BEGINNING = 1 << 16
# Share of zero bytes from which on a text may be UTF-16.
_ZEROS = 0.05
# Bytes of a block that pyarrow reads at once; a row must fit.
_BLOCKS = (1 << 20, 1 << 26, (1 << 31) - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How the text of a CSV file is read: the fields of `config.data`.

    Attributes:
      missing_values: texts that mean a missing value.
      delimiter: sign between fields, or "auto".
      decimal: sign before decimals, or "auto".
      encoding: name of the encoding, or "auto".
      header: whether the first line names the columns.
      text: name of the column of texts for a tokenizer; "" for none.
    """

    missing_values: tuple[str, ...]
    delimiter: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    header: bool = True
    text: str = ""

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "Form":
        """Reads the form from `config.data`.

        Raises:
          UserError: a value is not possible.
        """
        delimiter = DELIMITERS.get(config.delimiter, config.delimiter)
        if delimiter != "auto" and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise UserError(
                f"data.delimiter: '{config.delimiter}' is not possible; give one sign, {', '.join(DELIMITERS)} or auto"
            )
        if config.encoding != "auto":
            try:
                "".encode(config.encoding)
            except LookupError:
                raise UserError(
                    f"data.encoding: unknown encoding '{config.encoding}'; give 'auto', or one that Python knows, such "
                    "as 'cp1252'"
                ) from None
        return cls(
            missing_values=tuple(config.missing_values),
            delimiter=delimiter,
            decimal=config.decimal,
            encoding=config.encoding,
            header=config.header,
            text=config.text,
        )


def read_csv(file: pathlib.Path, path: str, form: Form, field: str) -> tuple[object, Callable[[int], int]]:
    """Reads all columns as texts, so that only the training rows determine the types.

    Args:
      file: path of the file.
      path: path as the user gave it, for messages.
      form: how the text is read.
      field: config field or argument that names the file, for messages.

    Returns:
      A pyarrow table, and a function from a row to its line in the file.

    Raises:
      UserError: the file has no rows, or a line with another number of fields than the header.
    """
    import pyarrow
    import pyarrow.csv

    encoding = _choose_encoding(file, path, form, field)
    delimiter = _find_delimiter(file, encoding) if form.delimiter == "auto" else form.delimiter
    layout = _Layout(file=file, encoding=encoding, delimiter=delimiter, header=form.header)
    names, start = _column_names(layout, path, field)
    parse_options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    convert_options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pyarrow.large_string()), strings_can_be_null=False
    )
    # Arrow takes the text after a byte order mark, and UTF-8 under its own name without converting it.
    own = codecs.lookup(encoding).name.removesuffix("-sig") in ("utf-8", "ascii")
    for block_size in _BLOCKS:
        read_options = pyarrow.csv.ReadOptions(
            block_size=block_size,
            encoding="utf8" if own else encoding,
            column_names=names,
            skip_rows=start,
        )
        try:
            with open_arrow(file) as source:
                table = pyarrow.csv.read_csv(
                    source, read_options=read_options, parse_options=parse_options, convert_options=convert_options
                )
            break
        except pyarrow.ArrowInvalid as error:
            if "straddling" in str(error) and block_size != _BLOCKS[-1]:
                continue
            _check_rows(layout, len(names), path, field)
            raise
    _check_unnamed(table, layout, names, path, field)
    return table, _Lines(layout)


def guess_encoding(file: pathlib.Path) -> str:
    """Returns an encoding in which the whole file can be read."""
    for encoding in _GUESSES[:-1]:
        with contextlib.suppress(UnicodeError), open_text(file, encoding) as stream:
            while stream.read(_BEGINNING):
                pass
            return encoding
    return _GUESSES[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a CSV file is read line by line."""

    file: pathlib.Path
    encoding: str
    delimiter: str
    header: bool

    @contextlib.contextmanager
    def rows(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """Opens the file; yields its rows, with the header and the number of the last line of each.

        Empty lines are left out, as pyarrow does, and the line "sep=;" with which Excel names the delimiter.
        """
        with open_text(self.file, self.encoding) as stream:
            reader = _reader(stream, self.delimiter)
            directive = next(_reader([f"sep={self.delimiter}"], self.delimiter))
            yield (
                (reader.line_num, fields)
                for fields in reader
                if fields and not (reader.line_num == 1 and fields == directive)
            )


class _Lines:
    """Maps rows to lines of a CSV file. The file is read when this is first called."""

    def __init__(self, layout: _Layout):
        self._layout = layout
        self._lines = None

    def __call__(self, row: int) -> int:
        if self._lines is None:
            with self._layout.rows() as rows:
                self._lines = [line for line, _ in rows][1 if self._layout.header else 0 :]
        return self._lines[row]


def _column_names(layout: _Layout, path: str, field: str) -> tuple[list[str], int]:
    """Returns the names of the columns, and the number of lines before the first row.

    Without a header the names are c0, c1, ... Unnamed columns get the names of `tables.number_unnamed`. The first line
    may end with more delimiters than the header has: their columns have no names.
    """
    with layout.rows() as rows:
        line, header = next(rows, (0, []))
        _, first = next(rows, (0, []))
    if not header or (layout.header and not first):
        what = "has a header but no rows" if header else "is empty"
        raise UserError(f"{field}: '{path}' {what}; give a file with a header and rows")
    if not layout.header:
        # The line that names the delimiter is no row.
        return [f"c{index}" for index in range(len(header))], line - 1 if _has_directive(layout) else 0
    extra = first[len(header) :]
    names = [tables.clean_name(name) for name in header] + [""] * (len(extra) if not any(extra) else 0)
    names = tables.number_unnamed(names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        other = "set data.header=False if its first line is not a header"
        if field == "inputs":
            other = "add a header, which this run reads, if its first line is not one"
        raise UserError(f"{field}: '{path}' has two columns '{twice}'; rename one, or {other}")
    return names, line


def _has_directive(layout: _Layout) -> bool:
    with open_text(layout.file, layout.encoding) as stream:
        return stream.readline().rstrip("\r\n") == f"sep={layout.delimiter}"


def _check_unnamed(table, layout: _Layout, names: list[str], path: str, field: str) -> None:
    """Raises if a column that the header lacks holds values."""
    if not layout.header:
        return
    with layout.rows() as rows:
        _, header = next(rows)
    for name in names[len(header) :]:
        if any(value for value in table.column(name).unique().to_pylist()):
            _check_rows(layout, len(header), path, field)


def _check_rows(layout: _Layout, width: int, path: str, field: str) -> None:
    """Raises for the first line with another number of fields than the header; empty ones at the end do not count."""
    with layout.rows() as rows:
        for line, fields in rows:
            if len(fields) < width or any(fields[width:]):
                first = "header" if layout.header else "first line"
                other = "" if field == "inputs" else ", or set data.delimiter"
                raise UserError(
                    f"{field}: '{path}' line {line} has {pluralize(len(fields), 'field')}, its {first} {width}; "
                    f"correct the line (a value with the delimiter '{layout.delimiter}' needs quotes){other}"
                ) from None


def _choose_encoding(file: pathlib.Path, path: str, form: Form, field: str) -> str:
    """Returns the encoding of the config, or the one of the file.

    A file that certainly has another encoding than that of the config is an error, but a trained run reads it as it is.
    """
    found = _find_encoding(file)
    if form.encoding == "auto":
        with open_bytes(file) as stream:
            beginning = stream.read(_BEGINNING)
        if found == "utf-8-sig" and beginning.count(0) > _ZEROS * len(beginning):
            raise UserError(
                f"{field}: '{path}' holds zero bytes, as text in UTF-16 does, but no byte order mark; save it as UTF-8"
                + ("" if field == "inputs" else ", or set data.encoding to 'utf-16-le' or 'utf-16-be'")
            )
        return found
    if not _contradicts(file, found, form.encoding):
        return form.encoding
    if field != "inputs":
        name = found.removesuffix("-sig").upper()
        raise UserError(
            f"{field}: '{path}' is encoded as {name}, not as {form.encoding}; set data.encoding='auto', which reads "
            f"it, or save it as {form.encoding}"
        )
    return found


def _contradicts(file: pathlib.Path, found: str, named: str) -> bool:
    """Returns whether a file certainly has the encoding that was found, and not the named one."""
    named = codecs.lookup(named).name
    if found != "utf-8-sig":
        return named[:6] != found[:6]
    if named in ("ascii", "utf-7") or named.startswith("utf-8"):
        return False  # Reading it fails where the encoding is wrong.
    decoder, is_ascii, has_zeros = codecs.getincrementaldecoder("utf-8")(), True, False
    with open_bytes(file) as stream:
        try:
            while block := stream.read(_BLOCKS[0]):
                decoder.decode(block)
                is_ascii, has_zeros = is_ascii and block.isascii(), has_zeros or 0 in block
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    # In a text of ASCII, all encodings but these agree.
    return not has_zeros if named.startswith(("utf-16", "utf-32")) else not is_ascii


def _find_encoding(file: pathlib.Path) -> str:
    """Returns "utf-8-sig", or the UTF-16 or UTF-32 that a byte order mark or zero bytes show."""
    with open_bytes(file) as stream:
        beginning = stream.read(_BEGINNING)
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    even, odd = beginning[0::2], beginning[1::2]
    for zeros, letters, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if len(beginning) > 3 and zeros.count(0) > 0.5 * len(zeros) and letters.count(0) < 0.1 * len(letters):
            return encoding
        # Letters of other scripts have no zeros, but delimiters, digits and line breaks have.
        if zeros.count(0) > _ZEROS * len(zeros) and not letters.count(0):
            with contextlib.suppress(UnicodeDecodeError):
                codecs.getincrementaldecoder(encoding)().decode(beginning)
                return encoding
    return "utf-8-sig"


def _find_delimiter(file: pathlib.Path, encoding: str) -> str:
    """Returns the delimiter with the most fields in the first lines, if all lines have as many; else the comma.

    Of two with as many fields it is the one that no blank follows in the header.
    """
    with open_text(file, encoding) as stream:
        lines = list(_take_lines(stream))
    if lines and (directive := re.fullmatch(r"sep=(.)\s*", lines[0])):
        return directive[1]
    text, best, chosen = "".join(lines), (1, False), ","
    for delimiter in dict.fromkeys(DELIMITERS.values()):
        rows = [fields for fields in _reader(io.StringIO(text, newline=""), delimiter) if fields]
        if len(lines) == _SHOWN:
            rows.pop()  # It may end within quotes.
        if not rows:
            continue
        width, widths = len(rows[0]), {len(fields) for fields in rows[1:]}
        rank = width, not any(field.startswith(" ") for field in rows[0][1:])
        # Lines may end with delimiters that the header lacks.
        if width > 1 and len(widths) <= 1 and max(widths, default=width) >= width and rank > best:
            best, chosen = rank, delimiter
    return chosen


def _take_lines(stream: io.TextIOBase) -> Iterator[str]:
    for _ in range(_SHOWN):
        line = stream.readline()
        if not line:
            return
        yield line


def _reader(stream: Iterable[str], delimiter: str):
    # The limit is one for all readers of the process; by default it is 128 KiB.
    csv.field_size_limit(sys.maxsize)
    return csv.reader(stream, delimiter=delimiter)
