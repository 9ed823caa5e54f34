"""The command: what it prints and writes, and what it refuses."""

import json

import pytest

CONFIG = "--config=configs/digits_mlp.py"


@pytest.fixture(scope="module")
def scored(command, quick_run, tmp_path_factory):
    """The directory and the output of a comparison of one source."""
    workdir = tmp_path_factory.mktemp("relevance") / "result"
    words = (CONFIG, f"--source={quick_run}", "--folds=3", "--limit=300", f"--workdir={workdir}")
    return workdir, words, command("relevance", *words)


def test_the_tables_and_the_verdict_are_printed_and_written(scored, quick_run):
    workdir, _, finished = scored
    found = json.loads((workdir / "relevance.json").read_text(encoding="utf-8"))
    assert (found["metric"], found["rows"], found["folds"]) == ("accuracy", 300, {"count": 3, "kind": "group"})
    assert found["of_rows"] > 1000
    assert found["test_rows_untouched"] > 100
    source, random, simple = found["candidates"]
    assert [each["name"] for each in found["candidates"]] == [
        str(quick_run),
        "random mlp",
        "raw inputs, logistic regression",
    ]
    assert source["random"] == "random mlp"
    assert [layer["name"] for layer in source["layers"]] == ["hidden/0", "features"]
    for layer in (*source["layers"], *random["layers"]):
        for score in (layer["probe"], layer["neighbours"]):
            assert len(score["values"]) == 3
            assert 0 <= score["low"] <= score["mean"] <= score["high"] <= 1
        assert layer["logme"][1] < layer["logme"][0] < layer["logme"][2]
    assert simple["layers"][0]["neighbours"] is None
    verdict = found["verdict"]
    assert verdict["take"] == str(quick_run)
    assert set(verdict["differences"]) == {"random mlp", "raw inputs, logistic regression"}

    printed = " ".join(finished.stdout.split())
    assert "300 rows, 3 folds of whole groups; linear probe of the best layer" in printed
    for each in found["candidates"]:
        assert f"{each['probe']['mean']:.4f}" in printed
        assert all(f"{layer['probe']['mean']:.4f}" in printed for layer in each["layers"])
    assert len(found["remarks"]) == 1
    assert found["remarks"][0].startswith(f"{quick_run} was trained on these data: it has seen labels of scored rows")
    for line in (*verdict["lines"], *verdict["warnings"], *found["remarks"]):
        assert line in printed
    assert f"300 of {found['of_rows']:,} rows were drawn (--limit)." in printed
    assert f"The {found['test_rows_untouched']} rows of the test split were not used." in printed
    assert (workdir / "relevance.png").read_bytes().startswith(b"\x89PNG")
    assert "transfer.source: Plumbline or Orbax checkpoint: " in finished.stderr
    # Nothing of it is written beside what was asked for.
    assert {path.name for path in workdir.iterdir() if path.name[0] != "."} == {
        "population.json",
        "relevance.json",
        "relevance.png",
        "relevance.svg",
    }


def test_another_question_in_the_same_directory_is_refused(scored, fails):
    workdir, words, _ = scored
    before = (workdir / "relevance.json").read_bytes()
    message = fails("relevance", *words, "--folds=4")
    assert message.startswith(f"--workdir: '{workdir}' holds results that would be lost (folds is 3 there, 4 here)")
    assert (workdir / "relevance.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--source: missing; give at least one, as in transfer.source: a run directory, say"),
        (["--source=/no/such"], "--source: no such file or directory '/no/such'; give a run directory"),
        (["--source=RUN", "--source=RUN"], "is given twice; once is enough"),
        (["--source=RUN", "--folds=1"], "--folds: 1 given; it must be at least 2"),
        (["--source=RUN", "--folds=40"], "--folds: 40 given, but there are 11 groups (and 3 that take no part)"),
        (["--source=RUN", "--limit=-1"], "--limit: -1 given; it must be at least 1, or 0 for all rows"),
    ],
)
def test_a_wrong_word_is_one_line_and_nothing_is_written(fails, quick_run, tmp_path, words, message):
    words = [word.replace("RUN", str(quick_run)) for word in words]
    assert message in fails("relevance", CONFIG, f"--workdir={tmp_path / 'result'}", *words)
    assert not (tmp_path / "result").exists()
