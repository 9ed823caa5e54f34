import itertools

import numpy as np
import pytest

from configs import defaults
from data.pool import load_pool
from diagnostics import remedies, remedy_plans, remedy_report
from diagnostics.ablation import JudgedRows
from diagnostics.crossed import crossed_interval
from diagnostics.finding import Finding, Remedy
from plumbline import UserError
from trainers.populations.members import Outcome


@pytest.fixture
def config():
    config = defaults.get_config()
    config.data.source = "sklearn:iris"
    config.model.name = "linear"
    return config


@pytest.fixture
def pool(config):
    return load_pool(config.data, seed=0)


def found(name, *overrides, severity="medium", **rows):
    proposed = tuple(Remedy(text="Do it.", overrides=each) for each in overrides)
    return Finding(name=name, challenge="fit", severity=severity, message="Found.", remedies=proposed, **rows)


def test_each_remedy_is_tried_once_and_what_changes_the_test_is_not(config):
    drop = np.arange(3)
    findings = [
        found("fit", {"optimizer.weight_decay": 0.1}, {"model.dropout": 0.1, "train.duration": "2 epochs"}, {}),
        found("calibration", {"optimizer.weight_decay": 0.1}),
        found("shift", {"data.test": "20 percent"}),
        found("enough_data", {"data.examples_per_class": 20}),
        found("leaked_duplicates", {"data.drop": "findings:leaked_duplicates"}, drop=drop, spoiled=np.array([140])),
        found("twice", {"data.drop": "findings:twice"}, {"data.ignore": ("petal width (cm)",)}, drop=drop),
        found("sound", {"optimizer.weight_decay": 0.2}, severity="none"),
    ]
    trials, refused = remedies.choose(findings, config)
    assert [(trial.findings, trial.overrides, trial.data) for trial in trials] == [
        (("fit", "calibration"), {"optimizer.weight_decay": 0.1}, {}),
        (("fit",), {"model.dropout": 0.1, "train.duration": "2 epochs"}, {}),
        (("twice",), {}, {}),
        (("twice",), {}, {"data.ignore": ("petal width (cm)",)}),
    ]
    np.testing.assert_array_equal(trials[2].drop, drop)
    assert {name: why.split(";")[0] for name, why in refused.items()} == {
        "data.test = '20 percent'": "data.test changes the test or the task",
        "data.examples_per_class = 20": "it makes trials of changes faster, not the model better",
        "data.drop = 'findings:leaked_duplicates'": "it makes the test valid, which no test score can show",
    }
    assert [trial.findings for trial in remedies.choose(findings, config, ["calibration"])[0]] == [("calibration",)]


def test_rows_are_left_out_or_weighed_and_judged_where_no_copy_is_trained_on(config, pool):
    train, test = pool.splits["train"], pool.splits["test"]
    weights = np.ones(150, np.float32)
    weights[train[:2]] = (0.25, 0)
    drop = {"data.drop": "findings:few"}
    findings = [
        found("few", drop, drop=np.sort(train[5:]), spoiled=None),
        found("doubtful", {"data.weights": "findings:doubtful"}, weights=weights),
        found("leaked", spoiled=test[:3]),
    ]
    held_out = remedies.clean_rows(pool, findings)
    np.testing.assert_array_equal(held_out, np.sort(test[3:]))
    trials, _ = remedies.choose(findings, config)
    (plan,) = remedy_plans.plan_test(config, {remedies.pool_key({}): pool}, trials, [4, 5], held_out)
    members = {member.name: member for member in plan.members}
    assert len(members) == 6
    baseline, few, doubtful = (members[f"{name}, seed 4"] for name in ("baseline", *(t.name for t in trials)))
    np.testing.assert_array_equal(np.sort(baseline.train), np.sort(train))
    np.testing.assert_array_equal(np.sort(few.train), np.sort(train[:5]))
    np.testing.assert_array_equal(np.sort(doubtful.train)[:-1], np.sort(train[2:]))
    assert plan.pool.rows[doubtful.train.max()] == pool.rows[train[0]]
    assert plan.pool.weights[doubtful.train.max()] == 0.25
    assert all(member.held_out is held_out for member in plan.members)


def test_a_test_that_is_known_from_training_judges_nothing(pool):
    with pytest.raises(UserError, match=r"all test rows have a copy in the training rows"):
        remedies.clean_rows(pool, [found("leaked", spoiled=pool.splits["test"])])


def test_folds_hold_out_no_copy_of_what_they_train_on_and_drop_or_weigh_only_what_they_train_on(config, pool):
    twins = np.flatnonzero(np.isin(pool.rows, (101, 142)))  # Two equal rows of iris.
    weights = np.ones(150, np.float32)
    weights[pool.splits["train"][:2]] = (0.25, 0)
    drop = np.sort(pool.splits["train"][5:15])
    findings = [
        found("few", {"data.drop": "findings:few"}, drop=drop),
        found("doubtful", {"data.weights": "findings:doubtful"}, weights=weights),
    ]
    trials, _ = remedies.choose(findings, config)
    splits = remedy_plans.folds(pool, (3, 4))
    assert (splits.kind, splits.count, splits.seeds) == ("stratified", 5, (3, 4))
    (plan,) = remedy_plans.plan_folds(config, {remedies.pool_key({}): pool}, trials, splits)
    members = {member.name: member for member in plan.members}
    assert len(members) == 30
    for name in itertools.chain(*remedy_plans.fold_names(splits)):
        baseline, few, doubtful = (members[f"{own}, {name}"] for own in ("baseline", *(t.name for t in trials)))
        assert not np.isin(baseline.held_out, pool.splits["test"]).any()
        assert not np.isin(baseline.held_out, baseline.train).any()
        np.testing.assert_array_equal(baseline.held_out, few.held_out)
        np.testing.assert_array_equal(few.train, baseline.train[~np.isin(baseline.train, drop)])
        light = np.intersect1d(baseline.train, pool.splits["train"][:1])
        np.testing.assert_array_equal(np.sort(pool.rows[plan_rows(plan, doubtful)]), np.sort(
            pool.rows[np.setdiff1d(baseline.train, pool.splits["train"][1:2])]))  # fmt: skip
        assert (plan.pool.weights[doubtful.train] == 0.25).sum() == len(light)
        if np.isin(twins, baseline.train).any():
            assert not np.isin(twins, baseline.held_out).any()


def plan_rows(plan, member):
    """Positions in the source of the rows of a member; copies stand for their rows."""
    place = {row: position for position, row in enumerate(plan.pool.rows[:150].tolist())}
    return np.array([place[row] for row in plan.pool.rows[member.train].tolist()])


def tried(config, right_on_test):
    """The result of three remedies, of which the first is better on folds; test rows are right as given, by seed."""
    findings = [found("fit", {"optimizer.weight_decay": 0.1}, {"optimizer.weight_decay": 0.2}, {"model.dropout": 0.5})]
    trials, _ = remedies.choose(findings, config)
    random = np.random.default_rng(0)
    # Rows that each variant predicts right, of 120; the last ones are not judged.
    scores = {
        name: np.where(np.arange(125) < 120, (np.arange(125) < count) ^ (random.random((3, 125)) < 0.02), np.nan)
        for name, count in zip(("baseline", *(trial.name for trial in trials)), (80, 100, 82, 60), strict=True)
    }
    rows = JudgedRows(labels=np.ones(125, int), weights=np.ones(125), groups=None, task="classification")
    choices = remedy_report.choose(trials, scores, rows, higher_is_better=True)
    outcomes = {}
    for variant, right in zip(("baseline", trials[0].name), right_on_test, strict=True):
        for seed, own in enumerate(right):
            outcomes[f"{variant}, seed {seed}"] = Outcome(
                name="", status="done", step=1, total_steps=1, best_step=1, metrics={"accuracy": float(own.mean())},
                history=[], parameters=1, predictions=np.stack([1 - own, own], axis=1).astype(np.float32),
            )  # fmt: skip
    rows = JudgedRows(labels=np.ones(30, int), weights=np.ones(30), groups=None, task="classification")
    tested = remedy_report.test_rows(trials[:1], range(2), outcomes, "accuracy", higher_is_better=True, judged=rows)
    result = remedy_report.report(choices, tested, {}, "accuracy", chosen_by="5 folds", judged_on="30 test rows")
    return findings, choices, scores, result


@pytest.mark.parametrize(
    ("wrong", "before", "verdict", "confirmed"),
    [
        (0, 15, "kept: better on test rows too", 1),
        (14, 15, "kept: test rows do not show it", 0),
        (15, 0, "rejected: worse on test rows", None),
    ],
)
def test_folds_keep_a_remedy_and_test_rows_say_by_how_much(config, wrong, before, verdict, confirmed):
    right = [np.stack([np.arange(30) >= count] * 2).astype(np.float64) for count in (before, wrong)]
    findings, choices, scores, result = tried(config, right)
    assert [choice.verdict for choice in choices] == ["better", "unclear", "worse"]
    # Over repetitions and rows, and a third of the level for each of three remedies.
    differences = (scores["optimizer.weight_decay = 0.1"] - scores["baseline"])[:, :120]
    assert choices[0].difference == pytest.approx(crossed_interval(differences, np.ones(120), None, 1 - 0.05 / 3))
    verdicts = [row[-1] for row in result.evidence[0].rows]
    assert verdicts == [verdict, "rejected: not shown to help", "rejected: worse"]
    kept = int(verdict.startswith("kept"))
    assert result.message.startswith(f"3 remedies tried on 5 folds: {kept} kept and {3 - kept} rejected (1 of them did")
    assert (f"On 30 test rows, which chose nothing, {confirmed} of the 1 kept" in result.message) == bool(kept)
    assert result.measures[1].value == pytest.approx((before - wrong) / 30)
    # The intervals of the tables are wider than the 95 % of a measure.
    assert all(np.isnan([each.low, each.high]).all() for each in result.measures)
    assert [dict(remedy.overrides) for remedy in result.remedies] == [{"optimizer.weight_decay": 0.1}] * kept
    (judged,) = remedies.with_verdicts(findings, result)
    assert judged.remedies[0].text == f"Do it. Tried: {verdict}."
    assert judged.remedies[2].text == "Do it. Tried: rejected: worse."


def test_where_nothing_can_be_tried_nothing_is_trained(config, pool):
    trials, refused = remedies.choose([found("shift", {"data.test": "20 percent"})], config)
    assert remedy_plans.plan_test(config, {remedies.pool_key({}): pool}, trials, [0], pool.splits["test"]) == []
    result = remedy_report.report([], [], refused, "accuracy", chosen_by="folds", judged_on="rows")
    assert (result.severity, result.message) == ("none", "No remedy can be tried.")
    assert result.evidence[0].rows == (
        ("data.test = '20 percent'", "data.test changes the test or the task; compare the two yourself"),
    )


def test_a_remedy_of_which_a_training_diverges_is_rejected(config):
    trials, _ = remedies.choose([found("fit", {"model.dropout": 0.5})], config)
    scores = {"baseline": np.zeros((2, 10)), trials[0].name: np.ones((2, 10))}
    scores[trials[0].name][1, 4:6] = np.nan
    rows = JudgedRows(labels=np.ones(10, int), weights=np.ones(10), groups=None, task="classification")
    (choice,) = remedy_report.choose(trials, scores, rows, higher_is_better=True)
    assert (choice.diverged, choice.verdict) == (True, "worse")
    result = remedy_report.report([choice], (), {}, "accuracy", chosen_by="folds", judged_on="rows")
    assert result.evidence[0].rows[0][-1] == "rejected: a training diverged"
