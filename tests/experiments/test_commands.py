"""The commands, as a user runs them: in processes of their own."""

import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from sklearn.metrics import accuracy_score, r2_score


def lines_of(finished):
    return [json.loads(line) for line in finished.stdout.splitlines()]


@pytest.fixture(scope="module")
def samples(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "samples"
    command("samples", folder)
    return folder


def test_training_prints_metrics_of_all_splits_and_evaluation_the_same(command, quick_run, tmp_path):
    command("evaluate", f"--workdir={quick_run}", "--split=test", f"--output={tmp_path / 'm.json'}")
    summary = json.loads((quick_run / "summary.json").read_text())
    assert json.loads((tmp_path / "m.json").read_text()) == summary["metrics"]["test"]
    validation = command("evaluate", f"--workdir={quick_run}", "--split=validation").stdout
    assert f"{summary['metrics']['validation']['accuracy']:.4f}" in validation


def test_the_last_parameters_can_be_asked_for(command, quick_run):
    output = command("evaluate", f"--workdir={quick_run}", "--checkpoint=last").stdout
    assert "last parameters (step 30)" in output


def test_predicting_a_split_gives_the_accuracy_of_the_evaluation(command, quick_run):
    predictions = lines_of(command("predict", f"--workdir={quick_run}", "--split=test"))
    assert len(predictions) == 382
    assert [line["input"] for line in predictions[:2]] == ["test:1415", "test:1416"]
    assert predictions[0]["probabilities"].keys() == set("0123456789")
    assert sum(predictions[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    accuracy = accuracy_score([line["target"] for line in predictions], [line["label"] for line in predictions])
    summary = json.loads((quick_run / "summary.json").read_text())
    assert accuracy == pytest.approx(summary["metrics"]["test"]["accuracy"])


def test_image_files_and_folders_are_predicted_as_the_split_they_come_from(command, quick_run, samples):
    split = lines_of(command("predict", f"--workdir={quick_run}", "--split=test"))
    by_row = {int(line["input"].removeprefix("test:")): line for line in split}
    files = lines_of(command("predict", f"--workdir={quick_run}", samples / "digits" / "test"))
    assert len(files) == 382
    for line in files:
        row = int(line["input"].rsplit("/", 1)[1].removesuffix(".png"))
        assert line["probabilities"] == pytest.approx(by_row[row]["probabilities"], abs=1e-5)


def test_a_damaged_image_is_named_and_all_others_are_predicted(command, fails, quick_run, samples, tmp_path):
    image = next((samples / "digits" / "test" / "3").iterdir())
    (tmp_path / "a.png").write_bytes(image.read_bytes())
    odd = os.fsdecode(b"\xff.png")
    (tmp_path / odd).write_bytes(image.read_bytes())
    for name in ("broken.png", "._a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    finished = command("predict", f"--workdir={quick_run}", tmp_path)
    assert [line["input"] for line in lines_of(finished)] == [f"{tmp_path}/a.png", f"{tmp_path}/\\xff.png"]
    other, hidden, broken = sorted(finished.stderr.splitlines())
    assert hidden.startswith("left out: 1 file with a hidden name, such as")
    assert other.startswith("left out: 1 file of another type (.txt), such as")
    assert broken.startswith(f"not predicted: '{tmp_path}/broken.png' is corrupt (cannot identify image file)")
    command("predict", f"--workdir={quick_run}", tmp_path, f"--output={tmp_path / 'predicted.csv'}")
    assert len((tmp_path / "predicted.csv").read_text().splitlines()) == 3
    assert "broken.png' is corrupt" in fails("predict", f"--workdir={quick_run}", tmp_path / "broken.png")


def test_limit_and_csv_output(command, quick_run, tmp_path):
    output = tmp_path / "predictions.csv"
    printed = command("predict", f"--workdir={quick_run}", "--split=test", "--limit=3", f"--output={output}").stdout
    assert printed == f"{output}: 3 predictions\n"
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert list(rows[0])[:2] == ["input", "label"]
    assert {f"probability {n}" for n in range(10)} < set(rows[0])


def test_a_table_is_trained_evaluated_and_predicted_with_and_without_its_target(command, samples, tmp_path):
    table, workdir = samples / "breast_cancer.csv", tmp_path / "run"
    trained = command("train", f"--config=configs/table.py:{table},target=diagnosis", f"--workdir={workdir}")
    assert "\n  30 numeric: mean radius, mean texture, " in trained.stderr
    assert "\n  splits: 409 train, 46 validation, 114 test\n" in trained.stderr
    accuracy = json.loads((workdir / "summary.json").read_text())["metrics"]["test"]["accuracy"]
    assert accuracy > 0.93
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["left_out"], summary["unused_splits"]) == ([], [])
    with_target = lines_of(command("predict", f"--workdir={workdir}", table))
    assert len(with_target) == 569
    assert with_target[0]["input"] == f"{table}:2"
    assert accuracy_score([p["target"] for p in with_target], [p["label"] for p in with_target]) > 0.93

    bare = tmp_path / "bare.csv"
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    with bare.open("w", newline="") as file:
        csv.writer(file).writerows(row[:-1] for row in rows)
    without = lines_of(command("predict", f"--workdir={workdir}", bare))
    assert "target" not in without[0]
    assert [p["probabilities"] for p in without] == [p["probabilities"] for p in with_target]


def test_a_regression_predicts_in_the_units_of_its_target(command, tmp_path):
    command("train", "--config=configs/diabetes_mlp.py", f"--workdir={tmp_path}")
    predictions = lines_of(command("predict", f"--workdir={tmp_path}", "--split=test"))
    r2 = r2_score([p["target"] for p in predictions], [p["prediction"] for p in predictions])
    metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]["test"]
    assert r2 == pytest.approx(metrics["r2"], abs=1e-4)
    assert r2 > 0.3


def test_help_is_the_documentation_of_the_command(command):
    for name in ("train", "evaluate", "predict", "samples", "sweep"):
        assert f"plumbline {name} " in command(name, "--help").stdout


@pytest.mark.parametrize("library", ["numpy", "jaxlib", "sklearn"])
def test_ctrl_c_during_imports_is_one_line_and_exit_code_130(library, command, tmp_path):
    words = ("--config=configs/digits_mlp.py", f"--workdir={tmp_path}", "--trials=4")
    process = command.start_interpreter("sweep", *words, stderr=subprocess.PIPE, text=True)
    loaded = pathlib.Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and f"/{library}/" not in loaded.read_text():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "interrupted\n")


def test_others_that_import_the_commands_keep_their_ctrl_c():
    import experiments.command

    assert experiments.command.INTERRUPTED == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_home_is_found_and_what_ascii_cannot_show_is_escaped(command, quick_run, tmp_path):
    shutil.copytree(quick_run, tmp_path / "été")
    environment = {**command.environment, "HOME": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    table = command("evaluate", "--workdir=~/été", "--output=~/été.json", env=environment).stdout
    assert "accuracy" in table
    assert (tmp_path / "été.json").exists()
    assert "\\xe9t\\xe9" in command("runs", tmp_path, env=environment).stdout


def test_a_link_to_a_folder_that_does_not_exist_is_named(fails, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    for words in ((), ("--dry_run",)):
        line = fails("train", "--config=configs/digits_linear.py", f"--workdir={tmp_path / 'link' / 'run'}", *words)
        assert line.startswith(f"--workdir: '{tmp_path / 'link'}' is a link to '{tmp_path / 'missing'}', which does")


def test_a_reader_that_leaves_the_help_early_is_no_error(command):
    line = " ".join(command.arguments("runs", "--help"))
    script = f"{line} | true; exit ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", script], env=command.environment, capture_output=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, b"")
