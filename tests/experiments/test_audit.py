"""The command: what it writes, prints and refuses. Its report is tested on findings made by hand."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from configs import defaults
from diagnostics.material import Material
from diagnostics.registry import DIAGNOSTICS

HEADER = "length,colour,kind\n"


def rows(first=1.5):
    colours = ("red", "green", "blue")
    lines = (f"{first + number * 0.37:.2f},{colours[number % 3]},{'ab'[number % 2]}\n" for number in range(60))
    return HEADER + "".join(lines)


@pytest.fixture(scope="module")
def audited(command, tmp_path_factory):
    """A table, the words that audit its data, and what came of it."""
    folder = tmp_path_factory.mktemp("audit")
    table = folder / "table.csv"
    table.write_text(rows())
    words = (f"--config=configs/table.py:{table},target=kind", f"--workdir={folder / 'out'}", "--data-only")
    return table, words, command("audit", *words)


def test_the_data_alone_are_audited_and_all_files_written(audited):
    table, _, finished = audited
    out = table.parent / "out"
    found = json.loads((out / "findings.json").read_text())
    material = Material(config=defaults.get_config(), examples=None)
    asked = [each for each in DIAGNOSTICS if each.applies(material)]
    assert sorted(finding["name"] for finding in found["findings"]) == sorted(
        name for each in asked for name in each.names
    )
    assert found["data"]["source"] == f"csv:{table}"
    assert found["data"]["splits"] == {"train": 43, "validation": 5, "test": 12}
    assert found["trainings"] is None
    assert set(found["seconds"]) == {each.title for each in asked}
    lines = finished.stdout.splitlines()
    nothing = [finding["name"] for finding in found["findings"] if finding["severity"] == "none"]
    assert f"Looked for, not found ({len(nothing)}): {', '.join(nothing)}" in lines
    for finding in found["findings"]:
        line = f"{finding['severity']:<8} {finding['name']}: {finding['message']}"
        assert (line in lines) == (finding["name"] not in nothing)
    assert finished.stdout.splitlines()[-1] == f"{out}/audit.html, findings.json, findings.npz, plots/"
    with np.load(out / "findings.npz") as arrays:
        assert len(arrays["parts"]) == 1
    assert (out / "audit.html").read_text().startswith("<!doctype html>")
    assert not (out / "population.npz").exists()
    assert not (out / "tracebacks").exists()


def test_changed_data_are_refused_and_audited_again_when_told(audited, command, fails):
    table, words, _ = audited
    out = table.parent / "out"
    kept = (out / "findings.json").read_bytes()
    table.write_text(rows(first=2.5))
    message = f"data.source: the data changed since the audit in '{out}'; give another --workdir, or --overwrite"
    assert fails("audit", *words).endswith(message)
    assert (out / "findings.json").read_bytes() == kept
    command("audit", *words, "--overwrite")
    before, after = (json.loads(text)["data"] for text in (kept, (out / "findings.json").read_bytes()))
    assert before.pop("fingerprint") != after.pop("fingerprint")
    assert before == after


def test_other_splits_are_refused_where_an_audit_is(audited, fails):
    _, words, _ = audited
    refused = fails("audit", *words, "--config.data.test=40 percent")
    assert "holds results that would be lost (data.test is auto there, 40 percent here)" in refused


def test_an_audit_does_not_replace_the_lists_that_it_uses(audited, fails):
    table, words, _ = audited
    out = table.parent / "out"
    kept = (out / "findings.npz").read_bytes()
    used = (f"--config.data.findings={table.parent}/../{table.parent.name}/out", "--config.data.drop=findings:outliers")
    message = f"--workdir: '{out}' is data.findings as well, and would be replaced; give another"
    assert fails("audit", *words, *used, "--overwrite") == message
    assert (out / "findings.npz").read_bytes() == kept


def test_a_damaged_audit_is_told_in_a_line(audited, fails):
    table, words, _ = audited
    file = table.parent / "out" / "findings.json"
    before = file.read_bytes()
    file.write_text('{"data": {"fingerprint": "a"}}')
    assert fails("audit", *words) == f"--workdir: '{file}' is damaged; give another --workdir, or --overwrite"
    file.write_bytes(before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sizes=3",), "--sizes: 3 given; it must be at least 4"),
        (("--data-only", "--folds=3"), "--folds: --data-only trains nothing; leave one of the two out"),
    ],
)
def test_flags_that_do_not_fit_are_told_before_anything_is_read(words, message, fails, tmp_path):
    words = ("--config=configs/digits_mlp.py", f"--workdir={tmp_path / 'out'}", *words)
    assert fails("audit", *words) == message
    assert not (tmp_path / "out").exists()


def test_one_text_has_no_rows_to_audit(fails, tmp_path):
    (tmp_path / "poem.txt").write_text("Tyger Tyger, burning bright,\n" * 400)
    words = f"--config=configs/gpt_tinyshakespeare.py:{tmp_path / 'poem.txt'}"
    message = fails("audit", words, f"--workdir={tmp_path / 'out'}", "--data-only")
    assert "has no rows to audit; name texts with labels" in message


def test_an_audit_of_cleaned_data_keeps_what_was_left_out_before(command, tmp_path):
    lines = rows().splitlines(keepends=True)
    table, first, second = tmp_path / "table.csv", tmp_path / "first", tmp_path / "second"
    table.write_text("".join([*lines, *lines[1:4], *lines[1:20:3]]))
    data = (f"--config=configs/table.py:{table},target=kind", "--data-only")
    command("audit", *data, f"--workdir={first}")
    found = {each["name"]: each for each in json.loads((first / "findings.json").read_text())["findings"]}
    (leaked,) = (each["flags"] for each in found["leaked_duplicates"]["remedies"])
    command("audit", *data, f"--workdir={second}", *leaked)
    found = {each["name"]: each for each in json.loads((second / "findings.json").read_text())["findings"]}
    assert found["leaked_duplicates"]["severity"] == "none"
    (remedy,) = found["exact_duplicates"]["remedies"]
    assert remedy["overrides"] == {
        "data.findings": str(second),
        "data.drop": "findings:before,exact_duplicates",
    }
    with np.load(first / "findings.npz") as before, np.load(second / "findings.npz") as after:
        (part,) = before["parts"]
        np.testing.assert_array_equal(after[f"before/drop/{part}"], before[f"leaked_duplicates/drop/{part}"])
        assert not np.isin(after[f"exact_duplicates/drop/{part}"], after[f"before/drop/{part}"]).any()
    command("audit", *data, f"--workdir={tmp_path / 'third'}", *remedy["flags"])
    cleaned = json.loads((tmp_path / "third" / "findings.json").read_text())
    severities = {each["name"]: each["severity"] for each in cleaned["findings"]}
    assert severities["leaked_duplicates"] == "none"


def trials(table, out, *more):
    short = (
        "--data-only",
        "--apply",
        "--remedy-seeds=2",
        "--config.train.duration=4 epochs",
        "--config.schedule.warmup=",
    )
    return (f"--config=configs/table.py:{table},target=kind", f"--workdir={out}", *short, *more)


def test_a_remedy_that_leaves_no_column_is_not_tried_and_the_audit_is_written(command, tmp_path):
    lines = (f"{number % 2}.{number:03d},{number * 7 % 60},{'ab'[number % 2]}\n" for number in range(80))
    (tmp_path / "table.csv").write_text("answer,number,kind\n" + "".join(lines))
    command("audit", *trials(tmp_path / "table.csv", tmp_path / "out", "--config.data.ignore=('number',)"))
    found = {each["name"]: each for each in json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]}
    assert found["leaking_columns"]["remedies"][0]["overrides"] == {"data.ignore": ["number", "answer"]}
    untried = dict(found["tried_remedies"]["evidence"][1]["rows"])
    assert "has no input columns left" in untried["data.ignore = ('number', 'answer')"]


def test_where_remedies_cannot_be_judged_the_other_findings_are_written(command, tmp_path):
    (tmp_path / "table.csv").write_text(rows())
    test = f"--config.data.test={tmp_path / 'same.csv'}"
    (tmp_path / "same.csv").write_text("".join(rows().splitlines(keepends=True)[:40]))
    words = trials(
        tmp_path / "table.csv", tmp_path / "out", test, "--config.data.validation=none", "--config.train.patience="
    )
    command("audit", *words)
    found = {each["name"]: each for each in json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]}
    assert found["leaked_duplicates"]["severity"] == "high"
    assert found["tried_remedies"]["severity"] == "unknown"
    assert found["tried_remedies"]["message"].startswith("Cannot tell: all test rows have a copy in the training rows")


@pytest.mark.slow
def test_remedies_against_wrong_labels_are_kept_and_useless_ones_rejected(command, fails, tmp_path):
    inputs, labels = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    train, wrong = np.arange(1415), generator.choice(1415, 283, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + generator.integers(1, 10, len(wrong))) % 10
    header = ",".join([*(f"p{number}" for number in range(64)), "label"])
    for name, chosen in (("train", train), ("test", np.arange(1415, 1797))):
        table = np.column_stack([inputs[chosen], given[chosen]]).astype(int)
        np.savetxt(tmp_path / f"{name}.csv", table, fmt="%d", delimiter=",", header=header, comments="")
    words = [
        "--config=configs/digits_mlp.py",
        f"--config.data.source=csv:{tmp_path / 'train.csv'}",
        f"--config.data.test={tmp_path / 'test.csv'}",
        "--config.data.target=label",
        "--config.data.task=classification",
        "--config.augment.shift=0",
        f"--workdir={tmp_path / 'out'}",
        "--sizes=4",
        "--seeds=1",
        "--apply",
    ]
    assert fails("audit", *words, "--remedies=label_error").startswith("--remedies: unknown name 'label_error'; did")
    command("audit", *words, "--remedies=label_errors,outliers")
    found = {each["name"]: each for each in json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]}
    verdicts = {row[0]: row[-1] for row in found["tried_remedies"]["evidence"][0]["rows"]}
    assert verdicts["data.drop = 'findings:label_errors'"].startswith("kept")
    assert verdicts["data.drop = 'findings:outliers'"].startswith("rejected")
    dropped = found["label_errors"]["drop"]
    rows = np.concatenate([split["rows"] for split in dropped.values()])
    assert len(np.intersect1d(rows, wrong)) > 0.9 * len(rows)


@pytest.mark.slow
def test_a_run_is_audited_with_the_fit_it_came_to(command, quick_run, tmp_path):
    command("audit", f"--run={quick_run}", f"--workdir={tmp_path / 'out'}")
    about = json.loads((tmp_path / "out" / "findings.json").read_text())
    found = {finding["name"]: finding for finding in about["findings"]}
    assert about["trainings"] is None
    assert {"exact_duplicates", "fit", "baselines", "calibration", "optimisation"} <= set(found)
    assert "label_errors" not in found
    # Of thirty steps, all the way up.
    assert found["fit"]["message"].startswith(("The model underfits", "Cannot tell"))
    assert not (tmp_path / "out" / "tracebacks").exists()


def test_a_run_takes_the_place_of_a_config(fails, tmp_path):
    words = (f"--run={tmp_path / 'none'}", f"--workdir={tmp_path / 'out'}")
    assert fails("audit", *words).startswith(f"--run: no config.json in '{tmp_path / 'none'}'")
    assert fails("audit", *words, "--folds=3") == "--folds: --run trains nothing; leave one of the two out"
