"""Files of tables as people have them."""

import bz2
import gzip
import lzma
import os
import unicodedata
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import data
from data import prediction, table_files
from data.table_files import Form
from plumbline import UserError

_NAMES = ("size", "city", "label")
_ROWS = [(f"{index}.5", ("Köln", "Paris")[index % 2], ("no", "yes")[index % 3 == 0]) for index in range(40)]


def _text(delimiter=",", decimal=".", header=True):
    rows = [_NAMES, *_ROWS] if header else _ROWS
    return "\n".join(delimiter.join([row[0].replace(".", decimal), *row[1:]]) for row in rows) + "\n"


def _read(path, **fields):
    return table_files.read(str(path), Form(missing_values=("",), **fields), "data.source")


def _columns(table):
    return {name: array.to_pylist() for name, array in table.columns.items()}


_PLAIN = {name: [row[place] for row in _ROWS] for place, name in enumerate(_NAMES)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_delimiter_and_encoding_are_found(tmp_path, delimiter, encoding):
    (tmp_path / "a.csv").write_text(_text(delimiter), encoding=encoding)
    table = _read(tmp_path / "a.csv")
    assert _columns(table) == _PLAIN
    assert (table.line(0), table.line(39)) == (2, 41)


def test_a_decimal_comma_does_not_hide_the_semicolon(tmp_path):
    (tmp_path / "a.csv").write_text("size, in m;label\n" + "".join(f"{n},5;{n % 2}\n" for n in range(9)))
    assert list(_read(tmp_path / "a.csv").columns) == ["size, in m", "label"]


def test_quoted_delimiters_and_line_breaks_do_not_count(tmp_path):
    (tmp_path / "a.csv").write_text('x,"a;b;c\nd"\n' + '1,"p;q;r\ns"\n' * 90)
    table = _read(tmp_path / "a.csv")
    assert list(table.columns) == ["x", "a;b;c\nd"]
    assert table.columns["a;b;c\nd"].to_pylist() == ["p;q;r\ns"] * 90


@pytest.mark.parametrize("ending", [".gz", ".GZ", ".bz2", ".xz", ".zst", ".zip", ".Zip"])
def test_compressed_files_are_read(tmp_path, ending):
    content, path = _text(";").encode(), tmp_path / f"a.CSV{ending}"
    match ending.lower():
        case ".gz":
            path.write_bytes(gzip.compress(content))
        case ".bz2":
            path.write_bytes(bz2.compress(content))
        case ".xz":
            path.write_bytes(lzma.compress(content))
        case ".zst":
            path.write_bytes(pyarrow.compress(content, codec="zstd", asbytes=True))
        case ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("folder/a.csv", content)
                archive.writestr("__MACOSX/._a.csv", b"x")
    table = _read(path)
    assert _columns(table) == _PLAIN
    assert table.line(1) == 3


def test_a_damaged_archive_or_one_of_several_files_is_an_error(tmp_path):
    for ending in ("gz", "bz2", "xz", "zst", "zip", "parquet"):
        (tmp_path / f"a.{ending}").write_bytes(b"not at all")
        with pytest.raises(UserError, match=rf"^data.source: '.*a.{ending}' cannot be read as (CSV|Parquet) \("):
            _read(tmp_path / f"a.{ending}")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.csv", "x\n1\n")
        archive.writestr("b.csv", "x\n1\n")
    with pytest.raises(UserError, match=r"b.zip' has 2 files \(a.csv, b.csv\); give an archive with one table"):
        _read(tmp_path / "b.zip")


def test_another_encoding_is_named_and_then_read(tmp_path):
    (tmp_path / "a.csv").write_text(_text(), encoding="cp1252")
    with pytest.raises(UserError, match=r"is not encoded as UTF-8 .*; set data.encoding='cp1252', which fits"):
        _read(tmp_path / "a.csv")
    assert _columns(_read(tmp_path / "a.csv", encoding="cp1252")) == _PLAIN
    with pytest.raises(UserError, match=r"is not encoded as ascii"):
        _read(tmp_path / "a.csv", encoding="ascii")


@pytest.mark.parametrize(
    ("named", "encoding"),
    [
        *(("cp1252", encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")),
        *(("latin-1", "utf-8"), ("gbk", "utf-8"), ("utf-8", "utf-16"), ("utf-16", "utf-8"), ("utf-16-le", "utf-8")),
    ],
)
def test_a_file_of_another_encoding_than_the_named_one_is_an_error_and_read_by_a_run(tmp_path, named, encoding):
    (tmp_path / "a.csv").write_text(_text(), encoding=encoding)
    with pytest.raises(UserError) as caught:
        _read(tmp_path / "a.csv", encoding=named)
    shown = encoding.removesuffix("-sig").upper()
    assert f"a.csv' is encoded as {shown}, not as {named}; set data.encoding='auto', which" in str(caught.value)
    form = Form(missing_values=("",), encoding=named)
    assert _columns(table_files.read(str(tmp_path / "a.csv"), form, "inputs")) == _PLAIN


def test_a_run_reads_what_fits_its_encoding(tmp_path):
    form = Form(missing_values=("",), encoding="cp1252")
    for encoding in ("cp1252", "ascii"):
        text = _text().replace("ö", "ö" if encoding == "cp1252" else "oe")
        (tmp_path / "a.csv").write_text(text, encoding=encoding)
        for field in ("data.source", "inputs"):
            assert list(table_files.read(str(tmp_path / "a.csv"), form, field).columns) == list(_NAMES)
    (tmp_path / "a.csv").write_bytes(_text().encode("cp1252"))
    message = r"save it as UTF-8, which this run reads \(it can be read as cp1252\)$"
    with pytest.raises(UserError, match=message):
        table_files.read(str(tmp_path / "a.csv"), Form(missing_values=("",)), "inputs")


def test_utf_16_is_found_in_other_scripts(tmp_path):
    text = "имя;ответ\n" + "".join(f"город{n};{('да', 'нет')[n % 2]}\n" for n in range(40))
    for encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "a.csv").write_text(text, encoding=encoding)
        assert list(_read(tmp_path / "a.csv").columns) == ["имя", "ответ"]
    (tmp_path / "a.csv").write_bytes(b"a\0b,\0c\n1,2\n")
    with pytest.raises(UserError, match=r"holds zero bytes, as text in UTF-16 does, .* to 'utf-16-le' or 'utf-16-be'"):
        _read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("encoding", "utf-9", r"^data.encoding: unknown encoding 'utf-9'"),
        ("encoding", "base64", r"^data.encoding: unknown encoding 'base64'"),
        ("delimiter", "::", r"^data.delimiter: '::' is not possible; give one sign"),
    ],
)
def test_an_impossible_form_is_an_error(make_config, field, value, message):
    with pytest.raises(UserError, match=message):
        Form.from_config(make_config(**{field: value}))
    assert Form.from_config(make_config(delimiter="tab")).delimiter == "\t"


def test_a_file_without_a_header_has_numbered_columns(tmp_path):
    (tmp_path / "a.csv").write_text(_text(header=False))
    table = _read(tmp_path / "a.csv", header=False)
    assert _columns(table) == dict(zip(("c0", "c1", "c2"), _PLAIN.values(), strict=True))
    assert table.line(0) == 1
    (tmp_path / "a.csv").write_text("1,1,2\n3,4,5\n")
    with pytest.raises(UserError, match=r"has two columns '1'; rename one, or set data.header=False"):
        _read(tmp_path / "a.csv")


@pytest.mark.parametrize("header", ["x,label", "x,label,", "x,label,,"])
@pytest.mark.parametrize("extra", [",", ",,"])
def test_trailing_delimiters_make_columns_without_a_name(tmp_path, make_config, header, extra):
    if header.endswith(",,") and extra == ",":
        extra = ",,"
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *(f"{n},{n % 2}{extra}" for n in range(40))]))
    dataset = data.load(make_config(source=f"csv:{path}", target="label"), seed=0)
    assert [column.name for column in dataset.features.columns] == ["x"]
    assert "left out: label (data.target), unnamed (no name)" in dataset.opening[2]


@pytest.mark.parametrize(
    ("content", "columns", "lines"),
    [
        ("\n\nx,label\n1,a\n\n2,b\n", {"x": ["1", "2"], "label": ["a", "b"]}, [4, 6]),
        ("x,label\r1,a\r2,b", {"x": ["1", "2"], "label": ["a", "b"]}, [2, 3]),
        ('\ufeff"x","label"\r\n1,a\r\n', {"x": ["1"], "label": ["a"]}, [2]),
        ("sep=;\nx;label\n1,5;a\n", {"x": ["1,5"], "label": ["a"]}, [3]),
        ('"x\ny",label\n1,"a\nb"\n2,c\n', {"x\ny": ["1", "2"], "label": ["a\nb", "c"]}, [4, 5]),
        ("label\na\n\nb\n", {"label": ["a", "b"]}, [2, 4]),
        ('x,label\n5" pipe,a\n', {"x": ['5" pipe'], "label": ["a"]}, [2]),
        ("a;b;c\n1,5;2,5;x\n1,5;2,5;y\n", {"a": ["1,5"] * 2, "b": ["2,5"] * 2, "c": ["x", "y"]}, [2, 3]),
    ],
)
def test_unusual_lines_are_read(tmp_path, content, columns, lines):
    (tmp_path / "a.csv").write_bytes(content.encode())
    table = _read(tmp_path / "a.csv")
    assert _columns(table) == columns
    assert [table.line(row) for row in range(table.num_rows)] == lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n", "is empty"),
        ("\ufeff", "is empty"),
        ("x,label", "has a header but no rows"),
        ("x,label\n1,a,\n2,b,c\n", "line 3 has 3 fields, its header 2"),
        ('x,label\n"1,a\n2,b\n', "line 3 has 1 field, its header 2"),
        ("1 comment\nx,label\n1,a\n", "line 2 has 2 fields, its header 1"),
    ],
)
def test_what_is_no_table_is_an_error(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content.encode())
    with pytest.raises(UserError, match=rf"^data.source: '.*a.csv' {message}"):
        _read(tmp_path / "a.csv")


def test_a_short_line_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n4,5\n6,7,8\n")
    with pytest.raises(UserError, match=r"line 3 has 2 fields, its header 3; correct the line"):
        _read(tmp_path / "a.csv")


def test_cells_and_rows_may_be_of_any_size(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + f"{'a' * 200_000},1\n" * 3)
    table = _read(tmp_path / "a.csv")
    assert (table.num_rows, table.line(2), len(table.columns["x"][2].as_py())) == (3, 4, 200_000)
    wide = 3_000  # A row of more than a megabyte.
    line = ",".join(["0." + "1" * 400] * wide)
    (tmp_path / "b.csv").write_text(",".join(f"gene{n}" for n in range(wide)) + f"\n{line}\n{line}\n")
    table = _read(tmp_path / "b.csv")
    assert (table.num_rows, len(table.columns)) == (2, wide)


def test_a_folder_of_parquet_files_is_one_table(tmp_path, make_config):
    folder = tmp_path / "part, one=1"
    (folder / "more").mkdir(parents=True)
    for name, start in (("b.parquet", 20), ("a.PARQUET", 0), ("more/c.pq", 30)):
        end = {"b.parquet": 30, "a.PARQUET": 20, "more/c.pq": 40}[name]
        columns = [[row[place] for row in _ROWS[start:end]] for place in range(3)]
        pyarrow.parquet.write_table(pyarrow.table(columns, names=_NAMES), folder / name)
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.parquet").write_bytes(b"x")
    table = _read(folder)
    assert _columns(table) == _PLAIN
    config = make_config(source=f"parquet:{folder}", target="label", categorical=("size",))
    dataset = data.load(config, seed=0)
    (chunk,) = prediction.read_inputs(dataset.features, config, [folder])
    np.testing.assert_array_equal(chunk.inputs[dataset.splits["test"].rows], dataset.splits["test"].read(np.arange(8)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"folder '.*empty' has no Parquet files"):
        _read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"y": [1.5], "x": [2.5]}, None),
        ({"x": [1.5], "y": [None], "__index_level_0__": [3]}, None),
        ({"x": [1]}, r"'.*b.parquet' lacks the column 'y', compared with '.*a.parquet'; give files with the same"),
        ({"x": [1], "Y": [1]}, r"lacks the column 'y' and '.*b.parquet' has in addition the column 'Y', compared"),
        ({"x": [1], "y": ["a"]}, r"the column 'y' is of type string in '.*b.parquet', but int64 in '.*a.parquet'"),
        (b"x", r"^data.source: '.*b.parquet' cannot be read as Parquet"),
        (b"", r"^data.source: '.*b.parquet' is empty"),
    ],
)
def test_files_of_a_folder_have_the_same_columns(tmp_path, columns, message):
    pyarrow.parquet.write_table(pyarrow.table({"x": [1], "y": [2]}), tmp_path / "a.parquet")
    if isinstance(columns, bytes):
        (tmp_path / "b.parquet").write_bytes(columns)
    else:
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "b.parquet")
    if message is None:
        assert _read(tmp_path).num_rows == 2
        return
    with pytest.raises(UserError, match=message):
        _read(tmp_path)


def test_types_that_newer_arrow_writes_are_read(tmp_path):
    table = pyarrow.table({"view": pyarrow.array(["a", " b", None]).cast(pyarrow.string_view()), "x": [1, 2, 3]})
    found = data.tables.from_arrow(
        table, name="a", missing_values=("",), typed=True, line=lambda row: row, fingerprint=""
    )
    assert found.columns["view"].to_pylist() == ["a", "b", None]


def test_names_and_texts_are_compared_as_they_look(tmp_path, make_config):
    for form in ("NFC", "NFD"):
        rows = [f"{n},{('é', 'ü')[n % 2]},{n % 2}" for n in range(40)]
        text = unicodedata.normalize(form, "\n".join(["x,Größe,Qualität", *rows]))
        (tmp_path / f"{form}.csv").write_text(text, encoding="utf-8")
    target = unicodedata.normalize("NFD", "Qualität")
    config = make_config(source=f"csv:{tmp_path / 'NFC.csv'}", target=target)
    dataset = data.load(config, seed=0)
    chunks = [list(prediction.read_inputs(dataset.features, config, [tmp_path / f"{f}.csv"])) for f in ("NFC", "NFD")]
    np.testing.assert_array_equal(chunks[0][0].inputs, chunks[1][0].inputs)
    assert chunks[1][0].labels == chunks[0][0].labels
    assert set(chunks[1][0].inputs[:, 1]) == {2, 3}


def test_the_home_directory_and_names_that_are_not_text_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text(_text())
    assert _columns(_read("~/a.csv")) == _PLAIN
    strange = os.fsdecode(bytes(tmp_path) + b"/\xff.csv")
    with open(strange, "w") as file:  # noqa: PTH123
        file.write(_text())
    assert _columns(_read(strange)) == _PLAIN
    table = pyarrow.table([list(column) for column in _PLAIN.values()], names=_NAMES)
    with open(os.fsdecode(bytes(tmp_path) + b"/\xff.parquet"), "wb") as file:  # noqa: PTH123
        pyarrow.parquet.write_table(table, file)
    assert _columns(_read(os.fsdecode(bytes(tmp_path) + b"/\xff.parquet"))) == _PLAIN


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match=r"^data.source: .*loop.csv"):
        _read(tmp_path / "loop.csv")
    with pytest.raises(UserError, match=r"^data.source: no such file '.*gone.csv'"):
        _read(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"^data.source: .*(too long|no such file)"):
        _read(tmp_path / ("x" * 300 + ".csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder '.*folder.csv' has no Parquet files"):
        _read(tmp_path / "folder.csv")
