import json

import pytest

MLP = "--config=configs/digits_mlp.py"
REGRESSION = "--config=configs/diabetes_mlp.py"


@pytest.mark.slow
def test_it_says_what_twice_the_data_bring_and_what_an_accuracy_takes(command, tmp_path):
    workdir = tmp_path / "curve"
    words = (MLP, "--config.train.duration=300 steps", "--config.train.evaluate_every=100 steps", "--accuracy=0.93")
    output = command("learning_curve", *words, f"--workdir={workdir}").stdout
    figures = json.loads((workdir / "learning_curve.json").read_text())
    assert [row["examples"] for row in figures["sizes"]][-3:] == [638, 902, 1276]
    assert all(len(row["values"]) == 3 for row in figures["sizes"])
    assert figures["sizes"][-1]["mean"][0] > figures["sizes"][0]["mean"][0] + 0.02
    assert figures["steps"] == 300
    twice = figures["twice"]
    assert twice["examples"] == 2552
    assert twice["one_training"][1] < twice["mean"][0] < twice["one_training"][2]
    assert "Twice the data, 2,552 examples: accuracy" in output
    assert "accuracy 0.93: " in output
    assert set(figures["needed"]) == {"for", "examples", "low", "high", "reason"}
    # The prediction from half of the data covers what all of them brought.
    assert figures["hindsight"]["covered"]
    assert (figures["hindsight"]["from"], figures["hindsight"]["to"]) == (638, 1276)
    assert (workdir / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_subsets_train_as_long_as_the_whole_by_what_the_config_says_of_it(command, tmp_path):
    words = (REGRESSION, "--sizes=4", "--seeds=2", "--target=2000", "--config.train.duration=3 epochs")
    output = command("learning_curve", *words, f"--workdir={tmp_path}/curve").stdout
    figures = json.loads((tmp_path / "curve/learning_curve.json").read_text())
    # 3 epochs of 301 rows in batches of 32.
    assert figures["sizes"][-1]["examples"] == 301
    assert figures["steps"] == 29
    assert figures["metric"] == "mse"
    assert "mse 2000: cannot say: " in output
    # Four sizes leave too few of them below the half.
    assert figures["hindsight"] is None
    assert "No look in hindsight: 3 of the 4 sizes hold up to half of the rows, and a power law takes 4; " in output
    assert figures["no_hindsight"] in output


@pytest.mark.slow
def test_one_seed_has_no_interval_of_chance_and_says_so(command, tmp_path):
    words = (MLP, "--config.train.duration=60 steps", "--config.train.evaluate_every=60 steps", "--sizes=5")
    output = command("learning_curve", *words, "--seeds=1", f"--workdir={tmp_path}/curve").stdout
    assert "One training of each size gives no interval for chance in training" in output
    assert "nan" not in output
    assert "over seeds" not in output
    figures = json.loads((tmp_path / "curve/learning_curve.json").read_text())
    assert all(row["mean"][1:] == [None, None] for row in figures["sizes"])
    assert figures["no_hindsight"] is None
    assert "In hindsight: the sizes up to 638 said" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MLP, "--sizes=3"], "--sizes: 3 given; it must be at least 4"),
        ([MLP, "--sizes=2000"], "--sizes: 2000 given, but 1276 training rows"),
        ([MLP, "--seeds=0"], "--seeds: 0 given; it must be at least 1"),
        ([MLP, "--accuracy=95"], "--accuracy: 95.0 given; it must lie between 0 and 1"),
        ([MLP, "--target=1"], "--target: is for a regression; give --accuracy=SHARE"),
        ([REGRESSION, "--accuracy=0.9"], "--accuracy: is for a classification; give --target=MSE"),
        ([REGRESSION, "--target=0"], "--target: 0.0 given; a mean squared error is more than 0"),
        ([MLP, "--config.train.duration=long"], "train.duration: 'long' is not a duration"),
        ([], "--config: missing"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(fails, tmp_path, words, message):
    assert message in fails("learning_curve", *words, f"--workdir={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_trainings_that_diverge_are_told(command, tmp_path):
    words = (
        MLP,
        "--config.optimizer.name=sgd",
        "--config.optimizer.learning_rate=1e30",
        "--config.train.max_skipped=2",
    )
    finished = command(
        "learning_curve", *words, "--config.train.duration=30 steps", f"--workdir={tmp_path}/out", code=2
    )
    assert "error: learning_curve: 24 trainings diverged, and too few sizes are left; lower " in finished.stderr
