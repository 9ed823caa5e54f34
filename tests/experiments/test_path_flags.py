"""Paths of --output that cannot be written."""

import pytest

from experiments.path_flags import check_output
from plumbline import UserError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "--output: '{}/folder' is a folder; name a file"),
        ("new/", "--output: '{}/new/' is a folder; name a file"),
        ("x.xlsx", "--output: '{}/x.xlsx' does not end in .csv, the form that is written; change the name"),
        ("file/x.csv", "--output: '{}/file' is a file, not a folder; name a file in another folder"),
        ("link/x.csv", "--output: '{}/link' is a link to 'gone', which does not exist; name a file in another folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_named(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(UserError) as caught:
        check_output(f"{tmp_path}/{name}", (".csv", ""))
    assert str(caught.value) == message.format(tmp_path)


@pytest.mark.parametrize("name", ["x.csv", "x.CSV", "x", "new/folder/x.csv", "file"])
def test_a_new_or_existing_file_may_be_written(tmp_path, name):
    (tmp_path / "file").touch()
    check_output(f"{tmp_path}/{name}", (".csv", ""))
    check_output(None, (".csv", ""))
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
