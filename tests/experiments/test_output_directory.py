import dataclasses
import json
import subprocess
import sys

import pytest

from configs import defaults
from experiments import output_directory
from experiments.output_directory import Request
from plumbline import Preempted, UserError
from plumbline.files import write_json
from trainers.run.directory import RunDirectory
from tuning.directory import SweepDirectory

FOLDS = Request(command="crossvalidate", settings={"folds": 5, "groups": "none"}, seeds=2, results=("summary.json",))
TABLE = Request(command="ablate", settings={"'x'": "train.ema_decay = 0.0"}, seeds=2, results=("ablations.md",))


def changed(request, *, seeds=2, **settings):
    return dataclasses.replace(request, seeds=seeds, settings={**request.settings, **settings})


def hold(path, request=FOLDS, *, overwrite=False):
    with output_directory.lock(path, request, overwrite=overwrite):
        pass


def write_results(path, request=FOLDS):
    """A directory with trainings and results; returns its files."""
    with output_directory.lock(path, request, overwrite=False) as output:
        output.claim()
        (path / "population.npz").write_text("trainings")
        output.record_request()
        for name in request.results:
            (path / name).write_text("results")
    return contents(path)


def contents(path):
    return {entry.name: entry.read_text() for entry in path.iterdir()}


def test_a_directory_of_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        hold(tmp_path, overwrite=True)
    with (
        pytest.raises(UserError, match="holds files but no search"),
        SweepDirectory(tmp_path).lock({}, overwrite=False),
    ):
        pass
    assert contents(tmp_path) == {"notes.txt": "mine"}


def test_a_new_directory_in_which_nothing_was_done_goes_again(tmp_path):
    with output_directory.lock(tmp_path / "a/b", FOLDS, overwrite=False) as output:
        output.claim()
        assert (tmp_path / "a/b/population.json").exists()
    assert not (tmp_path / "a").exists()


def test_what_is_kept_in_folders_of_a_directory_is_gone_on_with(tmp_path):
    with output_directory.lock(tmp_path, FOLDS, overwrite=False) as output:
        output.claim()
        (tmp_path / "trials").mkdir()
    with pytest.raises(UserError, match=r"belongs to `plumbline crossvalidate`"):
        hold(tmp_path, TABLE)
    hold(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_other_command_takes_the_directory_of_one_or_touches_it(tmp_path, overwrite):
    before = write_results(tmp_path)
    with pytest.raises(UserError, match=r"belongs to `plumbline crossvalidate`; choose an empty or a new folder"):
        hold(tmp_path, TABLE, overwrite=overwrite)
    with pytest.raises(UserError, match="holds files but no run"):
        RunDirectory(tmp_path).check(defaults.get_config(), overwrite=overwrite)
    with (
        pytest.raises(UserError, match="holds files but no search"),
        SweepDirectory(tmp_path).lock({}, overwrite=overwrite),
    ):
        pass
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("file", "message"), [("config.json", "holds other files"), ("sweep.json", "holds a search")])
def test_the_directory_of_a_run_or_a_search_is_refused(tmp_path, file, message):
    for name in (file, "summary.json", "population.npz"):
        (tmp_path / name).write_text("theirs")
    with pytest.raises(UserError, match=message):
        hold(tmp_path, overwrite=True)
    assert set(contents(tmp_path).values()) - {""} == {"theirs"}


@pytest.mark.parametrize(
    ("before", "now", "difference"),
    [
        (FOLDS, changed(FOLDS, folds=3), r"\(folds is 5 there, 3 here\)"),
        (FOLDS, changed(FOLDS, groups="writer"), r"\(groups is none there, writer here\)"),
        (FOLDS, changed(FOLDS, seeds=1), r"\(seeds is 2 there, 1 here\)"),
        (TABLE, dataclasses.replace(TABLE, settings={}), r"\('x' is train.ema_decay = 0.0 there, nothing here\)"),
    ],
)
def test_results_that_would_be_lost_are_refused_and_kept_unless_overwritten(tmp_path, before, now, difference):
    files = write_results(tmp_path, before)
    with pytest.raises(UserError, match=rf"holds results that would be lost {difference}; give another --workdir, or"):
        hold(tmp_path, now)
    assert contents(tmp_path) == files
    with output_directory.lock(tmp_path, now, overwrite=True) as output:
        # Not before all is found right.
        assert contents(tmp_path).items() >= files.items()
        output.claim()
        assert set(contents(tmp_path)) & {"population.npz", *before.results} == set()


@pytest.mark.parametrize(
    ("before", "now"), [(FOLDS, changed(FOLDS, seeds=3)), (TABLE, changed(TABLE, more="train.patience = ''"))]
)
def test_more_seeds_and_variants_go_on_with_what_is_there(tmp_path, before, now):
    write_results(tmp_path, before)
    with output_directory.lock(tmp_path, now, overwrite=False) as output:
        output.claim()
        assert (tmp_path / "population.npz").read_text() == "trainings"
        output.record_request()
    with pytest.raises(UserError, match="holds results that would be lost"):
        hold(tmp_path, before)


def test_what_was_stopped_before_it_had_results_may_be_asked_something_else(tmp_path):
    with output_directory.lock(tmp_path, FOLDS, overwrite=False) as output:
        output.claim()
        (tmp_path / "population.npz").write_text("trainings")
    hold(tmp_path, changed(FOLDS, seeds=1, folds=3))
    with pytest.raises(UserError, match=r"belongs to `plumbline crossvalidate`;"):
        hold(tmp_path, TABLE)


def test_a_preempted_overwrite_says_to_resume_without_overwrite(tmp_path):
    with (
        pytest.raises(Preempted, match="the same command again to go on, without --overwrite"),
        output_directory.lock(tmp_path, FOLDS, overwrite=True),
    ):
        raise Preempted("SIGTERM; run the same command again to go on")


def test_what_a_kill_left_half_written_is_removed_at_the_next_start(tmp_path):
    write_results(tmp_path)
    (tmp_path / ".summary.json.k1ll_4d0").mkdir()
    hold(tmp_path)
    assert ".summary.json.k1ll_4d0" not in {entry.name for entry in tmp_path.iterdir()}


def test_two_processes_do_not_share_a_directory(tmp_path):
    script = f"""
from experiments import output_directory
request = output_directory.Request(command="ablate", settings={{}}, seeds=1, results=())
with output_directory.lock({str(tmp_path)!r}, request, overwrite=False):
    print("held", flush=True)
    input()
"""
    run = [sys.executable, "-c", script]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training in"):
            hold(tmp_path)
        other.communicate("\n")


def test_figures_that_are_not_finite_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": (1.0, float("nan")), "b": {"c": float("inf")}, "d": "text"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.0, None], "b": {"c": None}, "d": "text"}


def test_every_start_is_recorded_with_its_command(tmp_path):
    for count in (1, 2):
        with output_directory.lock(tmp_path, FOLDS, overwrite=False) as output:
            output.claim()
            (tmp_path / "trials").mkdir(exist_ok=True)
        starts = json.loads((tmp_path / "population.json").read_text())["starts"]
        assert len(starts) == count
        assert {"command", "folder", "time", "commit", "dirty"} < set(starts[-1])
