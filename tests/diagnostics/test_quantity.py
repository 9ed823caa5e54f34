import dataclasses

import numpy as np
import pytest

from configs import defaults
from data.features import Features
from data.pool import Pool
from diagnostics.cross_validation import OutOfFold, Splits
from diagnostics.material import Material
from diagnostics.quantity import diagnostic
from diagnostics.trainings import Control, Trainings

SIZES = (100, 200, 400, 800, 1600)


def make(law, *, counts=(400, 400, 400, 400), right=(0.9, 0.9, 0.9, 0.9), groups=None):
    """A pool, and trainings whose errors follow the law and that tell classes as said; no model takes part."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    count = len(labels)
    features = Features(
        kind="table",
        shape=(1,),
        dtype="float32",
        task="classification",
        class_names=tuple("abcd"),
        group_names=("north", "south", "east"),
    )
    pool = Pool(
        features=features,
        inputs=np.zeros((count, 1), np.float32),
        labels=labels,
        weights=np.ones(count, np.float32),
        groups=groups,
        rows=np.arange(count),
        splits={"train": np.arange(count), "test": np.zeros(0, np.int64)},
        fingerprint="",
    )
    predicted = labels.copy()
    for label, (rows, share) in enumerate(zip(counts, right, strict=True)):
        own = np.flatnonzero(labels == label)
        predicted[own[: round(rows * (1 - share))]] = (label + 1) % len(counts)
    predictions = np.eye(4, dtype=np.float32)[predicted][None]
    folds = OutOfFold(
        splits=Splits(kind="stratified", count=5, seeds=(0,)),
        rows=np.arange(count),
        fold=np.zeros((1, count), np.int32),
        predictions=predictions,
        metrics=[[]],
        diverged=[],
    )
    points = [(size, law(size) * (1 + 0.02 * random.normal())) for size in SIZES for _ in range(3)]
    nothing = np.zeros(0)
    trained = Trainings(
        config=defaults.get_config(),
        seeds=(0,),
        out_of_fold=folds,
        grouped=None,
        points=np.array(points),
        why_no_curve="",
        predictions=predictions,
        histories=[],
        training_history=[],
        skipped=0,
        control=Control(labels=nothing, own=nothing, rows=nothing, predictions=nothing),
        diverged=[],
    )
    return pool, trained


def found(pool, trained, **asked):
    # Of the examples themselves nothing is read.
    material = Material(config=trained.config, examples=None, pool=pool, trainings=trained, **asked)
    findings = {finding.name: finding for finding in diagnostic.find(material)}
    assert set(findings) == {"more_data", "short_classes", "enough_data"}
    return findings


def steep(size):
    return 2.0 * size**-0.4


def test_of_a_steep_curve_more_data_are_asked_for_and_what_they_bring_is_right():
    finding = found(*make(steep), wanted=0.92)["more_data"]
    assert finding.severity == "medium"
    gain, twice, needed = finding.measures
    assert gain.low < steep(1600) - steep(3200) < gain.high
    assert twice.low < 1 - steep(3200) < twice.high
    # 2 n^-0.4 = 0.08 at n = 25^2.5 = 3125.
    assert needed.low < 3125 < needed.high
    assert "accuracy 0.92: about " in finding.message
    assert "With twice the data, 3,200 examples" in finding.message
    assert finding.remedies[0].overrides == {}
    assert list(finding.evidence[0].lines["measured, mean over seeds"][:, 0]) == list(SIZES)


def test_half_of_the_data_is_not_enough_on_a_steep_curve_and_is_on_a_level_one():
    assert found(*make(steep))["enough_data"].severity == "none"
    finding = found(*make(lambda size: 0.05 + 20 / size**1.5))["enough_data"]
    assert finding.severity == "low"
    assert finding.measures[0].value <= 400
    each = finding.remedies[0].overrides["data.examples_per_class"]
    assert each == -(-finding.measures[0].value // 4)


def test_a_level_curve_says_that_more_data_are_not_what_is_missing():
    finding = found(*make(lambda size: 0.05 + 20 / size**1.5))["more_data"]
    assert finding.severity == "none"
    assert "More of the same data is not expected to help" in finding.message


def test_errors_that_do_not_fall_are_no_ground_for_a_prediction():
    finding = found(*make(lambda size: 0.1 + size / 20_000), wanted=0.9)["more_data"]
    assert finding.severity == "unknown"
    assert "Cannot tell: the error does not clearly fall with data" in finding.message
    assert "accuracy 0.9: cannot tell: " in finding.message


def test_without_a_curve_it_cannot_judge_and_says_why():
    pool, trained = make(steep)
    findings = found(pool, dataclasses.replace(trained, why_no_curve="of 20 training rows no 4 subsets can be made"))
    for name in ("more_data", "enough_data"):
        assert findings[name].severity == "unknown"
        assert "of 20 training rows no 4 subsets can be made" in findings[name].message


def test_a_class_that_does_worst_and_has_few_rows_is_short():
    finding = found(*make(steep, counts=(600, 600, 600, 60), right=(0.95, 0.95, 0.95, 0.5)))["short_classes"]
    assert finding.severity == "medium"
    assert "'d' (accuracy 0.5 on 60 rows) does worse than the others. It also has few rows." in finding.message
    assert finding.remedies[0].text == "Collect more examples of class 'd' (60 rows)."
    assert finding.remedies[1].overrides == {"data.class_weights": "balanced"}
    assert finding.evidence[0].rows[0][:2] == ("d", 60)


def test_a_class_that_its_prior_alone_puts_behind_is_rare_and_not_short():
    pool, trained = make(steep, counts=(600, 600, 600, 60))
    # The models know each class equally well: one score of each row is that of its class, lifted by 2, and all scores
    # follow the prior.
    random = np.random.default_rng(0)
    scores = random.normal(size=(len(pool.labels), 4)) + 2 * np.eye(4)[pool.labels]
    predictions = np.exp(2 * scores) * np.array([600, 600, 600, 60])
    predictions = (predictions / predictions.sum(axis=1, keepdims=True))[None].astype(np.float32)
    folds = dataclasses.replace(trained.out_of_fold, predictions=predictions)
    own = pool.labels == 3
    assert (predictions[0, own].argmax(axis=1) == 3).mean() < 0.6
    finding = found(pool, dataclasses.replace(trained, out_of_fold=folds))["short_classes"]
    assert finding.severity == "low"
    assert finding.message.startswith(
        "'d' does worse than the others, but not by more than chance at balanced thresholds"
    )
    assert [remedy.overrides for remedy in finding.remedies] == [{"data.class_weights": "balanced"}]


def test_a_class_that_does_worst_with_many_rows_is_hard_and_not_short():
    finding = found(*make(steep, counts=(300, 400, 500, 900), right=(0.95, 0.95, 0.95, 0.5)))["short_classes"]
    assert finding.severity == "low"
    assert "It has about as many rows as others or more: it is hard, not small" in finding.message
    assert finding.remedies == ()


def test_classes_that_do_alike_are_none_of_them_short():
    finding = found(*make(steep, counts=(600, 600, 600, 60), right=(0.9, 0.9, 0.9, 0.85)))["short_classes"]
    assert finding.severity == "none"
    assert "None of the 4 classes does worse" in finding.message


def test_groups_are_looked_at_as_classes_are():
    # The first rows of each class are predicted wrongly: those are put into one group.
    groups = np.repeat(np.tile([0, 1, 2], 4), np.tile([40, 160, 200], 4)).astype(np.int32)
    finding = found(*make(steep, groups=groups))["short_classes"]
    assert "Of the 3 groups, 'north' (accuracy 0 on 160 rows) does worse than the others." in finding.message
    assert finding.severity == "medium"


@pytest.mark.parametrize("wanted", [None, 0.9])
def test_a_regression_without_groups_has_no_classes(wanted):
    pool, trained = make(steep)
    features = dataclasses.replace(pool.features, task="regression", class_names=())
    labels = np.random.default_rng(0).normal(size=len(pool.labels)).astype(np.float32)
    pool = dataclasses.replace(pool, features=features, labels=labels)
    findings = found(pool, trained, wanted=wanted)
    assert findings["short_classes"].severity == "unknown"
    assert "a regression has no classes" in findings["short_classes"].message
    assert "mean squared error" in findings["more_data"].measures[0].name
