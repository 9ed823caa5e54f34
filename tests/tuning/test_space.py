import math

import optuna
import pytest
from sklearn.model_selection import ParameterGrid

from configs import breast_cancer_mlp, diabetes_mlp, digits_mlp, digits_resnet, digits_vit, table
from plumbline import UserError
from tuning.space_parsing import parse

RATE = {"low": 1e-4, "high": 1e-1, "log": True}


def space(**entries):
    return parse({path.replace("__", "."): entry for path, entry in entries.items()}, digits_mlp.get_config())


def test_a_grid_equals_the_parameter_grid_of_scikit_learn():
    found = space(
        optimizer__learning_rate={**RATE, "step": 10},
        model__dropout={"low": 0.0, "high": 0.3, "step": 0.1},
        model__mlp__hidden_sizes=[[32], [64, 64]],
        train__batch_size=[32, 64],
        optimizer__name=["adamw", "sgd"],
    )
    truth = ParameterGrid(
        {
            "optimizer.learning_rate": [1e-4, 1e-3, 1e-2, 1e-1],
            "model.dropout": [0.0, 0.1, 0.2, 0.3],
            "model.mlp.hidden_sizes": [(32,), (64, 64)],
            "train.batch_size": [32, 64],
            "optimizer.name": ["adamw", "sgd"],
        }
    )
    assert list(found.grid()) == list(truth)
    assert found.grid_size() == len(truth) == 128


def test_a_conditional_grid_counts_each_combination_once():
    found = space(
        optimizer__name=["adamw", "sgd", "muon"],
        optimizer__momentum={"choices": [0.8, 0.9], "when": {"optimizer.name": ["sgd", "muon"]}},
        optimizer__nesterov={"choices": [True, False], "when": {"optimizer.name": "sgd"}},
        model__dropout=[0.0, 0.1, 0.2],
    )
    # scikit-learn's way to say the same is a list of grids.
    dropout = {"model.dropout": [0.0, 0.1, 0.2]}
    truth = ParameterGrid(
        [
            {"optimizer.name": ["adamw"], **dropout},
            {"optimizer.name": ["muon"], "optimizer.momentum": [0.8, 0.9], **dropout},
            {
                "optimizer.name": ["sgd"],
                "optimizer.momentum": [0.8, 0.9],
                "optimizer.nesterov": [True, False],
                **dropout,
            },
        ]
    )
    points = [sorted(point.items()) for point in found.grid()]
    assert sorted(points) == sorted(sorted(point.items()) for point in truth)
    assert found.grid_size() == len(points) == 3 + 6 + 12


def test_a_condition_on_an_inactive_dimension_does_not_hold():
    # The config's own momentum is 0.9, but the dimension that has it is inactive.
    found = space(
        optimizer__name=["adamw", "sgd"],
        optimizer__momentum={"choices": [0.8, 0.9], "when": {"optimizer.name": "sgd"}},
        optimizer__nesterov={"choices": [True, False], "when": {"optimizer.momentum": 0.9}},
    )
    assert [len(point) for point in found.grid()] == [1, 2, 3, 3]


def test_a_condition_on_a_field_that_is_not_searched_looks_at_the_config():
    when = {"optimizer.name": ["adamw", "lion"]}
    assert space(model__dropout={"choices": [0.0, 0.1], "when": when}).grid_size() == 2


@pytest.mark.parametrize("seed", range(5))
def test_what_is_drawn_lies_in_the_space_with_the_fields_types(seed):
    found = space(
        optimizer__learning_rate=RATE,
        model__dropout={"low": 0, "high": 0.5, "step": 0.25},
        train__batch_size={"low": 16, "high": 64, "log": True},
        model__mlp__hidden_sizes=[[8], [16, 16]],
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    drawn = found.suggest(trial)
    assert 1e-4 <= drawn["optimizer.learning_rate"] <= 1e-1
    assert drawn["model.dropout"] in (0.0, 0.25, 0.5)
    assert isinstance(drawn["train.batch_size"], int)
    assert drawn["model.mlp.hidden_sizes"] in ((8,), (16, 16))
    assert found.overrides(trial.params) == drawn
    assert found.drawn(drawn) == trial.params


def test_a_logarithmic_range_is_drawn_evenly_in_its_logarithm():
    found = space(optimizer__learning_rate=RATE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rates = [found.suggest(study.ask())["optimizer.learning_rate"] for _ in range(300)]
    assert abs(sum(map(math.log10, rates)) / 300 + 2.5) < 3 * 3 / math.sqrt(12 * 300)


def test_equal_spaces_have_equal_fingerprints_and_others_have_not():
    first = space(optimizer__learning_rate=RATE, model__dropout=[0, 0.1])
    assert first.fingerprint == space(model__dropout=(0.0, 0.1), optimizer__learning_rate=RATE).fingerprint
    assert first.fingerprint != space(optimizer__learning_rate=RATE, model__dropout=[0, 0.2]).fingerprint


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({}, "sweep(): the space is empty; name at least one field with its choices or range"),
        ([], "sweep(): it returns list; let it return a dict from config path to choices"),
        (
            {"optimizer.lerning_rate": [1.0]},
            "sweep(): unknown field 'optimizer.lerning_rate'; did you mean 'optimizer.learning_rate'?",
        ),
        (
            {"optimizer.lr": [1.0]},
            "sweep(): unknown field 'optimizer.lr'; did you mean 'optimizer.learning_rate'?",
        ),
        (
            {"model.dropout": {"choices": [0.1], "when": {"optimizer.name": "sgd"}}},
            "sweep(): 'model.dropout' is active when 'optimizer.name' is 'sgd', which never holds; fix its 'when'",
        ),
        (
            # Momentum is there with SGD only.
            {
                "optimizer.name": ["adamw", "sgd"],
                "optimizer.momentum": {"choices": [0.8, 0.9], "when": {"optimizer.name": "sgd"}},
                "model.dropout": {"low": 0, "high": 1, "when": {"optimizer.name": "adamw", "optimizer.momentum": 0.8}},
            },
            "sweep(): 'model.dropout' is active when 'optimizer.name' is 'adamw' and 'optimizer.momentum' is 0.8, "
            "which never holds; fix its 'when'",
        ),
        (
            {"model.dropout": {"choices": [0.1], "when": "sgd"}},
            "sweep(): 'model.dropout' has 'when': 'sgd'; give a dict from config path to values",
        ),
        ({"model.dropout": []}, "sweep(): 'model.dropout' has no choices; give at least one"),
        ({"model.dropout": [0.1, "much"]}, "sweep(): model.dropout: 'much' is not a number; give one, such as 0.0"),
        ({"model.dropout": [0, 0.0]}, "sweep(): 'model.dropout' has the same choice twice; leave one out"),
        (
            {"model.dropout": 0.1},
            "sweep(): 'model.dropout' is 0.1; give a list of choices or {'low': ..., 'high': ...}",
        ),
        ({"model.dropout": {"low": 0.1}}, "sweep(): 'model.dropout' has no 'high'; a range has 'low' and 'high'"),
        (
            {"model.dropout": {"low": 0.5, "high": 0.1}},
            "sweep(): 'model.dropout' goes from 0.5 to 0.1; 'low' must be less than 'high'",
        ),
        (
            {"model.dropout": {"low": 0, "high": 0.1, "log": True}},
            "sweep(): 'model.dropout' is logarithmic from 0.0; give a 'low' above 0, or choices",
        ),
        (
            {"model.dropout": {"low": 0, "hihg": 0.1}},
            "sweep(): 'model.dropout': unknown name 'hihg'; did you mean 'high'? known: choices, high, log, low, step, "
            "when",
        ),
        (
            {"optimizer.name": {"low": 0, "high": 1}},
            "sweep(): 'optimizer.name' is a range, but the field holds 'adamw'; give a list of choices",
        ),
        (
            {"train.batch_size": {"low": 8, "high": 32.5}},
            "sweep(): train.batch_size: 32.5 is not a whole number; give one, such as 64",
        ),
        (
            {"train.batch_size": {"low": 8, "high": 32, "step": 0.5}},
            "sweep(): 'train.batch_size' has the step 0.5, but the field holds integers; give an integer",
        ),
        (
            {"optimizer.learning_rate": {**RATE, "step": 1}},
            "sweep(): 'optimizer.learning_rate' has the step 1; on a logarithmic range it is a factor above 1",
        ),
        (
            {"model.dropout": {"choices": [0.1], "when": {"optimizer.name": "sgd"}}, "optimizer.name": ["adam"]},
            "sweep(): 'model.dropout' is active when 'optimizer.name' is 'sgd', none of its choices; fix one of them",
        ),
        (
            {
                "model.dropout": {"choices": [0.1], "when": {"optimizer.name": "sgd"}},
                "optimizer.name": {"choices": ["sgd"], "when": {"model.dropout": 0.1}},
            },
            "sweep(): 'model.dropout', 'optimizer.name' depend on each other in a cycle; break it",
        ),
        (
            {"data.source": ["digits"]},
            "sweep(): data.source: cannot differ between the trainings of a population; "
            "train a separate run for each value",
        ),
    ],
)
def test_a_wrong_space_is_refused_in_one_line(sweep, message):
    with pytest.raises(UserError) as error:
        parse(sweep, digits_mlp.get_config())
    assert str(error.value) == message


def test_a_range_without_a_step_has_no_grid():
    with pytest.raises(UserError, match=r"'optimizer.learning_rate' is a range without a step, which has no grid"):
        space(optimizer__learning_rate=RATE).grid_size()


@pytest.mark.parametrize(
    ("module", "arguments", "size"),
    [
        (digits_mlp, [], 64),
        (digits_vit, [], 360),
        (digits_resnet, [], 270),
        (table, ["x.csv,target=y"], 225),
        (breast_cancer_mlp, [], 108),
        (diabetes_mlp, [], 108),
    ],
)
def test_the_shipped_spaces_are_right_and_have_grids(module, arguments, size):
    assert parse(module.sweep(), module.get_config(*arguments)).grid_size() == size
