import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from data import Features
from plumbline import UserError
from trainers.step import objectives

CLASSES = Features(
    kind="image",
    shape=(8, 8, 1),
    dtype="uint8",
    task="classification",
    class_names=("a", "b", "c"),
    group_names=("g", "h"),
)
TOKENS = Features(
    kind="text",
    shape=(4,),
    dtype="int32",
    task="language",
    tokenizer=(
        '{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "[MASK]": 2}, "unk_token": "a"}, "added_tokens": []}'
    ),
    vocabulary=3,
)
NUMBERS = Features(kind="table", shape=(4,), dtype="float32", task="regression", group_names=("g", "h"))
SCALING = {"label_mean": jnp.float32(150.0), "label_std": jnp.float32(70.0)}


def measure(features, outputs, labels, weight, group=None, parts=1, bins=15):
    objective = objectives.build("auto", features, calibration_bins=bins)
    pieces = [
        np.array_split(array, parts) if array is not None else [None] * parts
        for array in (outputs, labels, weight, group)
    ]
    pieces = [[None if a is None else jnp.asarray(a) for a in piece] for piece in pieces]
    totals = [objective.totals(*arguments, SCALING) for arguments in zip(*pieces, strict=True)]
    summed = jax.tree.map(lambda *leaves: np.sum(np.asarray(leaves, np.float64), axis=0), *totals)
    return objective.metrics(summed, SCALING)


@pytest.fixture
def classified():
    generator = np.random.default_rng(0)
    return (
        generator.normal(0, 2, (60, 3)).astype(np.float32),
        generator.integers(0, 3, 60).astype(np.int32),
        generator.uniform(0, 2, 60).astype(np.float32),
        generator.integers(0, 2, 60).astype(np.int32),
    )


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 4])
def test_classification_metrics_equal_scikit_learn(classified, parts):
    outputs, labels, weight, group = classified
    got = measure(CLASSES, *classified, parts=parts)
    probabilities = np.asarray(jax.nn.softmax(outputs), np.float64)
    predicted = outputs.argmax(-1)
    assert got["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted, sample_weight=weight))
    loss = sklearn_metrics.log_loss(labels, probabilities / probabilities.sum(-1, keepdims=True), sample_weight=weight)
    assert got["loss"] == pytest.approx(loss, rel=1e-5)
    recall = sklearn_metrics.recall_score(labels, predicted, average=None, sample_weight=weight)
    np.testing.assert_allclose([got[f"accuracy/class/{name}"] for name in "abc"], recall, rtol=1e-5)
    for number, name in enumerate("gh"):
        rows = group == number
        truth = sklearn_metrics.accuracy_score(labels[rows], predicted[rows], sample_weight=weight[rows])
        assert got[f"accuracy/group/{name}"] == pytest.approx(truth)


def test_calibration_error_equals_its_definition(classified):
    outputs, labels, weight, _ = classified
    probabilities = np.asarray(jax.nn.softmax(outputs))
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == labels
    error = 0.0
    for low in np.arange(10) / 10:  # Guo et al. 2017: bins are open below and closed above.
        rows = (confidence > low) & (confidence <= low + 0.1)
        if rows.any():
            gap = np.average(correct[rows], weights=weight[rows]) - np.average(confidence[rows], weights=weight[rows])
            error += abs(gap) * weight[rows].sum() / weight.sum()
    assert measure(CLASSES, outputs, labels, weight, bins=10)["calibration_error"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("parts", [1, 5])
def test_regression_metrics_equal_scikit_learn_in_the_units_of_the_label(parts):
    generator = np.random.default_rng(0)
    labels = generator.normal(150, 70, 50).astype(np.float32)
    weight = generator.uniform(0, 2, 50).astype(np.float32)
    group = generator.integers(0, 2, 50).astype(np.int32)
    outputs = generator.normal(0, 1, (50, 1)).astype(np.float32)
    predicted = outputs[:, 0] * 70 + 150
    got = measure(NUMBERS, outputs, labels, weight, group, parts=parts)
    assert got["mse"] == pytest.approx(
        sklearn_metrics.mean_squared_error(labels, predicted, sample_weight=weight), rel=1e-5
    )
    assert got["mae"] == pytest.approx(
        sklearn_metrics.mean_absolute_error(labels, predicted, sample_weight=weight), rel=1e-5
    )
    assert got["r2"] == pytest.approx(sklearn_metrics.r2_score(labels, predicted, sample_weight=weight), rel=1e-4)
    rows = group == 1
    truth = sklearn_metrics.mean_absolute_error(labels[rows], predicted[rows], sample_weight=weight[rows])
    assert got["mae/group/h"] == pytest.approx(truth, rel=1e-5)


def test_padding_counts_for_nothing(classified):
    outputs, labels, weight, group = classified
    padded = [np.concatenate([a, a[:7] * 0 + 1]).astype(a.dtype) for a in (outputs, labels, weight, group)]
    padded[2][-7:] = 0
    assert measure(CLASSES, *padded) == pytest.approx(measure(CLASSES, *classified))


@pytest.mark.parametrize(
    ("name", "features"),
    [("cross_entropy", NUMBERS), ("squared_error", CLASSES), ("next_token", CLASSES), ("masked_token", NUMBERS)],
)
def test_an_objective_for_another_task_is_an_error(name, features):
    with pytest.raises(UserError, match=f"objective.name: '{name}' is for .*, but the data are for {features.task}"):
        objectives.build(name, features, calibration_bins=15)


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_every_objective_measures_what_it_says(name):
    kinds = {features.task: features for features in (CLASSES, NUMBERS, TOKENS)}
    features = kinds[objectives.OBJECTIVES[name].task]
    objective = objectives.OBJECTIVES[name](features=features)
    outputs = jnp.zeros((5, *features.label_shape, features.num_outputs))
    labels = jnp.zeros((5, *features.label_shape), features.label_dtype)
    targets = objective.targets(labels, SCALING)
    assert objective.weights(jnp.ones(5), targets).shape == (5,)
    assert objective.loss(outputs, targets).shape == (5,)
    assert tuple(objective.score(outputs, targets)) == objective.scores
    assert objective.predictions(outputs, SCALING).shape == outputs.shape
    assert set(
        objective.metrics(jax.device_get(objective.totals(outputs, labels, jnp.ones(5), None, SCALING)), SCALING)
    ) >= {
        "loss",
        objective.best_metric,
    }
    assert isinstance(objective.higher_is_better(objective.best_metric), bool)
    with pytest.raises(UserError, match=r"train.best_metric: unknown name 'los'; did you mean 'loss'"):
        objective.higher_is_better("los")


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_every_metric_keeps_its_contract(name):
    """Parts of a split add up to the whole, padding does not count, and a metric has bounds and a direction."""
    features = {features.task: features for features in (CLASSES, NUMBERS, TOKENS)}[objectives.OBJECTIVES[name].task]
    objective, generator = objectives.OBJECTIVES[name](features=features), np.random.default_rng(0)
    shape = (20, *features.label_shape)
    labels = generator.normal(150, 70, shape) if features.task == "regression" else generator.integers(0, 3, shape)
    rows = [
        generator.normal(size=(*shape, features.num_outputs)).astype(np.float32),
        labels.astype(features.label_dtype),
        generator.uniform(0.5, 2, 20).astype(np.float32),
    ]

    def evaluate(*parts):
        totals = [jax.device_get(objective.totals(*map(jnp.asarray, part), None, SCALING)) for part in parts]
        return objective.metrics(jax.tree.map(lambda *leaves: sum(leaves), *totals), SCALING)

    whole = evaluate(rows)
    assert evaluate([values[:7] for values in rows], [values[7:] for values in rows]) == pytest.approx(whole, rel=1e-5)
    padding = [rows[0][:5], rows[1][:5], np.zeros(5, np.float32)]
    assert evaluate(rows, padding) == pytest.approx(whole, rel=1e-5)
    for metric, (low, high) in objective.bounds.items():
        assert isinstance(whole[metric], float)
        assert low <= whole[metric] <= high, metric
        assert isinstance(objective.higher_is_better(metric), bool)
        assert objective.monitored_metric(metric)[0] == metric


def test_metrics_lie_within_their_bounds(classified):
    outputs, labels, weight, group = classified
    numbers = outputs[:, :1], labels.astype(np.float32), weight, group
    for metrics in (measure(CLASSES, *classified), measure(NUMBERS, *numbers)):
        for name, value in metrics.items():
            low, high = objectives.bounds(name)
            assert low <= value <= high, name
            assert np.isfinite([low, high]).any(), name
    assert objectives.bounds("accuracy/class/a") == (0.0, 1.0)
    assert objectives.bounds("another") == (-np.inf, np.inf)
