import dataclasses

import jax
import numpy as np
import pytest
from sklearn import datasets, linear_model, model_selection, pipeline, preprocessing

from configs import defaults
from data.pool import load_pool
from diagnostics import cross_validation
from diagnostics.cross_validation import Splits
from plumbline import UserError
from trainers.populations.population import Population
from trainers.settings import override

QUICK = {
    "train.duration": "20 steps",
    "train.evaluate_every": "20 steps",
    "train.batch_size": 32,
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (16,),
    "population.mode": "map",
    "data.validation": "none",
}


def make(source, **changes):
    """Config and pool."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    config = override(defaults.get_config(), {"data.source": source, **QUICK, **changes})
    return config, load_pool(config.data, seed=0)


def train(config, pool, members):
    return Population(config, pool, devices=jax.devices()[:2], progress=False).train(members, predict=True)


def cross_validated(config, pool, splits, labels_of=None):
    """Out-of-fold predictions; the trainings may see other labels than those that stratify the folds."""
    members = cross_validation.make_members(pool, config, splits)
    return cross_validation.gather(pool, splits, members, train(config, labels_of or pool, members))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["digits", "sklearn:diabetes"])
def test_predictions_do_not_see_the_labels_that_were_held_out(source):
    config, pool = make(source)
    kind = "stratified" if pool.features.task == "classification" else "shuffled"
    splits = Splits(kind=kind, count=4, seeds=(0,))
    true = cross_validated(config, pool, splits)
    held_out = true.rows[true.fold[0] == 1]
    labels = pool.labels.copy()
    labels[held_out] = np.random.default_rng(0).permutation(labels[held_out])
    misled = cross_validated(config, pool, splits, dataclasses.replace(pool, labels=labels))
    same = (true.predictions == misled.predictions).all(axis=-1)[0]
    assert same[true.fold[0] == 1].all()
    # The other folds trained on those labels.
    assert not same[true.fold[0] != 1].any()


@pytest.mark.slow
def test_what_is_fitted_on_a_fold_does_not_see_the_inputs_that_were_held_out():
    config, pool = make("sklearn:wine")
    splits = Splits(kind="stratified", count=4, seeds=(0,))
    true = cross_validated(config, pool, splits)
    held_out = true.rows[true.fold[0] == 1]
    inputs = pool.inputs.copy()
    inputs[held_out[::2]] *= 100
    odd = cross_validated(config, pool, splits, dataclasses.replace(pool, inputs=inputs))
    untouched = np.isin(true.rows, held_out[1::2])
    np.testing.assert_array_equal(odd.predictions[0, untouched], true.predictions[0, untouched])
    member = cross_validation.make_members(pool, config, splits)[1]
    scaler = preprocessing.StandardScaler().fit(pool.inputs[member.train])
    np.testing.assert_allclose(pool.fit(member.train, config.data)["mean"], scaler.mean_, rtol=1e-5)


def test_logistic_regression_agrees_with_cross_val_predict():
    # 160 rows in five folds of 32: a full batch is 128 rows in each.
    config, pool = make(
        "sklearn:wine",
        data__test="10 percent",
        model__name="linear",
        optimizer__name="sgd",
        optimizer__momentum=0.95,
        optimizer__learning_rate=0.2,
        # Softmax with C = 1 penalises half the squared weights once for all 128 rows.
        optimizer__weight_decay=1 / 128,
        schedule__name="constant",
        train__batch_size=128,
        train__duration="1500 steps",
        train__evaluate_every="1500 steps",
    )
    splits = Splits(kind="stratified", count=5, seeds=(0,))
    found = cross_validated(config, pool, splits)
    rows = cross_validation.select_rows(pool)
    assert len(rows) == 160
    inputs, labels = (array[pool.rows[rows]] for array in datasets.load_wine(return_X_y=True))
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)
    )
    splitter = model_selection.StratifiedKFold(5, shuffle=True, random_state=0)
    expected = model_selection.cross_val_predict(model, inputs, labels, cv=splitter, method="predict_proba")
    np.testing.assert_allclose(found.predictions[0], expected, atol=1e-3)
    assert np.abs(expected - labels[:, None]).max() > 0.1


@pytest.mark.slow
def test_each_row_but_the_tests_is_predicted_once_a_seed():
    config, pool = make("digits", data__validation="10 percent")
    splits = Splits(kind="group", count=3, seeds=(4, 5))
    members = cross_validation.make_members(pool, config, splits)
    found = cross_validation.gather(pool, splits, members, train(config, pool, members))
    assert not set(found.rows) & set(pool.splits["test"])
    assert len(found.rows) == len(pool.rows) - len(pool.splits["test"])
    assert np.isfinite(found.predictions).all()
    assert set(np.unique(found.fold)) == {0, 1, 2}
    assert not np.array_equal(found.fold[0], found.fold[1])
    for member in members:
        parts = [set(pool.groups[rows]) for rows in (member.train, member.validation, member.held_out)]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
    # The figures of a fold are those of its rows.
    right = found.predictions[1].argmax(axis=1) == pool.labels[found.rows]
    assert found.metrics[1][2]["accuracy"] == pytest.approx(right[found.fold[1] == 2].mean())
    assert found.share(pool)[0] == pytest.approx(found.scores(pool).mean())


def made_up(pool, predictions, kind="stratified", metrics=None):
    """Out-of-fold predictions (S, N, outputs) from nowhere."""
    seeds = tuple(range(len(predictions)))
    rows = cross_validation.select_rows(pool)
    return cross_validation.OutOfFold(
        splits=Splits(kind=kind, count=2, seeds=seeds),
        rows=rows,
        fold=np.zeros(predictions.shape[:2], np.int32),
        predictions=predictions,
        metrics=metrics or [],
        diverged=[],
    )


def test_optimism_is_the_difference_row_by_row_with_an_interval_over_groups():
    _, pool = make("digits")
    rows = cross_validation.select_rows(pool)
    labels, groups = pool.labels[rows], pool.groups[rows]
    right = np.eye(10, dtype=np.float32)[labels][None]
    # Of the rows of every second writer, half are wrong in the grouped folds.
    wrong = (groups % 2 == 0) & (np.arange(len(rows)) % 2 == 0)
    grouped = np.where(wrong[None, :, None], np.roll(right, 1, axis=-1), right)
    mean, low, high = cross_validation.optimism(pool, made_up(pool, right), made_up(pool, grouped))
    assert mean == pytest.approx(wrong.mean())
    assert 0 < low < mean < high
    none, *bounds = cross_validation.optimism(pool, made_up(pool, right), made_up(pool, right))
    assert [none, *bounds] == [0, 0, 0]


def test_accuracy_over_rows_of_groups_has_an_interval_over_groups():
    _, pool = make("digits")
    rows = cross_validation.select_rows(pool)
    right = np.eye(10, dtype=np.float32)[pool.labels[rows]][None]
    # All rows of one writer of eleven are wrong.
    wrong = pool.groups[rows] == pool.groups[rows][0]
    found = made_up(pool, np.where(wrong[None, :, None], np.roll(right, 1, axis=-1), right))
    mean, low, high = found.share(pool)
    assert mean == pytest.approx(1 - wrong.mean())
    # Wilson's interval, of independent rows, is from 0.89 to 0.92.
    assert low < 0.8
    assert high == 1
    low, high = found.share(dataclasses.replace(pool, groups=None))[1:]
    assert high - low < 0.04


def test_folds_that_are_the_same_for_all_seeds_count_once():
    _, pool = make("digits")
    predictions = np.zeros((2, len(cross_validation.select_rows(pool)), 10), np.float32)
    metrics = [[{"accuracy": 0.8}, {"accuracy": 0.9}, {"accuracy": 0.7}], [{"accuracy": 0.9}] * 3]
    one_group = made_up(pool, predictions, "leave_one_group_out", metrics)
    np.testing.assert_allclose(one_group.values("accuracy"), [0.85, 0.9, 0.8])
    assert len(made_up(pool, predictions, "group", metrics).values("accuracy")) == 6
    # As the corrected resampled t-test (Nadeau & Bengio 2003) has it, with two degrees of freedom.
    mean, low, _ = one_group.intervals()["accuracy"]
    assert mean - low == pytest.approx(4.302653 * 0.05 * np.sqrt(1 / 3 + 1 / 2))


def test_intervals_end_where_the_metric_does_and_two_folds_have_none():
    _, pool = make("digits")
    predictions = np.zeros((1, len(cross_validation.select_rows(pool)), 10), np.float32)
    metrics = [[{"accuracy": 0.9, "loss": 0.1}, {"accuracy": 1.0, "loss": 0.9}, {"accuracy": 1.0, "loss": 0.2}]]
    three = made_up(pool, predictions, metrics=metrics).intervals()
    assert three["accuracy"][2] == 1
    assert three["accuracy"][1] < 0.9
    assert three["loss"][1] == 0
    two = made_up(pool, predictions, metrics=[metrics[0][:2]]).intervals()
    assert two["accuracy"][0] == pytest.approx(0.95)
    assert np.isnan(two["accuracy"][1:]).all()


def test_groups_predicted_in_one_way_only_have_no_optimism():
    _, pool = make("digits")
    predictions = np.full((1, len(cross_validation.select_rows(pool)), 10), np.nan, np.float32)
    difference = cross_validation.optimism(pool, made_up(pool, predictions), made_up(pool, predictions))
    assert np.isnan(difference).all()


@pytest.mark.parametrize(
    ("difference", "task", "message"),
    [
        ((0.03, 0.01, 0.05), "classification", "LEAKAGE: shuffled folds look better by 3 points of accuracy (95 %: 1 "),
        ((0.01, -0.01, 0.03), "classification", "differ by 1 points of accuracy (95 %: -1 to 3 over 7 groups), an "),
        ((-9.0, -12.0, -6.0), "regression", "look worse by 9 of mean squared error (95 %: 6 to 12 over 7 groups)."),
        ((0.02, np.nan, np.nan), "classification", "Cannot tell whether that is leakage, as the rows predicted by "),
        ((np.nan,) * 3, "classification", "Cannot tell whether there is leakage: no row was predicted by both"),
    ],
)
def test_the_description_agrees_with_the_interval(difference, task, message):
    text = cross_validation.describe_optimism(difference, task, 7)
    assert message in text
    assert "nan" not in text
    assert ("an interval that contains 0" in text) == (difference[1] <= 0 <= difference[2])


def test_validation_rows_that_no_fold_can_set_apart_are_told_beforehand():
    config = defaults.get_config()
    config.data.validation = "split:valid"
    assert "'split:valid' are split into folds with all others" in cross_validation.describe_validation(config)
    for config.data.validation in ("none", "10 percent"):
        assert cross_validation.describe_validation(config) is None


def test_a_category_that_only_held_out_rows_have_is_unseen_in_the_fold(tmp_path):
    rows = [f"{n},{'rare' if n < 5 else 'ab'[n % 2]},{'yes' if n % 3 else 'no'}" for n in range(60)]
    (tmp_path / "people.csv").write_text("\n".join(["age,city,label", *rows]) + "\n")
    source = f"csv:{tmp_path / 'people.csv'}"
    config, pool = make(source, data__target="label", data__test="10 percent")
    with_rare, without = (np.flatnonzero(pool.inputs[:, 0] >= least) for least in (0, 5))
    code = int(pool.inputs[pool.rows == 0][0, 1])
    assert pool.fit(with_rare, config.data)["slots"][code] == code
    fitted = pool.fit(without, config.data)
    assert fitted["slots"][code] == 0
    np.testing.assert_allclose(fitted["mean"], [np.arange(5, 60).mean()])


def test_a_fold_that_diverged_leaves_no_predictions_and_is_named():
    config, pool = make("sklearn:wine", optimizer__learning_rate=1e30, optimizer__name="sgd", train__max_skipped=1)
    splits = Splits(kind="stratified", count=2, seeds=(0,))
    found = cross_validated(config, pool, splits)
    assert found.diverged == ["stratified, seed 0, fold 0", "stratified, seed 0, fold 1"]
    assert np.isnan(found.predictions).all()
    assert found.intervals() == {}
    assert found.share(pool) is None


def test_folds_that_cannot_be_made_are_an_error():
    config, pool = make("digits")
    with pytest.raises(UserError, match=r"12 given, but there are 11 groups \(and 3 in the test split"):
        cross_validation.make_members(pool, config, Splits(kind="group", count=12, seeds=(0,)))
    config, pool = make("sklearn:wine")
    with pytest.raises(UserError, match=r"--folds: 100 given, but class 'class_2' has \d+ row"):
        cross_validation.make_members(pool, config, Splits(kind="stratified", count=100, seeds=(0,)))
