import csv
import dataclasses
import json
import pathlib
import random
import re
import signal
import time

import pytest

from configs import digits_mlp, digits_vit
from data.pool import load_pool
from experiments.sweep_options import Options
from experiments.sweeping import sweep
from plumbline import UserError
from reporting.best_config import BaseConfig
from tuning.feasibility import check_values
from tuning.space_parsing import parse

# A search of seconds.
QUICK = (
    "--config=configs/digits_mlp.py",
    "--config.train.duration=2 epochs",
    "--config.train.evaluate_every=1 epochs",
    "--config.model.mlp.hidden_sizes=(16,)",
)


def trials(workdir):
    with (workdir / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def searched(command, tmp_path_factory):
    """The directory of a finished search, what it printed, and its summary."""
    workdir = tmp_path_factory.mktemp("searched") / "sweep"
    words = ("--sampler=tpe", "--trials=12", "--folds=3", "--config.population.lanes=12")
    printed = command("sweep", *QUICK, f"--workdir={workdir}", *words).stdout
    return workdir, printed, json.loads((workdir / "summary.json").read_text())


def test_a_search_prints_the_best_trials_and_writes_what_it_found(searched):
    workdir, printed, summary = searched
    rows = trials(workdir)
    assert [row["trial"] for row in rows] == [str(number) for number in range(12)]
    best = max(rows, key=lambda row: float(row["accuracy"]))
    assert f"{float(best['accuracy']):.4g} (" in printed
    assert "mean and 95 % interval over 3 folds" in printed
    assert re.search(r"the best of 12.*: accuracy .* as selected, .* on folds that did not select it", printed)
    assert "no importances: too few trials (12 finished; " in printed
    assert "Best of 12 trials (" in printed
    for name in ("history", "slices"):
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (workdir / f"{name}.svg").read_bytes()
    assert summary["best"][0]["trial"] == int(best["trial"])
    assert summary["population"]["trainings"] == 36


def test_the_best_config_is_trained_by_the_train_command(searched, command, tmp_path):
    workdir, *_ = searched
    command(
        "train", f"--config={workdir / 'best_config.py'}", f"--workdir={tmp_path}", "--config.train.tensorboard=False"
    )
    config = json.loads((tmp_path / "config.json").read_text())
    best = max(trials(workdir), key=lambda row: float(row["accuracy"]))
    assert config["optimizer"]["learning_rate"] == float(best["optimizer.learning_rate"])
    assert config["model"]["mlp"]["hidden_sizes"] == [16]
    assert config["train"]["duration"] == "2 epochs"


@pytest.mark.slow
def test_a_trial_is_the_run_that_train_makes_of_its_config(command, tmp_path):
    words = (*QUICK, "--config.execution.mode=loop", "--config.population.mode=loop")
    command("sweep", *words, f"--workdir={tmp_path / 'sweep'}", "--sampler=random", "--trials=2")
    command("train", f"--config={tmp_path / 'sweep' / 'best_config.py'}", f"--workdir={tmp_path / 'run'}", timeout=120)
    best = max(trials(tmp_path / "sweep"), key=lambda row: float(row["accuracy"]))
    alone = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]["validation"]
    assert float(best["accuracy"]) == pytest.approx(alone["accuracy"], abs=1e-6)
    assert float(best["loss"]) == pytest.approx(alone["loss"], rel=1e-4)


def test_a_finished_search_is_reported_again_and_trains_nothing(searched, command):
    workdir, printed, _ = searched
    words = ("--sampler=tpe", "--trials=12", "--folds=3", "--config.population.lanes=12")
    again = command("sweep", *QUICK, f"--workdir={workdir}", *words)
    assert again.stdout == printed
    assert "trainings" not in again.stderr


@pytest.mark.slow
def test_a_grid_is_searched_whole_and_halved(command, tmp_path):
    words = ("--sampler=grid", "--pruner=halving", "--config.population.lanes=32")
    command("sweep", *QUICK, f"--workdir={tmp_path}", *words)
    rows = trials(tmp_path)
    assert len({tuple(row[name] for name in row if "." in name) for row in rows}) == len(rows) == 64
    # 64, 22, 8 and 3 trials come to the rungs of scikit-learn's halving; 39 steps are two epochs of 1285 rows less the
    # validation ones.
    total = max(int(row["step"]) for row in rows)
    reached = [sum(int(row["step"]) >= total // 27 * 3**rung for row in rows) for rung in range(3)]
    assert reached == [64, 22, 8]
    assert sum(row["status"] == "done" for row in rows) == 3
    assert sum(row["status"] == "pruned" for row in rows) == 61


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["hyperband", "median"])
def test_pruners_stop_trials_and_train_some_to_the_end(pruner, command, tmp_path):
    words = ("--sampler=random", f"--pruner={pruner}", "--trials=18", "--config.population.lanes=18")
    command("sweep", *QUICK, f"--workdir={tmp_path}", *words)
    states = [row["status"] for row in trials(tmp_path)]
    assert {"done", "pruned"} == set(states)


@pytest.mark.slow
def test_several_metrics_give_a_front(command, tmp_path):
    config = tmp_path / "widths.py"
    config.write_text(
        "from configs.digits_mlp import get_config\n"
        "def sweep():\n"
        "    return {'model.mlp.hidden_sizes': [(4,), (8,), (64,)]}\n"
    )
    words = ("--sampler=grid", "--metric=accuracy,parameters,latency", f"--workdir={tmp_path / 'sweep'}")
    printed = command("sweep", f"--config={config}", *QUICK[1:3], *words).stdout
    assert "Pareto front (" in printed
    assert "latency (ms)" in printed
    assert "best_config.py is trial 2, the point with the highest accuracy on the front of " in printed
    header = (tmp_path / "sweep" / "best_config.py").read_text()
    assert header.startswith('"""Trial 2, one point of the front of 3 trials of ')
    assert (tmp_path / "sweep" / "pareto.png").exists()
    # Of a hidden layer: 64 inputs and 10 outputs with their biases.
    found = {row["model.mlp.hidden_sizes"]: float(row["parameters"]) for row in trials(tmp_path / "sweep")}
    assert found == {f"({n},)": (64 + 1) * n + (n + 1) * 10 for n in (4, 8, 64)}


def test_trials_that_diverge_fail(command, tmp_path):
    config = tmp_path / "rates.py"
    config.write_text(
        "from configs.digits_mlp import get_config\n"
        "def sweep():\n"
        "    return {'optimizer.learning_rate': [1e-3, 1e30], 'optimizer.name': ['sgd']}\n"
    )
    words = (f"--config={config}", *QUICK[1:3], "--config.train.max_skipped=3", "--sampler=grid", "--folds=2")
    printed = command("sweep", *words, f"--workdir={tmp_path / 'sweep'}").stdout
    good, bad = sorted(trials(tmp_path / "sweep"), key=lambda row: float(row["optimizer.learning_rate"]))
    assert (good["status"], bad["status"], bad["reason"]) == ("done", "failed", "2 of 2 trainings diverged")
    assert f"1 trial failed: 2 of 2 trainings diverged (trial {bad['trial']})" in printed


# A batch of 60 cannot be taken in 16 parts, but each of the values is right.
UNFIT = """
from configs.digits_mlp import get_config
def sweep():
    return {"train.batch_size": %s, "train.accumulation_steps": %s}
"""


@pytest.mark.slow
def test_trials_whose_values_do_not_fit_together_fail_and_the_search_goes_on(command, tmp_path):
    (tmp_path / "mine.py").write_text(UNFIT % ([60, 64], [1, 16]))
    words = (f"--config={tmp_path / 'mine.py'}", *QUICK[1:], "--sampler=grid", f"--workdir={tmp_path / 'sweep'}")
    finished = command("sweep", *words)
    failed = [row for row in trials(tmp_path / "sweep") if row["status"] == "failed"]
    assert [(row["train.batch_size"], row["train.accumulation_steps"]) for row in failed] == [("60", "16")]
    assert failed[0]["reason"].startswith("train.batch_size: 60 is not divisible over 16 accumulation steps")
    assert f"1 trial failed: {failed[0]['reason']} (trial {failed[0]['trial']})" in finished.stdout
    assert "3 done, 1 failed; best accuracy " in finished.stderr
    # A failed trial is not run again.
    assert command("sweep", *words).stdout == finished.stdout


def test_a_search_without_a_valid_trial_ends_with_one_line(command, tmp_path):
    (tmp_path / "mine.py").write_text(UNFIT % ([60, 62], [16]))
    words = (f"--config={tmp_path / 'mine.py'}", "--sampler=grid", f"--workdir={tmp_path / 'sweep'}")
    last = command("sweep", *words, code=2).stderr.splitlines()[-1]
    assert last.startswith("error: sweep(): no trial finished; 2 trials failed: train.batch_size: 60 is not divisible")
    assert [row["status"] for row in trials(tmp_path / "sweep")] == ["failed"] * 2


def test_a_value_that_fits_only_with_another_is_no_error(tmp_path):
    config = digits_vit.get_config()
    pool = load_pool(config.data, seed=0)
    # The config has 4 heads, which cannot share out a width of 30; 3 can.
    both = parse({"model.vit.width": [32, 30], "model.vit.heads": [3]}, config)
    check_values(both, config, pool)
    with pytest.raises(UserError, match=r"with 'model.vit.width' at 30, .* 4 heads do not divide the width 30"):
        check_values(parse({"model.vit.width": [30, 32]}, config), config, pool)


@pytest.mark.slow
def test_no_batch_is_begun_after_the_budget_and_the_next_start_goes_on(command, tmp_path):
    words = (*QUICK, f"--workdir={tmp_path}", "--trials=4", "--config.population.lanes=2")
    stopped = command("sweep", *words, "--budget=0.001 seconds")
    assert "--budget: spent after" in stopped.stderr
    assert [row["status"] for row in trials(tmp_path)] == ["done", "done", "waiting", "waiting"]
    command("sweep", *words)
    assert [row["status"] for row in trials(tmp_path)] == ["done"] * 4


def sweep_words(workdir):
    lanes = "--config.population.lanes=4"
    return (*QUICK, f"--workdir={workdir}", "--trials=12", "--folds=2", "--sampler=tpe", lanes)


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    """The directory of a finished search, and the seconds that it took."""
    workdir, began = tmp_path_factory.mktemp("uninterrupted"), time.monotonic()
    command("sweep", *sweep_words(workdir))
    return workdir, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_search_killed_twice_at_random_moments_ends_with_the_trials_of_an_uninterrupted_one(
    seed, command, uninterrupted, tmp_path
):
    (whole, seconds), moments = uninterrupted, random.Random(seed)
    for _ in range(2):
        process = command.start("sweep", *sweep_words(tmp_path))
        time.sleep(moments.uniform(0.3, 0.9) * seconds)
        process.kill()
        process.wait()
    command("sweep", *sweep_words(tmp_path))
    assert (tmp_path / "trials.csv").read_text() == (whole / "trials.csv").read_text()


@pytest.mark.slow
def test_sigterm_ends_a_search_with_42_and_the_same_command_goes_on(command, tmp_path):
    process = command.start("sweep", *sweep_words(tmp_path / "stopped"), "--config.train.duration=150 epochs")
    while not (tmp_path / "stopped" / "journal.log").exists():
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 42
    command("sweep", *sweep_words(tmp_path / "stopped"), "--config.train.duration=150 epochs")
    assert [row["status"] for row in trials(tmp_path / "stopped")] == ["done"] * 12


@pytest.mark.slow
def test_two_workers_share_a_search(command, tmp_path):
    storage = f"--storage=journal:{tmp_path / 'study.log'}"
    words = (*QUICK, "--config.train.duration=8 epochs", "--sampler=grid", "--config.population.lanes=4", storage)
    both = [command.start("sweep", *words, f"--workdir={tmp_path / name}") for name in "ab"]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    took = [json.loads((tmp_path / name / "summary.json").read_text())["population"]["trainings"] for name in "ab"]
    assert sum(took) == 64
    assert min(took) > 0
    assert (tmp_path / "a" / "trials.csv").read_text() == (tmp_path / "b" / "trials.csv").read_text()
    assert [row["status"] for row in trials(tmp_path / "a")] == ["done"] * 64


OPTIONS = Options(
    sampler="tpe",
    trials=4,
    folds=0,
    groups="",
    seeds=1,
    pruner="none",
    metric="",
    budget="",
    storage=None,
    study=None,
    dead_after=180,
    overwrite=False,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "grid"}, "--trials: 4 given, but the grid has 64 points; give --trials=64, fewer choices in swe"),
        ({"sampler": "grdi"}, "--sampler: unknown name 'grdi'; did you mean 'grid'?"),
        ({"pruner": "halfing"}, "--pruner: unknown name 'halfing'; did you mean 'halving'?"),
        ({"trials": None}, "--trials: missing; say how many points to try"),
        ({"trials": 0}, "--trials: 0 given; it must be at least 1"),
        ({"seeds": 0}, "--seeds: 0 given; it must be at least 1"),
        (
            {"trials": 1, "pruner": "halving"},
            "--pruner: there is one trial and none to compare it with; give more --trials",
        ),
        ({"folds": 1}, "--folds: 1 given; cross-validation takes at least 2"),
        ({"folds": 200}, "--folds: 200 given, but class '"),
        (
            {"folds": 12, "groups": "writer"},
            "--folds: 12 given, but there are 11 groups (and 3 in the test split, which is not split); give ",
        ),
        ({"groups": "writer"}, "--groups: given without --folds; say how many"),
        ({"metric": "acuracy"}, "--metric: unknown name 'acuracy'; did you mean 'accuracy'?"),
        ({"metric": "acc"}, "--metric: unknown name 'acc'; did you mean 'accuracy'? known: accuracy, "),
        ({"metric": "loss,loss"}, "--metric: 'loss,loss' names one twice; leave it out"),
        ({"metric": "accuracy,parameters", "sampler": "cmaes"}, "--sampler: cmaes takes one metric"),
        ({"metric": "loss,latency", "pruner": "median"}, "--pruner: trials are compared by one metric"),
        ({"metric": "parameters", "pruner": "median"}, "--pruner: 'parameters' does not change during training"),
        (
            {"budget": "3 epochs"},
            "--budget: '3 epochs' is not a time; write a number above 0 and a unit, such as '90 s",
        ),
        ({"budget": "20"}, "--budget: '20' is not a time; write a number above 0 and a unit, such as '90 seconds' or "),
        ({"storage": "sqlite:///x.db"}, "--study: missing; a database holds several"),
        ({"storage": "somewhere"}, "--storage: 'somewhere' is not a storage; write journal:"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing_behind(options, message, tmp_path):
    with pytest.raises(UserError) as error:
        search(tmp_path / "sweep", **options)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "sweep").exists()


def test_without_folds_a_validation_split_is_needed(tmp_path):
    config = digits_mlp.get_config()
    config.data.validation = "none"
    with pytest.raises(UserError, match=r"--folds: missing; the config has no validation split to judge trials on"):
        search(tmp_path / "sweep", config=config)


def search(workdir, *, config=None, **options):
    base = digits_mlp.get_config()
    return sweep(
        config or base,
        digits_mlp.sweep,
        workdir,
        dataclasses.replace(OPTIONS, **options),
        BaseConfig(file=pathlib.Path(digits_mlp.__file__), argument=None, config=base),
    )


NO_SPACE = "from configs.digits_mlp import get_config\n"
EMPTY = f"{NO_SPACE}def sweep():\n    return {{}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NO_SPACE, "has no function sweep(); add one that returns the space: a dict"),
        (EMPTY, "sweep(): the space is empty; name at least one field"),
        (EMPTY.replace("{}", "{'model.dropuot': [0.1]}"), "sweep(): unknown field 'model.dropuot'; did you mean"),
        (
            EMPTY.replace("{}", "{'model.dropout': {'low': 0.0, 'high': 1.1}}"),
            "sweep(): with 'model.dropout' at 1.1, model.dropout: 1.1 given; it must be at least 0 and less than 1",
        ),
        (
            EMPTY.replace("{}", "{'optimizer': [1]}"),
            "sweep(): 'optimizer' is a section; name fields of it, such as 'optimizer.b1', 'optimizer.b2', ",
        ),
        (
            EMPTY.replace("{}", "{'model.name': ['mlp', 'foo']}"),
            "sweep(): with 'model.name' at 'foo', model.name: unknown name 'foo'",
        ),
    ],
)
def test_a_wrong_config_file_is_refused_in_one_line(text, message, fails, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    assert message in fails("sweep", f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'w'}", "--trials=2")


def test_a_storage_that_cannot_be_reached_is_named_in_one_line(fails, tmp_path):
    words = ("--trials=4", "--storage=postgresql://nobody:secret@127.0.0.1:9/none", "--study=s")
    line = fails("sweep", *QUICK, f"--workdir={tmp_path}", *words)
    assert line.startswith("--storage: 'postgresql+pg8000://nobody:***@127.0.0.1:9/none' cannot be reached; gave up af")
    assert re.search(r"; gave up after [0-9.]+ s \(\[Errno \d+\] Connection refused\)$", line)


def test_a_directory_of_another_search_is_refused_and_can_be_overwritten(searched, fails, command, tmp_path):
    workdir, *_ = searched
    assert "holds another search (folds is 3 there, 0 here" in fails(
        "sweep", *QUICK, f"--workdir={workdir}", "--sampler=tpe", "--trials=12", "--config.population.lanes=12"
    )
    (tmp_path / "thesis.txt").write_text("")
    assert "holds files but no search; choose an empty or a new folder" in fails(
        "sweep", *QUICK, f"--workdir={tmp_path}", "--trials=2", "--overwrite"
    )
    own = tmp_path / "own"
    command("sweep", *QUICK, f"--workdir={own}", "--trials=2")
    command("sweep", *QUICK, f"--workdir={own}", "--trials=3", "--sampler=random", "--overwrite")
    assert len(trials(own)) == 3


@pytest.mark.slow
def test_a_trial_is_judged_as_crossvalidate_judges_its_config(command, tmp_path):
    words = (*QUICK, "--config.population.mode=loop")
    command("sweep", *words, f"--workdir={tmp_path / 'sweep'}", "--sampler=random", "--trials=2", "--folds=3")
    best = max(trials(tmp_path / "sweep"), key=lambda row: float(row["accuracy"]))
    config = f"--config={tmp_path / 'sweep' / 'best_config.py'}"
    command("crossvalidate", config, f"--workdir={tmp_path / 'folds'}", "--folds=3", "--seeds=1")
    summary = json.loads((tmp_path / "folds" / "summary.json").read_text())
    assert f"{float(best['accuracy']):.6f}" in {f"{value:.6f}" for value in numbers(summary)}


def numbers(value):
    """All numbers in nested JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, float) else []
