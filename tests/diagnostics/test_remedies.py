import numpy as np
import pytest
from scipy import stats

from configs import defaults
from data.pool import load_pool
from diagnostics import remedies
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
    (plan,) = remedies.make_plans(config, {remedies.pool_key({}): pool}, trials, [4, 5], held_out)
    members = {member.name: member for member in plan.members}
    assert len(members) == 6
    baseline, few, doubtful = (members[f"{name}, seed 4"] for name in ("baseline", *(t.name for t in trials)))
    np.testing.assert_array_equal(np.sort(baseline.train), np.sort(train))
    np.testing.assert_array_equal(np.sort(few.train), np.sort(train[:5]))
    np.testing.assert_array_equal(np.sort(doubtful.train)[:-1], np.sort(train[2:]))
    assert plan.pool.rows[doubtful.train[-1]] == pool.rows[train[0]]
    assert plan.pool.weights[doubtful.train[-1]] == 0.25
    assert all(member.held_out is held_out for member in plan.members)


def test_a_test_that_is_known_from_training_judges_nothing(pool):
    with pytest.raises(UserError, match=r"all test rows have a copy in the training rows"):
        remedies.clean_rows(pool, [found("leaked", spoiled=pool.splits["test"])])


def test_a_remedy_is_kept_where_its_interval_for_all_that_are_tried_is_above_zero(config):
    findings = [found("fit", {"optimizer.weight_decay": 0.1}, {"optimizer.weight_decay": 0.2}, {"model.dropout": 0.5})]
    trials, _ = remedies.choose(findings, config)
    baseline = np.array([0.80, 0.81, 0.79, 0.80, 0.82])
    gains = dict(zip((trial.name for trial in trials), ((0.02, 1e-3), (0.01, 8e-3), (-0.05, 1e-3)), strict=True))
    noise = np.array([-1, 1, 0, -1, 1])
    values = {"baseline": baseline} | {name: baseline + gain + size * noise for name, (gain, size) in gains.items()}
    outcomes = {
        f"{name}, seed {seed}": Outcome(
            name=f"{name}, seed {seed}", status="done", step=1, total_steps=1, best_step=1,
            metrics={"accuracy": float(value)}, history=[], parameters=1,
        )
        for name, each in values.items()
        for seed, value in enumerate(each)
    }  # fmt: skip
    result = remedies.report(trials, {}, range(5), outcomes, "accuracy", higher_is_better=True, num_rows=30)
    assert [row[-1] for row in result.evidence[0].rows] == [
        "", "kept", "rejected: not shown to help", "rejected: worse",
    ]  # fmt: skip
    assert result.message.startswith("3 remedies tried: 1 kept, as accuracy is better with it, and 2 rejected, 1 of")
    # The intervals of the table are wider than the 95 % of a measure.
    assert result.measures[1].value == pytest.approx(0.02)
    assert all(np.isnan([each.low, each.high]).all() for each in result.measures)
    others = remedies.report(trials[1:], {}, range(5), outcomes, "accuracy", higher_is_better=True, num_rows=30)
    assert others.message == "2 remedies tried: 0 kept and 2 rejected, 1 of which did harm."
    low, high = stats.t.interval(1 - 0.05 / 3, 4, 0.02, stats.sem(1e-3 * noise))
    np.testing.assert_allclose(result.evidence[0].rows[1][3:6], (0.02, low, high))
    assert [dict(remedy.overrides) for remedy in result.remedies] == [{"optimizer.weight_decay": 0.1}]
    (judged,) = remedies.with_verdicts(findings, result)
    assert [remedy.text for remedy in judged.remedies] == [
        "Do it. Tried: kept.", "Do it. Tried: rejected: not shown to help.", "Do it. Tried: rejected: worse.",
    ]  # fmt: skip


def test_where_nothing_can_be_tried_nothing_is_trained(config, pool):
    trials, refused = remedies.choose([found("shift", {"data.test": "20 percent"})], config)
    assert remedies.make_plans(config, {remedies.pool_key({}): pool}, trials, [0], pool.splits["test"]) == []
    result = remedies.report(trials, refused, [0], {}, "accuracy", higher_is_better=True, num_rows=30)
    assert (result.severity, result.message) == ("none", "No remedy can be tried.")
    assert result.evidence[0].rows == (
        ("data.test = '20 percent'", "data.test changes the test or the task; compare the two yourself"),
    )
