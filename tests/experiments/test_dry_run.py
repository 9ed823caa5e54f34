"""`train --dry_run` checks what a training checks, prints the config and writes nothing."""

import json
import shutil

import pytest

from experiments.config_differences import Difference, format_table
from plumbline import UserError
from tests.conftest import QUICK
from trainers.run.directory import RunDirectory

MLP = "--config=configs/digits_mlp.py"


def rows(output):
    """The cells of the table by field."""
    return {line.split()[0]: line for line in output.splitlines()}


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_config_that_is_right_is_printed_and_nothing_is_written(command, tmp_path):
    workdir = tmp_path / "new" / "run"
    words = [MLP, "--config.train.batch_size=32"]
    for more in (["--dry_run"], ["--dry-run", f"--workdir={workdir}"]):
        finished = command("train", *words, *more)
        table = rows(finished.stdout)
        assert table["field"].split() == ["field", "default", "value", "set", "by"]
        assert table["train.batch_size"].split() == ["train.batch_size", "64", "32", "--config.train.batch_size"]
        _, default, value, place = table["model.name"].split()
        assert (default, value, place.rpartition(":")[0]) == ("'resnet'", "'mlp'", "configs/digits_mlp.py")
        # The source has its default.
        assert "data.source" not in table
        assert "dry run: mlp, 26,122 parameters" in finished.stderr
        assert "3,988 steps of 32" in finished.stderr
        assert finished.stderr.startswith("data: classification of 'label' into 10 classes (0, 1, 2, 3, ")
        assert "everything is ready to start" in finished.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.train.batch_size=0"], "--config.train.batch_size: 0 given"),
        (["--config.data.source=/no/such"], "--config.data.source: "),
        (["--config.transfer.source=/no/such"], "--config.transfer.source: no such file or directory"),
        (["--config.mesh.data=3"], "--config.mesh.data: data=3 x fsdp=1"),
        (["--config.execution.mode=fast"], "--config.execution.mode: unknown name 'fast'"),
        (["--config.model.mlp.hidden_sizes=(100000,100000)"], " GiB"),
        (["--workdir=pyproject.toml/run"], "pyproject.toml' is a file, not a folder; choose another path"),
        (["--workdir=tests"], "holds files but no run"),
    ],
)
def test_what_a_training_would_refuse_is_refused(fails, words, message):
    assert message in fails("train", MLP, "--dry_run", *words)


def test_a_run_that_is_done_or_of_another_config_is_not_touched(command, fails, quick_run):
    before = files(quick_run)
    finished = command("train", *QUICK, f"--workdir={quick_run}", "--dry_run")
    assert f"dry run: '{quick_run}' is done already" in finished.stderr
    assert "holds a run of another config" in fails("train", MLP, f"--workdir={quick_run}", "--dry_run")
    finished = command("train", MLP, f"--workdir={quick_run}", "--dry_run", "--overwrite")
    assert "everything is ready to start" in finished.stderr
    assert files(quick_run) == before


def test_a_run_that_was_stopped_is_ready_to_resume(command, quick_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(quick_run, workdir)
    status = json.loads((workdir / "status.json").read_text())
    (workdir / "status.json").write_text(json.dumps({**status, "status": "preempted"}))
    before = files(workdir)
    finished = command("train", *QUICK, f"--workdir={workdir}", "--dry_run")
    assert "everything is ready to resume" in finished.stderr
    assert files(workdir) == before


def test_a_directory_in_which_another_process_trains_is_not_available(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.check_available()
    with directory.hold(), pytest.raises(UserError, match="another process is training in"):
        RunDirectory(directory.path).check_available()
    directory.check_available()


def test_columns_of_the_table_are_aligned():
    differences = [Difference("seed", "0", "7", "--config.seed"), Difference("train.patience", "''", "'5 epochs'", "")]
    assert format_table(differences).splitlines() == [
        "field           default  value       set by",
        "seed            0        7           --config.seed",
        "train.patience  ''       '5 epochs'",
    ]
