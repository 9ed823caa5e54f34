import numpy as np
import pytest
from sklearn import ensemble, feature_extraction, linear_model, metrics, model_selection, pipeline
from sklearn.preprocessing import StandardScaler

from configs import defaults
from data.features import Features
from data.pool import Pool, load_pool
from diagnostics.fit import baselines


def make(source):
    config = defaults.get_config()
    config.data.source, config.data.normalize = source, "none"
    pool = load_pool(config.data, seed=0)
    return config, pool, baselines.fit(config, pool, pool.splits["train"], pool.splits["test"], seed=0)


def by_name(found):
    return {each.name: each for each in found.found}


@pytest.fixture(scope="module")
def wine():
    return make("sklearn:wine")


def parts(pool):
    train, test = pool.splits["train"], pool.splits["test"]
    return pool.inputs[train], pool.labels[train], pool.inputs[test], pool.labels[test]


def test_the_majority_looks_at_no_inputs(wine):
    _, pool, found = wine
    _, labels, _, asked = parts(pool)
    likeliest = np.bincount(labels).argmax()
    first = found.found[0]
    assert first.name == "majority"
    np.testing.assert_array_equal(first.held_out, asked == likeliest)
    np.testing.assert_array_equal(first.train, labels == likeliest)


def test_the_forest_is_that_of_scikit_learn(wine):
    _, pool, found = wine
    inputs, labels, held_out, asked = parts(pool)
    forest = ensemble.RandomForestClassifier(200, random_state=0).fit(inputs, labels)
    np.testing.assert_array_equal(by_name(found)["random forest"].held_out, forest.predict(held_out) == asked)
    np.testing.assert_array_equal(by_name(found)["random forest"].train, forest.predict(inputs) == labels)


def test_logistic_regression_is_that_of_scikit_learn_with_its_own_choice_of_penalty(wine):
    _, pool, found = wine
    inputs, labels, held_out, asked = parts(pool)
    folds = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    model = linear_model.LogisticRegressionCV(
        scoring="accuracy",
        Cs=[1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        cv=folds,
        max_iter=300,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    expected = pipeline.make_pipeline(StandardScaler(), model).fit(inputs, labels).score(held_out, asked)
    assert by_name(found)["logistic regression"].held_out.mean() == pytest.approx(expected, abs=0.03)
    assert expected > 0.9


def test_of_a_regression_ridge_is_that_of_scikit_learn():
    _, pool, found = make("sklearn:diabetes")
    inputs, labels, held_out, asked = parts(pool)
    folds = model_selection.KFold(3, shuffle=True, random_state=0)
    model = linear_model.RidgeCV(alphas=(1e4, 1e3, 1e2, 1e1, 1.0, 1e-1), cv=folds)
    predicted = pipeline.make_pipeline(StandardScaler(), model).fit(inputs, labels).predict(held_out)
    squared = by_name(found)["ridge regression"].held_out.mean()
    assert squared == pytest.approx(metrics.mean_squared_error(asked, predicted), rel=0.01)
    mean = by_name(found)["mean"].held_out.mean()
    assert mean == pytest.approx(np.square(asked - labels.mean(dtype=np.float64)).mean(), rel=1e-5)
    assert squared < 0.7 * mean
    assert by_name(found)["random forest"].held_out.mean() < 0.8 * mean


def test_pruning_cuts_a_tree_back_where_labels_are_noisy_and_not_where_they_are_clear():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(400, 5)).astype(np.float32)
    clear = (inputs[:, 0] > 0).astype(np.int32)
    noisy = np.where(random.random(400) < 0.3, 1 - clear, clear).astype(np.int32)
    asked = random.normal(size=(2000, 5)).astype(np.float32)
    truth = asked[:, 0] > 0
    for labels, least in ((clear, 0.98), (noisy, 0.9)):
        predicted = baselines.fit_tree(inputs, labels, 0, classification=True)(asked)
        assert (predicted == truth).mean() > least
    # An unpruned tree learns the noise.
    from sklearn.tree import DecisionTreeClassifier

    assert (DecisionTreeClassifier(random_state=0).fit(inputs, noisy).predict(asked) == truth).mean() < 0.75


def of_texts(texts, labels):
    features = Features(
        kind="text", shape=(4,), dtype="int32", task="classification", class_names=("good", "bad"), vocabulary=9
    )
    count = len(texts)
    return Pool(
        features=features,
        inputs=np.zeros((count, 4), np.int32),
        labels=labels,
        weights=np.ones(count, np.float32),
        groups=None,
        rows=np.arange(count),
        splits={"train": np.arange(count // 2), "test": np.arange(count // 2, count)},
        fingerprint="",
        texts=texts,
    )


def test_texts_are_read_as_tf_idf_of_the_training_texts():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=240).astype(np.int32)
    words = [["plain", "fine"], ["dull", "poor"]]
    texts = [
        " ".join(["the", "film", "is", words[label][random.integers(2)], f"w{random.integers(50)}"]) for label in labels
    ]
    pool = of_texts(texts, labels)
    found = baselines.fit(defaults.get_config(), pool, pool.splits["train"], pool.splits["test"], seed=0)
    for name in ("logistic regression", "decision tree", "random forest"):
        assert by_name(found)[name].held_out.mean() > 0.98
    vectorizer = feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform(texts[:120])
    forest = ensemble.RandomForestClassifier(200, random_state=0).fit(known, labels[:120])
    right = forest.predict(vectorizer.transform(texts[120:])) == labels[120:]
    np.testing.assert_array_equal(by_name(found)["random forest"].held_out, right)
    # Without a word in them, the majority is what is left.
    empty = of_texts(["!"] * 240, labels)
    found = baselines.fit(defaults.get_config(), empty, empty.splits["train"], empty.splits["test"], seed=0)
    assert by_name(found)["random forest"].held_out.mean() == by_name(found)["majority"].held_out.mean()


def test_rows_are_bounded_and_those_without_weight_left_out(monkeypatch):
    config = defaults.get_config()
    pool = load_pool(config.data, seed=0)
    pool.weights[pool.splits["train"][:100]] = 0
    monkeypatch.setattr(baselines, "_MOST_ROWS", 300)
    monkeypatch.setattr(baselines, "_TREES", 20)
    found = baselines.fit(config, pool, pool.splits["train"], pool.splits["test"], seed=0)
    assert len(found.train) == 300
    assert not np.isin(pool.splits["train"][:100], found.train).any()
    # Classes in nearly their shares.
    assert np.bincount(pool.labels[found.train]).min() > 20
    assert len(found.found[1].train) == 300


def test_one_class_alone_leaves_the_majority():
    config, pool, _ = make("sklearn:iris")
    train = pool.splits["train"][pool.labels[pool.splits["train"]] == 1]
    found = baselines.fit(config, pool, train, pool.splits["test"], seed=0)
    assert [each.name for each in found.found] == ["majority"]
