"""The runner: every question is answered, whatever a diagnostic does."""

import dataclasses

import numpy as np
import pytest

from configs import defaults
from diagnostics import audit
from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import open_examples
from diagnostics.finding import CHALLENGES, Finding, Question, Remedy, Rows, Table
from diagnostics.material import Material
from diagnostics.registry import DIAGNOSTICS
from plumbline import Preempted, UserError


@pytest.fixture(scope="module")
def material():
    config = defaults.get_config()
    config.data.source = "sklearn:iris"
    return Material(config=config, examples=open_examples(config.data, seed=0))


def found(name, severity="none", **fields):
    return Finding(name=name, challenge="data quality", severity=severity, message="So it is.", **fields)


def diagnostic(title, find, *names, **needs):
    questions = tuple(Question(name, "data quality") for name in names or (title,))
    return Diagnostic(title=title, questions=questions, find=find, **needs)


def failing(error):
    def find(material):
        raise error

    return find


def test_a_diagnostic_that_fails_stops_none_of_the_others_and_leaves_its_traceback(material, tmp_path):
    asked = [
        diagnostic("first", lambda material: [found("first", "low")]),
        diagnostic("broken", failing(ZeroDivisionError("division by\nzero")), "one", "two"),
        diagnostic("last", lambda material: [found("last", "high")]),
    ]
    shown = []
    findings = audit.run(material, tmp_path, diagnostics=asked, show=lambda title, seconds: shown.append(title))
    assert [(each.name, each.severity) for each in findings] == [
        ("last", "high"),
        ("first", "low"),
        ("one", "unknown"),
        ("two", "unknown"),
    ]
    path = tmp_path / "tracebacks" / "broken.txt"
    reason = "the diagnostic failed with ZeroDivisionError (division by zero)"
    assert findings[2].message == f"Cannot tell: {reason}; its traceback is in '{path}'."
    assert "in find\n    raise error\nZeroDivisionError: division by\nzero" in path.read_text()
    assert shown == ["first", "broken", "last"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("data.group: there are no groups; name a column"), "data.group: there are no groups; name a column"),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory (Unable to allocate 9 TiB)"),
    ],
)
def test_user_errors_and_lack_of_memory_need_no_traceback(error, reason, material, tmp_path):
    (finding,) = audit.run(material, tmp_path, diagnostics=[diagnostic("it", failing(error))])
    assert (finding.severity, finding.message) == ("unknown", f"Cannot tell: {reason}.")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [Preempted("SIGTERM"), KeyboardInterrupt()])
def test_a_signal_to_stop_does_stop(error, material, tmp_path):
    with pytest.raises(type(error)):
        audit.run(material, tmp_path, diagnostics=[diagnostic("it", failing(error))])


def test_a_traceback_that_cannot_be_written_stops_nothing(material, tmp_path):
    (tmp_path / "tracebacks").write_text("a file where a folder is wanted")
    (finding,) = audit.run(material, tmp_path, diagnostics=[diagnostic("it", failing(ValueError()))])
    assert finding.message.endswith("failed with ValueError; its traceback could not be written.")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], r"returned findings \[\]; expected \['it'\]"),
        ([found("it"), found("it")], r"returned findings \['it', 'it'\]"),
        ([found("other")], r"returned findings \['other'\]"),
        ([found("it", drop=np.array([3, 150]))], "positions from 3 to 150 of 150 examples"),
        ([found("it", drop=np.array([3, 3]))], "not sorted, or repeated"),
        ([found("it", drop=np.array([3, 149]))], "test rows are to be dropped"),
        ([found("it", weights=np.ones(149, np.float32))], "the weights are not 150 numbers from 0 to 1"),
        ([found("it", weights=np.full(150, np.nan))], "the weights are not 150 numbers from 0 to 1"),
        ([found("it", evidence=(Rows(title="a", clusters=((-1, 2),), total=1),))], "positions from -1 to 2 of 150"),
        ([found("it", evidence=(Rows(title="a", clusters=((1,),), notes=("", ""), total=1),))], "2 notes on 1"),
        ([found("it", evidence=(Table(title="a", header=("b",), rows=((1, 2),)),))], "rows of the table 'a' do not"),
    ],
)
def test_a_finding_that_contradicts_itself_is_not_taken(given, reason, material, tmp_path):
    with pytest.raises(ValueError, match=reason):
        audit.check(given, ["it"], material.examples)
    (finding,) = audit.run(material, tmp_path, diagnostics=[diagnostic("it", lambda material: given)])
    assert finding.message.startswith("Cannot tell: the diagnostic failed with ValueError")


def test_sound_findings_are_taken_as_they_are(material, tmp_path):
    rows = Rows(title="a", clusters=((0, 149), (7,)), notes=("b", "c"), total=9)
    given = [found("it", drop=np.array([0, 119]), weights=np.linspace(0, 1, 150, dtype=np.float32), evidence=(rows,))]
    assert audit.run(material, tmp_path, diagnostics=[diagnostic("it", lambda material: given)]) == given


def test_what_needs_trainings_is_not_asked_without(material, tmp_path):
    asked = [
        diagnostic("trained", lambda material: [found("trained", "high")], needs=("trainings",)),
        diagnostic("data", lambda material: [found("data", "unknown")]),
    ]
    assert [each.name for each in audit.run(material, tmp_path, diagnostics=asked)] == ["data"]
    trained = dataclasses.replace(material, trainings=object())
    assert [each.name for each in audit.run(trained, tmp_path, diagnostics=asked)] == ["trained", "data"]


def test_each_need_has_to_be_met_and_one_of_the_alternatives(material, tmp_path):
    asked = diagnostic("it", lambda material: [found("it")], needs=("reference",), needs_any=("trainings", "run"))
    parts = {"reference": object(), "trainings": object(), "run": "runs/it"}
    for names, applies in (
        ((), False),
        (("reference",), False),
        (("run",), False),
        (("reference", "trainings"), True),
        (("reference", "run"), True),
    ):
        own = dataclasses.replace(material, **{name: parts[name] for name in names})
        assert asked.applies(own) == applies
        assert len(audit.run(own, tmp_path, diagnostics=[asked])) == applies


def test_each_question_is_asked_once_and_belongs_to_a_challenge():
    names = [name for each in DIAGNOSTICS for name in each.names]
    assert len(set(names)) == len(names) > 10
    assert len({each.title for each in DIAGNOSTICS}) == len(DIAGNOSTICS)
    assert {question.challenge for each in DIAGNOSTICS for question in each.questions} <= set(CHALLENGES)


def test_what_is_ignored_already_stays_ignored_with_the_remedy(tmp_path):
    config, length, width = defaults.get_config(), "petal length (cm)", "petal width (cm)"
    config.data.update({"source": "sklearn:iris", "ignore": (length,)})
    remedy = Remedy(text="Leave it out.", overrides={"data.ignore": (width, length), "model.dropout": 0.1})
    examples = open_examples(config.data, seed=0)
    asked = [diagnostic("it", lambda material: [found("it", remedies=(remedy,))])]
    (finding,) = audit.run(Material(config=config, examples=examples), tmp_path, diagnostics=asked)
    assert finding.remedies[0].overrides == {"data.ignore": (length, width), "model.dropout": 0.1}


def test_a_run_is_asked_for_its_fit_where_nothing_was_trained(material, tmp_path):
    asked = [
        diagnostic("fit", lambda material: [found("fit")], needs_any=("trainings", "run")),
        diagnostic("quantity", lambda material: [found("quantity")], needs=("trainings",)),
    ]
    of_run = dataclasses.replace(material, run="runs/it")
    assert [each.name for each in audit.run(of_run, tmp_path, diagnostics=asked)] == ["fit"]
    assert audit.run(material, tmp_path, diagnostics=asked) == []
