import json

import numpy as np
import pytest
from sklearn import model_selection

MLP = "--config=configs/digits_mlp.py"
QUICK = (MLP, "--config.train.duration=30 steps", "--config.train.evaluate_every=30 steps")


def test_grouped_folds_are_set_beside_shuffled_ones_and_leakage_is_told(command, tmp_path):
    workdir = tmp_path / "cv"
    words = (MLP, "--config.train.duration=20 epochs", "--groups=writer", f"--workdir={workdir}")
    output = command("crossvalidate", *words).stdout
    assert "LEAKAGE: shuffled folds look better by" in output
    assert "5 folds, whole groups; 1 seed\n" in output
    assert "The 382 rows of the test split were not used." in output
    summary = json.loads((workdir / "summary.json").read_text())
    grouped, shuffled = (summary["folds"][kind]["metrics"]["accuracy"]["mean"] for kind in ("group", "stratified"))
    assert shuffled - grouped > 0.02
    difference, low, high = summary["leakage"]["difference"]
    assert low < difference < high
    assert summary["leakage"]["leaks"]
    with np.load(workdir / "out_of_fold.npz") as arrays:
        assert arrays["prediction"].shape == (1415, 10)
        np.testing.assert_array_equal(arrays["row"], np.arange(1415))
        np.testing.assert_array_equal(arrays["prediction"], arrays["predictions"][0])
        assert (arrays["split"] == "validation").sum() > 100
        assert not (arrays["split"] == "test").any()
        # Each writer's rows are in one fold.
        assert len(set(zip(arrays["group"], arrays["fold"][0], strict=True))) == 11
        right = arrays["prediction"].argmax(axis=1) == arrays["label"]
    assert right.mean() == pytest.approx(summary["folds"]["group"]["accuracy_over_rows"][0])


@pytest.mark.slow
def test_one_group_is_left_out_at_a_time_against_as_many_shuffled_folds(command, tmp_path):
    words = (*QUICK, "--groups=writer", "--leave-one-group-out", f"--workdir={tmp_path / 'cv'}")
    assert "11 folds, one group each" in command("crossvalidate", *words).stdout
    summary = json.loads((tmp_path / "cv/summary.json").read_text())
    assert {kind: each["count"] for kind, each in summary["folds"].items()} == {
        "leave_one_group_out": 11,
        "stratified": 11,
    }


@pytest.mark.slow
def test_a_regression_is_cross_validated_over_seeds_and_goes_on_with_more(command, tmp_path):
    words = ("--config=configs/diabetes_mlp.py", "--config.train.duration=30 steps", f"--workdir={tmp_path}/cv")
    command("crossvalidate", *words, "--folds=3", "--seeds=2")
    before = np.load(tmp_path / "cv/out_of_fold.npz")
    command("crossvalidate", *words, "--folds=3", "--seeds=3")
    after = np.load(tmp_path / "cv/out_of_fold.npz")
    np.testing.assert_array_equal(after["seed"], [0, 1, 2])
    np.testing.assert_array_equal(after["predictions"][:2], before["predictions"])
    assert json.loads((tmp_path / "cv/summary.json").read_text())["population"]["trainings"] == 3
    rows = len(after["row"])
    for seed in range(3):
        splitter = model_selection.KFold(3, shuffle=True, random_state=seed)
        for number, (_, held_out) in enumerate(splitter.split(np.arange(rows))):
            assert (after["fold"][seed, held_out] == number).all()


def test_other_folds_are_refused_where_results_are_and_two_have_no_interval(command, fails, tmp_path):
    workdir = f"--workdir={tmp_path / 'cv'}"
    output = command("crossvalidate", *QUICK, "--folds=2", workdir).stdout
    assert "Too few folds for an interval, which takes at least 3." in output
    assert "nan" not in output
    summary = json.loads((tmp_path / "cv/summary.json").read_text())
    assert summary["folds"]["stratified"]["metrics"]["accuracy"]["low"] is None
    before = (tmp_path / "cv/out_of_fold.npz").read_bytes()
    assert "would be lost (folds is 2 there, 3 here); give" in fails("crossvalidate", *QUICK, "--folds=3", workdir)
    assert "belongs to `plumbline crossvalidate`" in fails("learning_curve", *QUICK, "--overwrite", workdir)
    assert "holds files but no run" in fails("train", *QUICK, "--overwrite", workdir)
    assert (tmp_path / "cv/out_of_fold.npz").read_bytes() == before


def test_folds_that_diverge_end_with_code_3(command, tmp_path):
    words = (*QUICK, "--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e30")
    finished = command("crossvalidate", *words, "--config.train.max_skipped=2", f"--workdir={tmp_path}/cv", code=3)
    assert "diverged: stratified, seed 0, fold 0" in finished.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MLP, "--folds=1"], "--folds: 1 given; cross-validation takes at least 2"),
        ([MLP, "--folds=400"], "--folds: 400 given, but class '8' has 1"),
        ([MLP, "--groups=writer", "--folds=12"], "--folds: 12 given, but there are 11 groups (and 3 in the test split"),
        ([MLP, "--groups=author"], "--groups: no 'author' in 'digits', whose groups are 'writer 0', 'writer 1', ..."),
        ([MLP, "--leave-one-group-out"], "--leave-one-group-out: of which groups? name them with --groups=NAME"),
        ([MLP, "--groups=writer", "--leave-one-group-out", "--folds=3"], "--folds: --leave-one-group-out has a fold"),
        ([MLP, "--seeds=0"], "--seeds: 0 given; it must be at least 1"),
        ([MLP, "stray"], "'stray': this command takes flags only"),
        ([], "--config: missing"),
        (["--config=configs/breast_cancer_mlp.py", "--groups=hospitl"], "hospitl"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(fails, tmp_path, words, message):
    assert message in fails("crossvalidate", *words, f"--workdir={tmp_path / 'cv'}")
    assert not (tmp_path / "cv").exists()


def test_a_missing_directory_and_one_of_something_else_are_told(fails, tmp_path):
    assert "--workdir: missing" in fails("crossvalidate", MLP)
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds other files" in fails("crossvalidate", MLP, f"--workdir={tmp_path}")
