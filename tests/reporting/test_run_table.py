"""The table of runs: what it collects, its intervals, and its forms."""

import csv
import io
import json
import pathlib

import numpy as np
import pandas
import pytest
from scipy import stats

from configs import digits_mlp
from data import Features
from plumbline import UserError
from reporting import run_records, run_table

FEATURES = Features(kind="image", shape=(8, 8, 1), dtype="uint8", task="classification", class_names=("0", "1"))
START = {"time": 1796063141.5, "folder": "/home/x", "commit": "a" * 40, "dirty": True, "git": ""}


def write_run(folder, *, status="done", accuracy=0.5, command="plumbline train", ran_in="/home/x", **fields):
    """The files of a run, as the training writes them."""
    config = digits_mlp.get_config()
    config.update_from_flattened_dict(fields)
    folder.mkdir(parents=True)
    write = {"config.json": config.to_dict(), "features.json": FEATURES.to_json()}
    write["status.json"] = {"status": status, "step": 7, "reason": ""}
    if command:
        write["provenance.json"] = {"starts": [{**START, "command": command, "folder": ran_in}]}
    if status == "done":
        metrics = {"accuracy": accuracy, "loss": 1 - accuracy, "accuracy/class/0": 0.1}
        write["summary.json"] = {"metrics": {"test": metrics}, "total_seconds": 3.5}
    for name, value in write.items():
        (folder / name).write_text(json.dumps(value))
    lines = [{"step": 3, "time": 1.0, "split": "validation", "accuracy": 0.25, "loss": None}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def folder(tmp_path):
    for seed, accuracy in enumerate([0.8, 0.9, 0.85]):
        write_run(tmp_path / f"seed{seed}", accuracy=accuracy, seed=seed)
    write_run(tmp_path / "deep" / "fast", accuracy=0.7, **{"optimizer.learning_rate": 0.5})
    write_run(tmp_path / "linear", status="running", **{"model.name": "linear"})
    return tmp_path


def test_there_is_a_row_for_each_run_with_the_fields_that_differ(folder):
    (folder / "seed0" / "checkpoints" / "3").mkdir(parents=True)
    frame = run_records.runs(folder)
    assert list(frame["run"]) == ["deep/fast", "linear", "seed0", "seed1", "seed2"]
    fields = [name for name in frame if name.startswith("config.")]
    # Neither what all have in common, nor sections of the model that one of them has not.
    assert sorted(fields) == ["config.model.name", "config.optimizer.learning_rate", "config.seed"]
    fast = frame.set_index("run").loc["deep/fast"]
    assert fast["config.optimizer.learning_rate"] == 0.5
    assert (fast["status"], fast["step"], fast["seconds"], fast["dirty"]) == ("done", 7, 3.5, True)
    assert (fast["commit"], fast["folder"], fast["command"]) == ("a" * 40, "/home/x", "plumbline train")
    assert fast["started"] == pandas.Timestamp("2026-11-30 18:25:41.5", tz="UTC")
    assert "accuracy/class/0" not in frame


def test_intervals_are_those_of_student_over_seeds_of_one_config(folder):
    frame = run_records.runs(folder).set_index("run")
    values = np.array([0.8, 0.9, 0.85])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    for run in ("seed0", "seed1", "seed2"):
        assert frame.loc[run, "seeds"] == 3
        assert frame.loc[run, "accuracy mean"] == pytest.approx(values.mean())
        # An accuracy is at most 1.
        assert frame.loc[run, "accuracy low"] == pytest.approx(expected.low)
        assert frame.loc[run, "accuracy high"] == pytest.approx(min(1, expected.high))
    alone = frame.loc["deep/fast", ["seeds", "accuracy mean", "accuracy low"]].tolist()
    assert alone[:2] == [1, 0.7]
    assert np.isnan(alone[2])


def test_the_same_seed_twice_counts_once(folder):
    write_run(folder / "seed0_again", accuracy=0.8, seed=0)
    frame = run_records.runs(folder).set_index("run")
    assert frame.loc["seed0_again", "seeds"] == 3
    assert frame.loc["seed0_again", "accuracy mean"] == pytest.approx(0.85)


def test_a_run_in_progress_has_its_latest_metrics_but_no_part_in_intervals(folder):
    write_run(folder / "seed3", status="running", seed=3)
    frame = run_records.runs(folder, split="validation").set_index("run")
    assert frame.loc["seed3", "accuracy"] == 0.25
    assert frame.loc["seed3", "seeds"] == 3
    assert frame.loc["seed3", "status"] == "running"


def test_runs_of_earlier_versions_and_damaged_ones_are_listed(folder):
    write_run(folder / "early", command="")
    (folder / "seed2" / "status.json").write_text("{")
    (folder / "seed1" / "provenance.json").write_text("[")
    frame = run_records.runs(folder).set_index("run")
    assert pandas.isna(frame.loc["early", "command"])
    assert frame.loc["early", "started"] == pandas.Timestamp(1, unit="s", tz="UTC")
    assert frame.loc["seed2", "status"] == "damaged"
    # Lost are its command and commit, and nothing else.
    assert pandas.isna(frame.loc["seed1", "command"])
    assert (frame.loc["seed1", "status"], frame.loc["seed1", "seeds"]) == ("done", 2)


def test_sorting(folder):
    assert list(run_records.runs(folder, sort="accuracy")["accuracy"])[:4] == [0.7, 0.8, 0.85, 0.9]
    assert list(run_records.runs(folder, sort="-accuracy")["accuracy"])[:4] == [0.9, 0.85, 0.8, 0.7]
    by_field = run_records.runs(folder, sort="-optimizer.learning_rate")
    assert by_field["run"][0] == "deep/fast"
    with pytest.raises(UserError, match=r"--sort: unknown name 'acuracy'; did you mean 'accuracy'"):
        run_records.runs(folder, sort="acuracy")


@pytest.mark.parametrize(("change", "message"), [("missing", "no such folder"), ("", "no run in")])
def test_a_folder_without_runs_is_an_error(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_records.runs(tmp_path / change)


def test_an_extended_run_has_the_commands_of_its_extensions(tmp_path):
    run = write_run(tmp_path / "run")
    times = {1.0: "plumbline train a", 2.0: "plumbline train a", 4.0: "plumbline train a --extend"}
    starts = [{**START, "time": time, "command": command} for time, command in times.items()]
    (run / "provenance.json").write_text(json.dumps({"starts": starts}))
    (run / "extensions.json").write_text(json.dumps({"extensions": [{"time": 3.0, "step": 5}]}))
    assert run_records.runs(tmp_path)["command"][0] == "plumbline train a && plumbline train a --extend"


def test_a_folder_in_the_home_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert list(run_records.runs(f"~/{folder.name}")["run"]) == list(run_records.runs(folder)["run"])


def test_csv_has_every_column_unrounded(folder):
    frame = run_records.runs(folder)
    rows = list(csv.DictReader(io.StringIO(run_table.render(frame, "csv"))))
    assert [row["run"] for row in rows] == list(frame["run"])
    assert list(rows[0]) == list(frame)
    assert float(rows[2]["accuracy high"]) == frame["accuracy high"][2]


def test_markdown_and_text_show_the_same_cells(folder):
    frame = run_records.runs(folder, sort="-accuracy")
    markdown = run_table.render(frame, "markdown").splitlines()
    assert markdown[-2] == ""
    cells = [cell.strip() for cell in markdown[2].strip("|").split("|")]
    interval = "0.85 [0.7258, 0.9742] (3)"
    assert cells[:2] == ["seed1", "done"]
    assert cells[-3:] == ["2026-11-30 18:25", "aaaaaaa*", "plumbline train"]
    assert interval in cells
    text = run_table.render(frame, "text").splitlines()
    assert len(text) == 7
    assert text[-1] == markdown[-1] == "commands were run in /home/x"
    assert text[1].split()[0] == "seed1"
    assert interval in text[1]
    assert text[0].index("command") == text[1].index("plumbline train")


def test_text_says_how_many_fields_it_leaves_out(tmp_path):
    names = ("a", "b")
    for place, name in enumerate(names):
        fields = {f"optimizer.{field}": 0.1 + place / 10 for field in ("learning_rate", "weight_decay", "momentum")}
        fields |= {f"optimizer.{field}": 0.1 + place / 10 for field in ("b1", "b2", "clip_norm")}
        fields |= {"train.batch_size": 32 + place, "seed": place, "model.dropout": place / 10}
        write_run(tmp_path / name, **fields)
    frame = run_records.runs(tmp_path)
    remark = "1 more field differs; --fields=NAME,NAME chooses fields, --format=csv shows all"
    for form in ("text", "markdown"):
        lines = run_table.render(frame, form).splitlines()
        assert remark in lines
        # What tells most comes first.
        assert lines[0].replace("|", " ").split()[3:][:8] == [
            *(f"optimizer.{name}" for name in ("b1", "b2", "clip_norm", "learning_rate", "momentum", "weight_decay")),
            *("train.batch_size", "seed"),
        ]
        assert remark not in run_table.render(frame, form, all_fields=True).splitlines()


def test_fields_are_chosen_by_name(folder):
    frame = run_records.runs(folder, fields="model.name", metrics="accuracy")
    assert [name for name in frame if name.startswith("config.")] == ["config.model.name"]
    assert "loss" not in frame
    assert list(frame["config.model.name"]) == ["mlp", "linear", "mlp", "mlp", "mlp"]
    with pytest.raises(UserError, match=r"--fields: unknown name 'model.nam'; did you mean 'model.name'"):
        run_records.runs(folder, fields=["model.nam"])


def test_a_split_that_no_data_set_has_is_an_error(folder):
    with pytest.raises(UserError, match=r"--split: unknown name 'tset'; did you mean 'test'"):
        run_records.runs(folder, split="tset")


def test_a_command_says_where_it_was_run_and_a_run_from_python_that_it_has_none(folder):
    write_run(folder / "other", ran_in="/home/y z")
    write_run(folder / "notebook", command="interactive Python")
    for form in ("text", "markdown"):
        lines = {
            line.strip("| ").split()[0]: line for line in run_table.render(run_records.runs(folder), form).splitlines()
        }
        assert "cd '/home/y z' && plumbline train" in lines["other"]
        assert "cd /home/x && plumbline train" in lines["linear"]
        assert "none (interactive Python)" in lines["notebook"]
    assert list(run_records.runs(folder / "other")["command"]) == ["plumbline train"]


def test_the_command_prints_the_table(command, fails, folder):
    printed = command("runs", folder, "--sort=-accuracy", "--format=csv").stdout
    assert [row["run"] for row in csv.DictReader(io.StringIO(printed))][:2] == ["seed1", "seed2"]
    assert "acuracy" in fails("runs", folder, "--metrics=acuracy")
    assert "one" in fails("runs", folder, folder)
    assert pathlib.Path(folder).name in fails("runs", folder / "linear" / "nothing")
