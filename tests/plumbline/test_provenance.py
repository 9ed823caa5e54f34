"""What a run records of where it comes from, in real repositories and without any."""

import json
import subprocess

import pytest

from plumbline import provenance
from plumbline.rooms import CHECKOUT


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout of one commit."""
    root = (tmp_path / "checkout").resolve()
    (root / "plumbline").mkdir(parents=True)
    (root / "plumbline" / "code.py").write_text("1\n")
    (root / "README.md").write_text("1\n")
    (root / ".gitignore").write_text("runs/\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=root, check=True)
    monkeypatch.setattr(provenance, "CHECKOUT", root)
    return root


def head(root):
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=root, text=True).strip()


def test_commit_and_whether_code_was_changed(repository):
    (start,) = provenance.add_start({})["starts"]
    assert (start["commit"], start["dirty"], start["git"]) == (head(repository), False, "")
    # No code.
    (repository / "README.md").write_text("2\n")
    assert not provenance.add_start({})["starts"][0]["dirty"]
    (repository / "plumbline" / "code.py").write_text("2\n")
    assert provenance.add_start({})["starts"][0]["dirty"]


def test_new_code_is_a_change(repository):
    (repository / "configs").mkdir()
    (repository / "configs" / "mine.py").touch()
    assert provenance.add_start({})["starts"][0]["dirty"]


def test_every_start_is_kept(repository):
    first = provenance.add_start({})
    second = provenance.add_start(first)
    assert second["starts"][0] == first["starts"][0]
    assert len(second["starts"]) == 2
    assert second["starts"][1]["time"] >= second["starts"][0]["time"]


def test_without_git_the_reason_is_recorded(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (start,) = provenance.add_start({})["starts"]
    assert (start["commit"], start["dirty"], start["git"]) == (None, None, "git is not installed")


def test_a_folder_in_another_repository_is_no_checkout(repository, monkeypatch):
    monkeypatch.setattr(provenance, "CHECKOUT", repository / "plumbline")
    (start,) = provenance.add_start({})["starts"]
    assert start["commit"] is None
    assert "is not a git checkout" in start["git"]


def test_a_folder_outside_any_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (start,) = provenance.add_start({})["starts"]
    assert start["commit"] is None
    assert "not a git repository" in start["git"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([str(CHECKOUT / "experiments" / "train.py"), "--config=x y.py"], "plumbline train '--config=x y.py'"),
        (["mine.py", "--fast"], "python mine.py --fast"),
        (["/home/x/experiments/train.py"], "python /home/x/experiments/train.py"),
        ([""], "interactive Python"),
        (["-c", "x"], "interactive Python"),
        (["/usr/lib/python3/ipykernel_launcher.py", "-f", "x.json"], "interactive Python"),
    ],
)
def test_the_command_line(arguments, expected):
    assert provenance.command_line(arguments) == expected


def test_a_run_records_its_start(quick_run):
    (start,) = json.loads((quick_run / "provenance.json").read_text())["starts"]
    assert start["command"].startswith("plumbline train --config=configs/digits_mlp.py ")
    assert start["command"].endswith(f" --workdir={quick_run}")
    assert start["folder"] == str(CHECKOUT)
    assert set(start) == {"time", "version", "command", "folder", "commit", "dirty", "git"}
