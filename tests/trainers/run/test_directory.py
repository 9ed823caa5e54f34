"""The files of a run directory that a run can do without."""

import json

import pytest

import data
import plumbline
from configs import breast_cancer_mlp
from plumbline import UserError
from trainers.run.directory import RunDirectory

START = '{"time": 1.0, "command": "plumbline train", "folder": "/x", "commit": null, "dirty": null, "git": ""}'


@pytest.fixture(scope="module")
def begin():
    """Writes the description of a run that begins or resumes in a folder."""
    config = breast_cancer_mlp.get_config()
    dataset = data.load(config.data, seed=0)
    return lambda path: RunDirectory(path).begin(config, dataset, {})


@pytest.mark.parametrize(
    "damaged",
    [b"", b'{"starts": [', b"[]", b'{"starts": 3}', b'{"starts": [{"command": "x"}]}', b'{"starts": [3]}', b"\xff\xfe"],
)
def test_a_damaged_record_of_starts_is_kept_and_a_new_one_begins(tmp_path, capsys, begin, damaged):
    begin(tmp_path)
    (tmp_path / "provenance.json").write_bytes(damaged)
    assert plumbline.open_run(tmp_path).provenance == {}
    capsys.readouterr()
    begin(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--workdir: provenance.json in '{tmp_path}' is damaged, so the record of earlier starts is")
    assert (tmp_path / "provenance.damaged.json").read_bytes() == damaged
    assert len(json.loads((tmp_path / "provenance.json").read_text())["starts"]) == 1


def test_a_whole_record_of_starts_is_continued(tmp_path, capsys, begin):
    (tmp_path / "provenance.json").write_text(f'{{"starts": [{START}]}}')
    begin(tmp_path)
    assert [start["folder"] == "/x" for start in RunDirectory(tmp_path).provenance()["starts"]] == [True, False]
    assert not capsys.readouterr().err
    assert not (tmp_path / "provenance.damaged.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "file' is a file, not a folder; give the directory of a run"),
        ("file/run", "file' is a file, not a folder; give the directory of a run"),
        ("link", "link' is a link to 'gone', which does not exist"),
        ("population", "holds a population of trainings, not a run; plumbline.population_history reads"),
        ("text", "config.json is damaged"),
        ("folder", "cannot read '.*config.json': Is a directory"),
        ("", r"no config.json in .*; is it the directory of a run\?"),
    ],
)
def test_what_is_no_run_is_named(tmp_path, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("gone")
    for folder in ("population", "text", "folder/config.json"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "population" / "population.npz").touch()
    (tmp_path / "text" / "config.json").write_bytes(b"\xff")
    with pytest.raises(UserError, match=message):
        RunDirectory(tmp_path / name).config()
