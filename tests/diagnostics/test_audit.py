"""The runner: every question is answered, whatever a diagnostic does."""

import dataclasses

import numpy as np
import pytest

from configs import defaults
from diagnostics import audit
from diagnostics.audit import Diagnostic, Material
from diagnostics.examples import open_examples
from diagnostics.finding import CHALLENGES, Finding, Remedy, Rows, Table, cannot_judge
from plumbline import Preempted, UserError


@pytest.fixture(scope="module")
def material():
    config = defaults.get_config()
    config.data.source = "sklearn:iris"
    return Material(config=config, examples=open_examples(config.data, seed=0))


def found(name, severity="none", **fields):
    return Finding(name=name, challenge="data quality", severity=severity, message="So it is.", **fields)


def diagnostic(title, find, *names, needs_trainings=False):
    return Diagnostic(
        title=title,
        challenge="data quality",
        names=names or (title,),
        find=find,
        needs_trainings=needs_trainings,
    )


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
    assert findings[2].message == f"Cannot judge: {reason}; its traceback is in '{path}'."
    assert "in find\n    raise error\nZeroDivisionError: division by\nzero" in path.read_text()
    assert shown == ["first", "broken", "last"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("data.group: there are no groups; name a column"), "data.group: there are no groups; name a column"),
        (MemoryError("Unable to allocate 9 TiB"), "memory is short (Unable to allocate 9 TiB)"),
    ],
)
def test_what_the_user_can_mend_and_short_memory_need_no_traceback(error, reason, material, tmp_path):
    (finding,) = audit.run(material, tmp_path, diagnostics=[diagnostic("it", failing(error))])
    assert (finding.severity, finding.message) == ("unknown", f"Cannot judge: {reason}.")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [Preempted("SIGTERM"), KeyboardInterrupt()])
def test_a_wish_to_stop_does_stop(error, material, tmp_path):
    with pytest.raises(type(error)):
        audit.run(material, tmp_path, diagnostics=[diagnostic("it", failing(error))])


def test_a_traceback_that_cannot_be_written_stops_nothing(material, tmp_path):
    (tmp_path / "tracebacks").write_text("a file where a folder is wanted")
    (finding,) = audit.run(material, tmp_path, diagnostics=[diagnostic("it", failing(ValueError()))])
    assert finding.message.endswith("failed with ValueError; its traceback could not be written.")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], r"findings of \[\] were given; those of \['it'\] were asked for"),
        ([found("it"), found("it")], r"findings of \['it', 'it'\] were given"),
        ([found("other")], r"findings of \['other'\] were given"),
        ([found("it", drop=np.array([3, 150]))], "positions from 3 to 150 of 150 examples"),
        ([found("it", drop=np.array([3, 3]))], "not sorted, or given twice"),
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
    assert finding.message.startswith("Cannot judge: the diagnostic failed with ValueError")


def test_sound_findings_are_taken_as_they_are(material, tmp_path):
    rows = Rows(title="a", clusters=((0, 149), (7,)), notes=("b", "c"), total=9)
    given = [found("it", drop=np.array([0, 119]), weights=np.linspace(0, 1, 150, dtype=np.float32), evidence=(rows,))]
    assert audit.run(material, tmp_path, diagnostics=[diagnostic("it", lambda material: given)]) == given


def test_what_needs_trainings_is_not_asked_without(material, tmp_path):
    asked = [
        diagnostic("trained", lambda material: [found("trained", "high")], needs_trainings=True),
        diagnostic("data", lambda material: [cannot_judge("data", "data quality", "it is late")]),
    ]
    assert [each.name for each in audit.run(material, tmp_path, diagnostics=asked)] == ["data"]
    trained = dataclasses.replace(material, trained=object())
    assert [each.name for each in audit.run(trained, tmp_path, diagnostics=asked)] == ["trained", "data"]


def test_what_concerns_a_reference_is_asked_where_there_is_one(material, tmp_path):
    def find(material):
        raise UserError("it is late")

    asked = Diagnostic(title="it", challenge="data quality", names=("test",), with_reference=("reference",), find=find)
    for reference, names in ((None, ["test"]), (object(), ["test", "reference"])):
        own = dataclasses.replace(material, reference=reference)
        assert [each.name for each in audit.run(own, tmp_path, diagnostics=[asked])] == names


def test_each_question_is_asked_once_and_belongs_to_a_challenge():
    names = [name for each in audit.DIAGNOSTICS for name in (*each.names, *each.with_reference)]
    assert len(set(names)) == len(names) > 10
    assert len({each.title for each in audit.DIAGNOSTICS}) == len(audit.DIAGNOSTICS)
    assert {each.challenge for each in audit.DIAGNOSTICS} <= set(CHALLENGES)


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
        dataclasses.replace(diagnostic("fit", lambda material: [found("fit")], needs_trainings=True), of_run=True),
        diagnostic("quantity", lambda material: [found("quantity")], needs_trainings=True),
    ]
    of_run = dataclasses.replace(material, run="runs/it")
    assert [each.name for each in audit.run(of_run, tmp_path, diagnostics=asked)] == ["fit"]
    assert audit.run(material, tmp_path, diagnostics=asked) == []
