import dataclasses

import jax
import numpy as np
import pytest
from cleanlab.classification import CleanLearning
from cleanlab.filter import find_label_issues
from scipy import stats
from sklearn import linear_model, metrics, model_selection

from configs import digits_mlp
from data.pool import load_pool
from diagnostics import cross_validation
from diagnostics.cross_validation import OutOfFold, Splits
from diagnostics.examples import open_examples
from diagnostics.quality import label_errors
from trainers.populations.population import Population
from trainers.settings import override


@dataclasses.dataclass(eq=False)
class Noisy:
    """Digits of whose training and validation labels some are wrong."""

    config: object
    pool: object
    examples: object
    wrong: np.ndarray

    def out_of_fold(self, seeds):
        splits = Splits(kind="stratified", count=5, seeds=seeds)
        members = cross_validation.make_members(self.pool, self.config, splits)
        population = Population(self.config, self.pool, devices=jax.devices()[:2], progress=False)
        return cross_validation.gather(self.pool, splits, members, population.train(members, predict=True))


def noisy(share, *, draw=0, **changes):
    config = override(digits_mlp.get_config(), {"population.mode": "map", **changes})
    pool, examples = load_pool(config.data, seed=0), open_examples(config.data, seed=0)
    random = np.random.default_rng(draw)
    rows = cross_validation.select_rows(pool)
    flipped = random.choice(rows, round(share * len(rows)), replace=False)
    labels = pool.labels.copy()
    labels[flipped] = (labels[flipped] + random.integers(1, 10, len(flipped))) % 10
    for name, split in examples.splits.items():
        split.labels = labels[examples.positions(name)]
    wrong = np.zeros(len(labels), bool)
    wrong[flipped] = True
    return Noisy(config=config, pool=dataclasses.replace(pool, labels=labels), examples=examples, wrong=wrong)


def made_up(examples, *, wrong, seeds=3, sure=4.0):
    """Out-of-fold predictions that know the true labels: `wrong` (n,) are those that are not the given ones."""
    random = np.random.default_rng(0)
    rows = np.flatnonzero(examples.split != "test")
    truth = np.where(wrong, (examples.labels + 1) % 10, examples.labels)[rows]
    logits = sure * np.eye(10)[truth] + random.normal(size=(seeds, len(rows), 10))
    predictions = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return OutOfFold(
        splits=Splits(kind="stratified", count=2, seeds=tuple(range(seeds))),
        rows=rows,
        fold=np.zeros((seeds, len(rows)), np.int32),
        predictions=predictions.astype(np.float32),
        metrics=[],
        diverged=[],
    )


@pytest.fixture(scope="module")
def digits():
    return open_examples(digits_mlp.get_config().data, seed=0)


@pytest.fixture
def planted(digits):
    wrong = np.zeros(len(digits), bool)
    wrong[np.random.default_rng(1).choice(1415, 100, replace=False)] = True
    return wrong


def test_rows_are_those_that_cleanlab_finds_in_the_same_probabilities(digits, planted):
    found = made_up(digits, wrong=planted, sure=3.0)
    labels = digits.labels[found.rows]
    judged = label_errors.estimate(labels, found.predictions)
    assert judged.flags.shape == (3, 1415)
    for flags, predictions in zip(judged.flags, found.predictions, strict=True):
        expected = find_label_issues(labels, predictions.astype(np.float64), n_jobs=1)
        assert 50 < expected.sum() < 400
        np.testing.assert_array_equal(flags, expected)
    # What the finding says of each seed is of those rows.
    finding = label_errors.judge(digits, found)
    (by_seed,) = [each for each in finding.evidence if each.title == "Wrong labels by seed"]
    assert [row[1] for row in by_seed.rows] == judged.flags.sum(axis=1).tolist()


def test_planted_errors_are_reported_with_their_likely_labels(digits, planted):
    finding = label_errors.judge(digits, made_up(digits, wrong=planted, sure=8.0))
    assert (finding.name, finding.challenge, finding.severity) == ("label_errors", "data quality", "medium")
    np.testing.assert_array_equal(finding.drop, np.flatnonzero(planted))
    assert "About 99 labels of 1415 (95 %: 67 to 120) are wrong" in finding.message
    assert "100 labels are more likely wrong than right" in finding.message
    assert finding.measures[0].low <= 100 <= finding.measures[0].high
    rows, table = finding.evidence[:2]
    assert rows.total == 100
    assert planted[[position for cluster in rows.clusters for position in cluster]].all()
    label, position = digits.labels[rows.clusters[0][0]], rows.clusters[0][0]
    assert f"labelled '{label}', predicted '{(digits.labels[position] + 1) % 10}'" in rows.notes[0]
    assert "flagged in 3 of 3 seeds" in rows.notes[0]
    assert {(given, str((int(given) + 1) % 10)) for given, *_ in table.rows} == {row[:2] for row in table.rows}
    assert sum(row[2] for row in table.rows) == 100


def test_weights_are_the_probability_of_being_right_and_the_test_keeps_its_own(digits, planted):
    found = made_up(digits, wrong=planted, sure=3.0)
    finding = label_errors.judge(digits, found)
    judged = label_errors.estimate(digits.labels[found.rows], found.predictions)
    assert finding.weights.shape == (1797,)
    assert finding.weights.dtype == np.float32
    assert (finding.weights[digits.split == "test"] == 1).all()
    np.testing.assert_allclose(finding.weights[found.rows], 1 - judged.wrong, rtol=1e-6)
    assert not set(finding.drop) & set(digits.positions("test"))
    overrides = [remedy.overrides for remedy in finding.remedies]
    assert overrides[:2] == [{"data.drop": "findings:label_errors"}, {"data.weights": "findings:label_errors"}]


def test_the_number_and_the_probabilities_mean_what_they_say(digits, planted):
    found = made_up(digits, wrong=planted, sure=3.5)
    judged = label_errors.estimate(digits.labels[found.rows], found.predictions)
    assert judged.share[1] * 1415 <= 100 <= judged.share[2] * 1415
    assert judged.wrong.sum() == pytest.approx(100, rel=0.2)
    sure = judged.wrong > 0.9
    assert planted[found.rows][sure].mean() > 0.9


def overlapping(*, right, noise, count=2000, seed=0):
    """Two normal classes whose best accuracy is `right`, some labels flipped: labels, predictions, which are wrong."""
    random = np.random.default_rng(seed)
    distance = 2 * stats.norm.ppf(right)
    truth = random.integers(0, 2, count)
    inputs = (random.normal(size=count) + distance * (truth - 0.5))[:, None]
    wrong = random.random(count) < noise
    labels = np.where(wrong, 1 - truth, truth)
    model = linear_model.LogisticRegression()
    predictions = model_selection.cross_val_predict(model, inputs, labels, cv=5, method="predict_proba")
    return labels, predictions[None], wrong


def test_overlap_is_not_label_error():
    labels, predictions, _ = overlapping(right=0.69, noise=0.0)
    judged = label_errors.estimate(labels, predictions)
    assert (judged.likely != labels).sum() > 500
    assert not judged.certain
    assert judged.share[1] == 0


@pytest.mark.parametrize("right", [0.933, 0.99])
def test_wrong_labels_are_counted_beside_overlap_and_their_probabilities_are_calibrated(right):
    probabilities, truth = [], []
    for seed in range(3):
        labels, predictions, wrong = overlapping(right=right, noise=0.1, seed=seed)
        judged = label_errors.estimate(labels, predictions)
        assert judged.certain
        assert judged.share[0] == pytest.approx(wrong.mean(), abs=0.03)
        probabilities.append(judged.wrong)
        truth.append(wrong)
    probabilities, truth = np.concatenate(probabilities), np.concatenate(truth)
    for low, high in ((0, 0.5), (0.5, 1.01)):
        chosen = (probabilities >= low) & (probabilities < high)
        assert chosen.sum() > 100
        assert probabilities[chosen].mean() == pytest.approx(truth[chosen].mean(), abs=0.1)


def test_a_finding_on_overlap_shows_no_probabilities(digits):
    random = np.random.default_rng(0)
    rows = np.flatnonzero(digits.split != "test")
    # Every digit may be the next one, more so the nearer it is to a boundary: labels are drawn as the models say.
    margin = np.abs(random.normal(size=len(rows)))
    chance = 1 / (1 + np.exp(-margin))
    likely = np.where(random.random(len(rows)) < chance, digits.labels[rows], (digits.labels[rows] + 1) % 10)
    other = np.where(likely == digits.labels[rows], (likely + 1) % 10, digits.labels[rows])
    predictions = np.full((1, len(rows), 10), 1e-6)
    predictions[0, np.arange(len(rows)), likely] = chance
    predictions[0, np.arange(len(rows)), other] = 1 - chance
    found = dataclasses.replace(made_up(digits, wrong=np.zeros(1797, bool), seeds=1), predictions=predictions)
    finding = label_errors.judge(digits, found)
    assert finding.severity == "none"
    assert (len(finding.drop), finding.weights, finding.remedies) == (0, None, ())
    assert "overlapping classes explain it" in finding.message
    assert finding.evidence[0].total > 300
    assert not any("wrong with probability" in note for note in finding.evidence[0].notes)


def test_equal_inputs_of_a_table_leave_the_question_open():
    config = digits_mlp.get_config()
    config.data.source = "sklearn:iris"
    examples = open_examples(config.data, seed=0)
    assert label_errors._equal_inputs(examples, np.arange(150)) == pytest.approx(2 / 150)


def test_a_seed_that_diverged_is_left_out_and_one_without_any_cannot_judge(digits, planted):
    found = made_up(digits, wrong=planted, sure=8.0)
    found.predictions[1, 7] = np.nan
    finding = label_errors.judge(digits, found)
    assert "models of 2 seeds that were not trained" in finding.message
    (by_seed,) = [each for each in finding.evidence if each.title == "Wrong labels by seed"]
    assert [row[0] for row in by_seed.rows] == [0, 2]
    found.predictions[:, 7] = np.nan
    finding = label_errors.judge(digits, found)
    assert (finding.severity, finding.drop) == ("unknown", None)
    assert "a training of each seed diverged" in finding.message


def test_models_that_learn_nothing_judge_nothing(digits):
    finding = label_errors.judge(digits, made_up(digits, wrong=np.zeros(1797, bool), sure=0.0))
    assert finding.severity == "unknown"
    assert "no better than the majority class" in finding.message


def test_a_class_that_the_models_do_not_know_is_not_dropped_whole(digits):
    # All that is called a three looks like a four.
    wrong = digits.labels == 3
    finding = label_errors.judge(digits, made_up(digits, wrong=wrong, sure=8.0))
    assert "Labels of '3' cannot be judged" in finding.message
    assert not wrong[finding.drop].any()
    assert (finding.weights[wrong] == 1).all()


def test_quantities_are_not_judged():
    config = digits_mlp.get_config()
    config.data.source = "sklearn:diabetes"
    examples = open_examples(config.data, seed=0)
    finding = label_errors.judge(examples, None)
    assert finding.severity == "unknown"
    assert "the labels are quantities" in finding.message


def test_wrong_digits_are_found_by_a_few_steps_of_training():
    case = noisy(0.2, **{"train.duration": "200 steps", "train.evaluate_every": "200 steps"})
    found = case.out_of_fold(seeds=(0,))
    finding = label_errors.judge(case.examples, found)
    judged = ~np.isin(np.arange(1797), case.examples.positions("test"))
    assert metrics.average_precision_score(case.wrong[judged], 1 - finding.weights[judged]) > 0.9
    assert case.wrong[finding.drop].mean() > 0.85
    assert finding.severity == "high"


def ranked_by_cleanlab(case, rows):
    """How cleanlab's own pipeline ranks the rows, with scikit-learn's logistic regression on the same data."""
    model = linear_model.LogisticRegression(max_iter=1000)
    learning = CleanLearning(model, seed=0, find_label_issues_kwargs={"n_jobs": 1})
    inputs = case.pool.inputs[rows].reshape(len(rows), -1) / 255
    return 1 - learning.find_label_issues(inputs, case.pool.labels[rows])["label_quality"].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_wrong_digits_are_ranked_at_least_as_well_as_by_cleanlab_and_logistic_regression(share):
    # One wrong label in a digit that no model can read moves the area by a point, so it is the mean of three draws.
    ours, theirs = [], []
    for draw in range(3):
        case = noisy(share, draw=draw)
        found = case.out_of_fold(seeds=(0, 1, 2))
        finding = label_errors.judge(case.examples, found)
        wrong = case.wrong[found.rows]
        ours.append(metrics.average_precision_score(wrong, 1 - finding.weights[found.rows]))
        theirs.append(metrics.average_precision_score(wrong, ranked_by_cleanlab(case, found.rows)))
        # Most of what is dropped is wrong, and most of what is wrong is dropped.
        assert case.wrong[finding.drop].mean() > 0.9
        assert case.wrong[finding.drop].sum() > 0.85 * wrong.sum()
        assert finding.measures[0].value == pytest.approx(wrong.sum(), rel=0.15)
        assert finding.measures[0].low <= wrong.sum() <= finding.measures[0].high
    assert np.mean(ours) >= np.mean(theirs)
    assert min(ours) > 0.97


@pytest.mark.slow
def test_of_clean_digits_next_to_none_are_flagged():
    case = noisy(0.0)
    found = case.out_of_fold(seeds=(0, 1, 2))
    finding = label_errors.judge(case.examples, found)
    assert len(finding.drop) < 0.02 * len(found.rows)
    assert finding.severity in ("none", "low")
    judged = label_errors.estimate(case.pool.labels[found.rows], found.predictions)
    assert (judged.flags.mean(axis=1) < 0.02).all()
