"""Probes against the same estimators put together by hand and scored by scikit-learn's own cross-validation."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diagnostics.transfer import probes
from plumbline import UserError


@pytest.fixture(scope="module")
def cancer():
    inputs, labels = load_breast_cancer(return_X_y=True)
    labels = labels.astype(np.int32)
    return inputs.astype(np.float32), probes.make_splits(labels, None, "classification", count=4, seed=0)


@pytest.fixture(scope="module")
def diabetes():
    inputs, labels = load_diabetes(return_X_y=True)
    labels = labels.astype(np.float32)
    return inputs.astype(np.float32), probes.make_splits(labels, None, "regression", count=4, seed=0)


def test_with_one_penalty_a_probe_is_scikit_learns_cross_validation(cancer, diabetes, monkeypatch):
    monkeypatch.setattr(probes, "PENALTIES", (0.03,))
    monkeypatch.setattr(probes, "RIDGE_PENALTIES", (30.0,))
    models = LogisticRegression(C=0.03, max_iter=1000), Ridge(alpha=30.0)
    for (inputs, splits), model in zip((cancer, diabetes), models, strict=True):
        expected = cross_val_score(
            make_pipeline(StandardScaler(), model), inputs.astype(np.float64), splits.labels, cv=splits.folds
        )
        np.testing.assert_allclose(probes.score_linear_probe(inputs, splits), expected, rtol=1e-6)
        assert len(set(expected)) > 1


def test_the_penalty_is_chosen_within_the_training_rows_of_each_fold(cancer):
    # With this noise beside them, the strength of the penalty matters.
    inputs, splits = cancer
    noise = np.random.default_rng(0).normal(size=(len(inputs), 300))
    inputs = np.concatenate([inputs, noise], axis=1).astype(np.float64)
    expected = []
    for (train, held_out), inner in zip(splits.folds, splits.inner, strict=True):
        models = [
            make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))
            for penalty in probes.PENALTIES
        ]
        means = [cross_val_score(model, inputs[train], splits.labels[train], cv=inner).mean() for model in models]
        best = models[int(np.argmax(means))].fit(inputs[train], splits.labels[train])
        expected.append(best.score(inputs[held_out], splits.labels[held_out]))
    np.testing.assert_allclose(probes.score_linear_probe(inputs, splits), expected, rtol=1e-9)


def test_neighbours_are_scikit_learns_by_the_cosine(cancer, diabetes):
    kinds = KNeighborsClassifier, KNeighborsRegressor
    for (inputs, splits), kind in zip((cancer, diabetes), kinds, strict=True):
        model = make_pipeline(StandardScaler(), kind(10, metric="cosine"))
        expected = cross_val_score(model, inputs, splits.labels, cv=splits.folds)
        np.testing.assert_allclose(probes.score_neighbours(inputs, splits), expected, rtol=1e-6)


def test_tfidf_is_that_of_the_training_rows_of_each_fold(monkeypatch):
    monkeypatch.setattr(probes, "TFIDF_PENALTIES", (10.0,))
    generator = np.random.default_rng(0)
    words = {0: ["dull", "flat", "film"], 1: ["fine", "warm", "film"]}
    labels = generator.integers(0, 2, 60).astype(np.int32)
    texts = [" ".join(generator.choice(words[label] + ["the", "of", "and"], 4)) for label in labels]
    splits = probes.make_splits(labels, None, "classification", count=3, seed=1)
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0))
    expected = cross_val_score(model, texts, labels, cv=splits.folds)
    np.testing.assert_allclose(probes.score_tfidf_probe(texts, splits), expected)
    assert expected.mean() > 0.7
    with pytest.raises(UserError, match=r"data\.text: no words in the texts"):
        probes.score_tfidf_probe(["?"] * 60, splits)


def test_labels_that_have_nothing_to_do_with_the_features_are_not_predicted():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 200).astype(np.int32)
    features = generator.normal(size=(200, 400)).astype(np.float32)
    splits = probes.make_splits(labels, None, "classification", count=5, seed=0)
    for scores in (probes.score_linear_probe(features, splits), probes.score_neighbours(features, splits)):
        assert abs(scores.mean() - 0.5) < 0.12
    # A column that never changes, and one that holds the label.
    features[:, 0], features[:, 1] = 1.0, labels
    few = probes.score_linear_probe(features[:, :3], splits)
    np.testing.assert_array_equal(few, np.ones(5))


def test_groups_are_held_out_whole_within_folds_as_well():
    groups = np.repeat(np.arange(12), 10)
    labels = (np.arange(120) % 2).astype(np.int32)
    splits = probes.make_splits(labels, groups, "classification", count=4, seed=0)
    assert splits.kind == "group"
    assert splits.overlap == pytest.approx(1 / 3)
    for (train, held_out), inner in zip(splits.folds, splits.inner, strict=True):
        assert not set(groups[train]) & set(groups[held_out])
        for own, other in inner:
            assert not set(groups[train][own]) & set(groups[train][other])
    one = probes.make_splits(labels, np.zeros(120, np.int32), "classification", count=4, seed=0)
    assert one.kind == "stratified"


def test_a_class_of_few_rows_is_scored_all_the_same():
    labels = np.array([0] * 30 + [1] * 2, np.int32)
    splits = probes.make_splits(labels, None, "classification", count=2, seed=0)
    features = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    assert np.isfinite(probes.score_linear_probe(features, splits)).all()


@pytest.mark.parametrize(
    ("labels", "groups", "task", "message"),
    [
        ([0] * 9 + [1], None, "classification", "--folds: 5 given, but class 'b' has 1 row; give fewer folds"),
        ([0] * 10, None, "classification", "data.source: all rows to be scored are of one class"),
        ([0, 1] * 6, [0, 1, 2] * 4, "classification", "--folds: 5 given, but there are 3 groups"),
        ([0.5] * 9, None, "regression", "--folds: 5 given, but there are 9 rows; each fold has to hold out two"),
        ([0] * 5 + [1] * 5, [0, 1, 2, 3, 3, 4, 4, 4, 4, 4], "classification", "--folds: a fold of whole groups trains"),
    ],
)
def test_too_few_rows_are_an_error_that_says_of_what(labels, groups, task, message):
    labels = np.array(labels, np.int32 if task == "classification" else np.float32)
    groups = None if groups is None else np.array(groups, np.int32)
    with pytest.raises(UserError) as error:
        probes.make_splits(labels, groups, task, count=5, seed=0, class_names=("a", "b"))
    assert str(error.value).startswith(message)
