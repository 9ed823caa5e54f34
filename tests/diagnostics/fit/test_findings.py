import dataclasses
import functools

import jax
import numpy as np
import pytest

from configs import breast_cancer_mlp, defaults, digits_mlp
from data.pool import load_pool
from diagnostics import trainings
from diagnostics.fit import diagnostic, from_run, from_trainings
from diagnostics.fit.scale import Scale
from diagnostics.trainings import Control
from plumbline import UserError
from trainers import settings
from trainers.populations.population import Population
from trainers.settings import override

NAMES = list(diagnostic.DIAGNOSTIC.names)
SMALL = {
    "data.validation": "none",
    "train.batch_size": 32,
    "train.duration": "300 steps",
    "train.evaluate_every": "50 steps",
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (32,),
    "optimizer.learning_rate": 1e-2,
    "optimizer.weight_decay": 0.05,
    "population.mode": "map",
}


def audited(config, pool, *, folds=3, seeds=2, sizes=4):
    """The results of the trainings, and the findings by name."""
    plan = trainings.plan(config, pool, folds=folds, seeds=seeds, sizes=sizes)
    population = Population(config, plan.pool, devices=jax.devices()[:2], progress=False)
    trained = plan.gather(population.train(plan.members, predict=True))
    findings = from_trainings.judge(config, pool, trained)
    assert [finding.name for finding in findings] == NAMES
    for finding in findings:
        for remedy in finding.remedies:
            settings.check(override(config, remedy.overrides))
    return trained, {finding.name: finding for finding in findings}


def make(directory, inputs, labels, **changes):
    """Config and pool of a table."""
    header = ",".join(f"x{n}" for n in range(inputs.shape[1]))
    rows = [",".join(map(str, (*row, label))) for row, label in zip(inputs.tolist(), labels, strict=True)]
    (directory / "set.csv").write_text("\n".join([f"{header},label", *rows, ""]))
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    table = {"data.source": f"csv:{directory}/set.csv", "data.target": "label"}
    config = override(defaults.get_config(), {**SMALL, **table, **changes})
    return config, load_pool(config.data, seed=0)


def board(count=900):
    """Two numbers, and whether they lie on a black or a white square, which no linear model predicts."""
    inputs = np.random.default_rng(0).uniform(0, 3, (count, 2)).round(4)
    return inputs, np.where(np.floor(inputs).sum(axis=1) % 2, "white", "black")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A wide model on 200 examples of 40 numbers, of which few count and a tenth of the labels is wrong."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(250, 40)).round(4)
    labels = np.where(inputs[:, :5].sum(axis=1) > 0, "yes", "no")
    labels = np.where(random.random(250) < 0.1, np.where(labels == "yes", "no", "yes"), labels)
    config, pool = make(
        tmp_path_factory.mktemp("wide"), inputs, labels, model__mlp__hidden_sizes=(512,), optimizer__weight_decay=0.0
    )
    assert len(pool.splits["train"]) == 200
    return config, pool, *audited(config, pool)


def test_a_linear_model_on_a_hard_task_underfits(tmp_path):
    config, pool = make(tmp_path, *board(), model__name="linear")
    _, findings = audited(config, pool)
    finding = findings["fit"]
    assert finding.message.startswith("The model underfits: accuracy ")
    assert "predicts them that was not fitted to them" in finding.message
    assert finding.severity == "high"
    assert {"model.name": "mlp"} in [dict(remedy.overrides) for remedy in finding.remedies]
    # It cannot memorise random labels either, and a tree does better.
    assert findings["control"].measures[1].value < 0.7
    assert findings["baselines"].severity == "high"


def test_a_wide_model_on_200_examples_overfits(wide):
    *_, findings = wide
    finding = findings["fit"]
    assert finding.message.startswith("The model overfits: accuracy 100.0%")
    gap = finding.measures[0]
    assert gap.low > 0.05
    assert "It can memorise random labels (100.0% of them)" in finding.message
    changes = functools.reduce(lambda all_, remedy: all_ | dict(remedy.overrides), finding.remedies, {})
    assert {"model.dropout", "optimizer.weight_decay", "model.mlp.hidden_sizes"} <= set(changes)
    assert changes["model.mlp.hidden_sizes"] == (256,)
    # Without a validation split there is no early stopping.
    assert "train.patience" not in changes


def test_the_control_is_at_chance_and_says_what_was_memorised(wide):
    *_, findings = wide
    finding = findings["control"]
    assert finding.severity == "none"
    excess, memorised, p_value = finding.measures
    assert excess.low <= 0 <= excess.high
    assert p_value.value > 0.001
    assert memorised.value == 1.0
    assert "as expected" in finding.message


def test_a_control_that_predicts_true_labels_is_a_severe_finding(wide):
    config, pool, trained, _ = wide
    rows = trained.control.rows
    known = np.stack([np.eye(2, dtype=np.float32)[pool.labels[rows]]] * 10)
    known[0, :5], known[1, 5:10] = known[0, :5, ::-1].copy(), known[1, 5:10, ::-1].copy()
    leaking = dataclasses.replace(trained.control, predictions=known)
    findings = {
        each.name: each for each in from_trainings.judge(config, pool, dataclasses.replace(trained, control=leaking))
    }
    assert findings["control"].severity == "high"
    assert "labels that it must not see" in findings["control"].message


def test_a_wide_model_is_overconfident(wide):
    *_, findings = wide
    assert findings["calibration"].severity in ("low", "medium")
    assert "it is overconfident" in findings["calibration"].message
    assert {"objective.label_smoothing": 0.05} in [
        dict(remedy.overrides) for remedy in findings["calibration"].remedies
    ]


def test_nine_trainings_on_labels_at_random_are_no_control(wide):
    config, pool, trained, _ = wide
    own = trained.control
    nine = Control(labels=own.labels[:9], own=own.own[:9], rows=own.rows, predictions=own.predictions[:9])
    finding = from_trainings.judge(config, pool, dataclasses.replace(trained, control=nine))[1]
    assert finding.message.startswith("Cannot tell: it takes 10 trainings on random labels")


@pytest.mark.slow
def test_shuffled_labels_are_memorised(tmp_path):
    inputs, labels = board(600)
    labels = np.random.default_rng(1).permutation(labels)
    inputs = np.concatenate([inputs, np.random.default_rng(2).normal(size=(600, 30)).round(4)], axis=1)
    config, pool = make(
        tmp_path,
        inputs,
        labels,
        model__mlp__hidden_sizes=(256,),
        train__duration="800 steps",
        optimizer__weight_decay=0.0,
    )
    _, findings = audited(config, pool)
    assert findings["fit"].message.startswith("The model overfits: ")
    assert "It memorises: on held-out rows it is no better than chance" in findings["fit"].message
    assert findings["fit"].severity == "high"


@pytest.mark.slow
def test_a_regression_is_judged_by_the_variance_it_explains():
    source = {"data.source": "sklearn:diabetes", "model.mlp.hidden_sizes": (8,), "train.duration": "150 steps"}
    config = override(defaults.get_config(), {**SMALL, **source, "optimizer.weight_decay": 1.0})
    pool = load_pool(config.data, seed=0)
    trained, findings = audited(config, pool, folds=5)
    gap, train, held_out = findings["fit"].measures[:3]
    assert held_out.name == "R2 out of fold"
    squared = trained.out_of_fold.scores(pool).mean()
    assert held_out.value == pytest.approx(1 - squared / pool.labels[pool.splits["train"]].var(), rel=1e-3)
    assert gap.value == pytest.approx(train.value - held_out.value)
    assert "a regression gives no probabilities" in findings["calibration"].message
    assert findings["control"].measures[0].low <= 0 <= findings["control"].measures[0].high
    assert "values whose correlation with the true ones is" in findings["control"].message


def test_no_r2_is_above_one_however_few_the_groups():
    scale = Scale(is_share=False, variance=100.0)
    mean, low, high = scale.mean(
        np.array([0.0, 0.0, 50.0, 60.0, 0.0]), np.array([1.0, 1, 1, 1, 0.1]), np.array([0, 0, 1, 1, 2])
    )
    assert mean == pytest.approx(1 - 110 / 4.1 / 100)
    assert low < mean < high == 1.0


def test_of_a_test_split_of_one_group_baselines_are_not_judged(wide):
    config, pool, trained, findings = wide
    alone = dataclasses.replace(
        pool, groups=np.where(np.isin(np.arange(250), pool.splits["test"]), 0, 1 + np.arange(250))
    )
    found = {each.name: each for each in from_trainings.judge(config, alone, trained)}["baselines"]
    assert found.severity == "unknown"
    assert "there is no interval for held-out scores" in found.message
    assert "nan" not in found.message
    # What was measured is reported all the same.
    assert found.measures[1].value == findings["baselines"].measures[1].value
    assert found.evidence[0].header == findings["baselines"].evidence[0].header


@pytest.mark.slow
def test_where_all_diverges_each_finding_says_so():
    config = override(
        defaults.get_config(),
        {**SMALL, "data.source": "sklearn:wine", "optimizer.name": "sgd", "optimizer.learning_rate": 1e30},
    )
    pool = load_pool(config.data, seed=0)
    _, findings = audited(config, pool)
    for name in ("fit", "baselines", "calibration"):
        assert "all trainings on the training split diverged" in findings[name].message
    assert findings["optimisation"].severity == "high"
    assert "The training diverged" in findings["optimisation"].message


@pytest.mark.slow
def test_a_sound_training_is_called_sound():
    config = override(breast_cancer_mlp.get_config(), {"population.mode": "map"})
    pool = load_pool(config.data, seed=0)
    _, findings = audited(config, pool)
    assert findings["fit"].message.startswith("The fit is sound: accuracy ")
    assert findings["fit"].remedies == ()
    assert findings["optimisation"].severity == "none"


@pytest.mark.slow
def test_the_multilayer_perceptron_on_the_digits_is_sound():
    config = digits_mlp.get_config()
    pool = load_pool(config.data, seed=0)
    trained, findings = audited(config, pool, folds=5, seeds=3, sizes=6)
    assert findings["fit"].message.startswith("The fit is sound for groups that training has seen: accuracy 100.0%")
    assert findings["control"].severity == "none"
    assert findings["baselines"].severity == "low"
    assert 0.96 < trained.out_of_fold.share(pool)[0] < 0.985
    scored = {name: value for name, _, value, _, _ in findings["fit"].evidence[0].rows}
    # Whole groups held out are predicted worse, as the test split of other writers is.
    grouped = scored["training rows out of folds of whole groups"]
    assert grouped < scored["training rows out of fold"] - 0.02
    assert scored["test split"] < scored["training rows out of fold"] - 0.02
    # The sentence compares on equal rows, and says which figure to believe.
    assert f"For new groups, believe {grouped:.1%} (" in findings["fit"].message
    lead = findings["baselines"].measures[0]
    size, low, high = (lead.value, lead.low, lead.high) if lead.value > 0 else (-lead.value, -lead.high, -lead.low)
    assert f" by {size:.1%} ({low:.1%} to {high:.1%}) on the same rows" in findings["fit"].message
    assert f"{findings['baselines'].measures[2].value:.1%}" not in findings["fit"].message


def test_a_run_is_judged_by_its_validation_and_test_split(quick_run, command):
    findings = from_run.judge(quick_run)
    assert [finding.name for finding in findings] == NAMES
    by_name = {finding.name: finding for finding in findings}
    scored = {name: value for name, _, value, _, _ in by_name["fit"].evidence[0].rows}
    printed = command("evaluate", f"--workdir={quick_run}", "--split=test").stdout
    assert f"{scored['test split']:.4f}"[:5] in printed
    assert "a run has no trainings on random labels" in by_name["control"].message
    # Thirty steps: far below what a forest does on other writers.
    assert by_name["fit"].message.startswith("The model underfits: ")
    assert {"train.duration": "60 steps"} in [dict(remedy.overrides) for remedy in by_name["fit"].remedies]
    assert "the training loss has 3 points, and at least 5 are needed; lower train.log_every" in (
        by_name["optimisation"].message
    )


@pytest.mark.slow
def test_a_sound_run_is_called_sound(command, tmp_path):
    words = ("--config=configs/breast_cancer_mlp.py", "--config.train.tensorboard=False")
    command("train", *words, f"--workdir={tmp_path}/run")
    findings = {finding.name: finding for finding in from_run.judge(tmp_path / "run")}
    assert findings["fit"].message.startswith("The fit is sound: accuracy ")
    assert findings["calibration"].severity in ("none", "low")
    assert findings["optimisation"].severity == "none"


@pytest.mark.slow
def test_a_run_of_a_regression_is_judged(command, tmp_path):
    words = ("--config=configs/diabetes_mlp.py", "--config.train.tensorboard=False")
    command("train", *words, f"--workdir={tmp_path}/run")
    findings = {finding.name: finding for finding in from_run.judge(tmp_path / "run")}
    assert findings["fit"].measures[1].name == "R2 on training rows"
    assert "a regression gives no probabilities" in findings["calibration"].message
    assert "a ridge regression" in findings["baselines"].message or "a random forest" in findings["baselines"].message


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--workdir: no config.json"):
        from_run.judge(tmp_path)
