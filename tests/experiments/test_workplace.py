import json
import subprocess
import sys

import pytest

from experiments import workplace
from plumbline import UserError


def test_a_directory_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files of something else"), workplace.held(tmp_path, overwrite=True):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_directory_in_which_nothing_was_done_goes_again(tmp_path):
    with pytest.raises(UserError, match="no such thing"), workplace.held(tmp_path / "a/b", overwrite=False):
        raise UserError("no such thing")
    assert not (tmp_path / "a").exists()


def test_earlier_trainings_are_kept_unless_they_shall_be_forgotten(tmp_path):
    path = tmp_path / "population.npz"
    path.write_text("trainings")
    (tmp_path / "summary.json").write_text("{}")
    with workplace.held(tmp_path, overwrite=False) as directory:
        assert (directory / "population.npz").exists()
    with workplace.held(tmp_path, overwrite=True):
        assert not path.exists()
    assert (tmp_path / "summary.json").exists()


def test_two_processes_do_not_share_a_directory(tmp_path):
    script = f"""
from experiments import workplace
with workplace.held({str(tmp_path)!r}, overwrite=False):
    print("held", flush=True)
    input()
"""
    run = [sys.executable, "-c", script]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match="another process is training in"),
            workplace.held(tmp_path, overwrite=False),
        ):
            pass
        other.communicate("\n")


def test_figures_that_are_not_finite_become_null(tmp_path):
    workplace.write_json(tmp_path / "a.json", {"a": (1.0, float("nan")), "b": {"c": float("inf")}, "d": "text"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.0, None], "b": {"c": None}, "d": "text"}
