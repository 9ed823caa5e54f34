import subprocess
import sys

import pytest

from plumbline.files import append_line, describe_missing, expand_home, remove_unfinished, write_text


def test_what_a_kill_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "population.npz"
    write_text(path, "whole")
    script = f"""
import os, signal
from plumbline.files import replace_atomically
with replace_atomically({str(path)!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    (tmp_path / ".population.json.abcdefgh").mkdir()
    assert len(list(tmp_path.iterdir())) == 3
    remove_unfinished(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".population.json.abcdefgh", "population.npz"]
    assert path.read_text() == "whole"


@pytest.mark.parametrize(("before", "after"), [(None, ""), ("", ""), ("a\nb\n", "a\nb\n"), ("a\nb", "a\n"), ("a", "")])
def test_a_line_is_appended_in_place_of_a_half_one(tmp_path, before, after):
    path = tmp_path / "lines"
    if before is not None:
        path.write_text(before)
    append_line(path, "é")
    append_line(path, "c")
    assert path.read_text(encoding="utf-8") == f"{after}é\nc\n"


def test_the_home_is_expanded_at_the_beginning_only(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    given = ["~", "~/runs", "./~/x", "runs/~", "~no-such-user/x", "gs://bucket/~"]
    expanded = ["/home/ada", "/home/ada/runs", "./~/x", "runs/~", "~no-such-user/x", "gs://bucket/~"]
    assert [expand_home(path) for path in given] == expanded


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/x", "no such folder '{}/missing/x'"),
        ("file", "'{}/file' is a file, not a folder"),
        ("file/x/y", "'{}/file' is a file, not a folder"),
        ("link", "'{}/link' is a link to 'gone', which does not exist"),
        ("link/x", "'{}/link' is a link to 'gone', which does not exist"),
    ],
)
def test_the_reason_why_a_folder_is_missing_is_named(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    assert describe_missing(tmp_path / name) == reason.format(tmp_path)
