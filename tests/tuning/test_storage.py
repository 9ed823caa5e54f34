import socket
import sys
import time

import pytest

from plumbline import UserError
from tests.conftest import free_port
from tuning import storage


def opened(url):
    return storage.open_database(url, dead_after=60, requeue=lambda study, trial: None)


def test_a_server_that_is_not_there_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(storage, "REACH_SECONDS", 2.0)
    port = free_port()
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        opened(f"postgresql+pg8000://somebody:secret@127.0.0.1:{port}/study")
    assert 1 < time.monotonic() - began < 4
    shown = (
        f"--storage: 'postgresql+pg8000://somebody:***@127.0.0.1:{port}/study' cannot be reached; gave up after 2 s "
    )
    assert str(error.value).startswith(shown)
    assert "Connection refused" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_server_that_never_answers_is_given_up_as_well(command):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"postgresql://somebody@127.0.0.1:{server.getsockname()[1]}/study"
        # In a process of its own, which takes the hanging connection along.
        script = f"""
from tuning import storage
storage.REACH_SECONDS = 1.0
storage.open_database({url!r}, dead_after=60, requeue=None)
"""
        found = command.run([sys.executable, "-c", script])
    assert "cannot be reached; gave up after 1 s (no answer)" in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study", r"--storage: 'study' is not a storage; write journal:PATH, sqlite:///PATH"),
        (
            "redis://me:secret@host/study",
            r"--storage: 'redis://me:\*\*\*@host/study' is not a storage; write journal:PATH",
        ),
        ("mysql+oursql://host/study", r"--storage: 'mysql\+oursql://host/study' is not a storage"),
        ("mysql+cymysql://host/study", r"needs a driver that is not installed \(No module named 'cymysql'\)"),
    ],
)
def test_an_invalid_storage_is_refused_at_once(url, message):
    with pytest.raises(UserError, match=message):
        opened(url)


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "REACH_SECONDS", 1.0)
    with pytest.raises(UserError, match=r"cannot be reached; gave up after \d s \(unable to open database file\)"):
        opened(f"sqlite:///{tmp_path}/none/study.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--storage: cannot write to '.*/file/journal.log': .*; choose another path"):
        storage.open_journal(tmp_path / "file" / "journal.log")


def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("milk\neggs")
    with pytest.raises(
        UserError, match=r"is not the journal of a study \(it holds something else\); choose another path"
    ):
        storage.open_journal(notes)
    assert notes.read_text() == "milk\neggs"
