"""Whole runs on texts: what they report, that they go on as if never stopped, and that they answer the same later."""

import csv
import json
import signal

import jax
import numpy as np
import pytest

from configs import defaults
from data.pool import load_pool
from plumbline import UserError
from tests.conftest import POEM
from trainers.populations.population import Member, train_population
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train

LINES = [line for line in POEM.splitlines() if line]


@pytest.fixture
def files(tmp_path, words_tokenizer):
    return write_files(tmp_path, words_tokenizer)


def write_files(folder, words_tokenizer):
    """A text, a table of texts, and the tokenizer of both."""
    (folder / "poem.txt").write_text(POEM * 8)
    with (folder / "lines.csv").open("w", newline="") as file:
        rows = [(f"{LINES[number % 6]} {number}", ("bad", "good")[number % 2]) for number in range(80)]
        csv.writer(file).writerows([("line", "verdict"), *rows])
    (folder / "tokenizer.json").write_bytes((words_tokenizer / "tokenizer.json").read_bytes())
    return folder


def words(folder, name, **fields):
    """Fields of a small run: "gpt" or "bert" on the text, "verdicts" on the table."""
    model = "gpt" if name == "gpt" else "bert"
    on_text = {"data.source": f"text:{folder / 'poem.txt'}"}
    on_table = {"data.source": f"csv:{folder / 'lines.csv'}", "data.target": "verdict", "data.text": "line"}
    return {
        **(on_table if name == "verdicts" else on_text),
        "data.tokenizer": "characters" if name == "gpt" else str(folder / "tokenizer.json"),
        "data.text_length": 12,
        "data.cache_dir": str(folder / "cache"),
        "objective.name": "masked_token" if name == "bert" else "auto",
        "model.name": model,
        **{f"model.{model}.{field}": n for field, n in {"width": 16, "depth": 1, "heads": 2, "mlp_size": 32}.items()},
        "model.dropout": 0.1,
        "optimizer.learning_rate": 3e-3,
        "train.batch_size": 16,
        "train.duration": "12 steps",
        "train.log_every": "3 steps",
        "train.evaluate_every": "6 steps",
        "train.ema_decay": 0.9,
        "train.tensorboard": False,
        "execution.mode": "loop",
        **{field.replace("__", "."): value for field, value in fields.items()},
    }


def make_config(*arguments, **fields):
    config = defaults.get_config()
    config.update_from_flattened_dict(words(*arguments, **fields))
    return config


@pytest.fixture(scope="module", params=["gpt", "bert"])
def language_run(request, tmp_path_factory, words_tokenizer):
    """A config, its data, and a run directory in which it was trained; its tokenizer is gone since: the run has it."""
    folder = write_files(tmp_path_factory.mktemp(request.param), words_tokenizer)
    config = make_config(folder, request.param, population__mode="loop", population__lanes=1)
    train(config, folder / "run", devices=jax.devices()[:1])
    pool = load_pool(config.data, seed=config.seed)
    (folder / "tokenizer.json").unlink()
    return config, pool, folder / "run"


@pytest.mark.slow
def test_a_language_run_reports_per_token_and_measures_the_same_later(language_run):
    _, _, workdir = language_run
    reported = RunDirectory(workdir).summary()["metrics"]["test"]
    assert reported["perplexity"] == pytest.approx(np.exp(reported["loss"]))
    lines = RunDirectory(workdir).metrics()
    assert all(line["loss"] > 0 and 0 <= line["accuracy"] <= 1 for line in lines)
    assert lines[-1].keys() >= {"loss", "perplexity", "accuracy"}
    run = FinishedRun(workdir)
    assert run.evaluate("test") == pytest.approx(reported, rel=1e-6)
    run._batch_size = 8
    assert run.evaluate("test") == pytest.approx(reported, rel=1e-5)
    for predictions in (run.predict([str(workdir.parent / "poem.txt")]), run.predict_split("test")):
        with pytest.raises(
            UserError, match=r"--workdir: holds a language model, .*`plumbline generate` generates text"
        ):
            next(predictions)


@pytest.mark.slow
def test_a_run_on_texts_predicts_what_it_measured(files):
    summary = train(make_config(files, "verdicts"), files / "run", devices=jax.devices()[:1])
    (files / "tokenizer.json").unlink()
    run = FinishedRun(files / "run")
    assert run.evaluate("test") == pytest.approx(summary["metrics"]["test"], rel=1e-6)
    predicted = list(run.predict_split("test"))
    hits = np.mean([each["label"] == each["target"] for each in predicted])
    assert hits == pytest.approx(summary["metrics"]["test"]["accuracy"])
    by_row = {each["input"]: each["probabilities"]["good"] for each in run.predict([str(files / "lines.csv")])}
    of_split = [int(each["input"].partition(":")[2]) for each in predicted]
    from_file = [by_row[f"{files / 'lines.csv'}:{row + 2}"] for row in of_split]
    np.testing.assert_allclose([each["probabilities"]["good"] for each in predicted], from_file, rtol=1e-6)
    (files / "own.txt").write_text(f"{LINES[0]} 0\n")
    (alone,) = run.predict([str(files / "own.txt")])
    assert alone["probabilities"]["good"] == pytest.approx(by_row[f"{files / 'lines.csv'}:2"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt", "bert"])
def test_pmap_over_8_devices_takes_the_steps_of_jit(files, name):
    """What is hidden of an example goes by its place in the whole batch."""
    losses = []
    for mode in ("jit", "pmap"):
        train(make_config(files, name, parallel__mode=mode, optimizer__name="sgd"), files / mode)
        lines = [line for line in RunDirectory(files / mode).metrics() if line["split"] == "train"]
        losses.append([[line["loss"], line["accuracy"]] for line in lines])
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-4)


@pytest.mark.slow
def test_a_member_of_a_population_equals_its_run(language_run):
    config, pool, workdir = language_run
    reported = RunDirectory(workdir).summary()["metrics"]["test"]
    member = Member(
        name="alone",
        overrides={},
        seed=config.seed,
        train=pool.splits["train"],
        validation=pool.splits["validation"],
        held_out=pool.splits["test"],
    )
    outcome = train_population(config, pool, [member], devices=jax.devices()[:1])["alone"]
    for metric in ("loss", "perplexity", "accuracy"):
        assert outcome.metrics[metric] == pytest.approx(reported[metric], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt", "bert"])
def test_a_language_run_that_is_killed_goes_on_as_if_it_was_not(command, runs, files, name):
    changed = {
        "train__duration": "120 steps",
        "train__checkpoint_every": "20 steps",
        "train__evaluate_every": "30 steps",
        "train__log_every": "5 steps",
    }
    fields = words(files, name, data__text_stride=5, **changed)
    (files / "config.py").write_text(
        "from configs import defaults\n\n\ndef get_config():\n    config = defaults.get_config()\n"
        f"    config.update_from_flattened_dict({fields!r})\n    return config\n"
    )
    whole, killed = files / "whole", files / "killed"
    command("train", f"--config={files / 'config.py'}", f"--workdir={whole}")
    process = command.start("train", f"--config={files / 'config.py'}", f"--workdir={killed}")
    runs.wait_for(lambda: runs.checkpoint_steps(killed) and runs.logged_step(killed) > 45, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (files / "tokenizer.json").unlink()  # The run directory has it.
    finished = command("train", f"--config={files / 'config.py'}", f"--workdir={killed}")
    assert "resuming at step" in finished.stderr
    expected, actual = runs.final_state(whole), runs.final_state(killed)
    assert expected.keys() == actual.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(actual[path], array, err_msg=path)
    assert runs.logged(whole) == runs.logged(killed)
    metrics = [json.loads((folder / "summary.json").read_text())["metrics"] for folder in (whole, killed)]
    assert metrics[0] == metrics[1]
