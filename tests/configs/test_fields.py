"""Every field is described once, and everything that reads fields agrees with its description."""

import json

import ml_collections
import pytest

from configs import defaults, fields
from configs.fields import Pretrained, Role
from plumbline import UserError
from trainers import settings
from trainers.populations.members import check_possible, check_shared, program_key
from trainers.run.identity import defining_fields
from trainers.step import hyperparameters


def values():
    return settings.fields(defaults.get_config())


def other(path):
    """A value of the type of the field, but not the default, that passes its check."""
    field = settings.FIELDS[path]
    if field.check and field.check.choices:
        return next(choice for choice in field.check.choices if choice != field.default)
    if path == "transfer.unfreeze":
        return (("head", "1 epochs"),)
    return {
        bool: lambda old: not old,
        int: lambda old: old + 1,
        float: lambda old: old / 2 if old else 0.25,
        str: lambda old: f"{old}x",
        tuple: lambda old: (*old, old[-1] if old else "x"),
    }[type(field.default)](field.default)


def changed(path):
    config = defaults.get_config()
    # A field of a model counts where that model is used.
    parts = path.split(".")
    if parts[0] == "model" and len(parts) == 3:
        config.model.name = parts[1]
    before = config.copy_and_resolve_references()
    config.update_from_flattened_dict({path: other(path)})
    return before, config


def test_the_descriptions_are_those_of_the_config():
    assert {path: field.default for path, field in defaults.FIELDS.items()} == values()
    assert all(isinstance(field.role, Role) for field in defaults.FIELDS.values())


def test_a_field_without_a_role_is_an_error():
    section = ml_collections.ConfigDict({"train": {}})
    section.train.duration = fields.traced("40 epochs")
    section.train.warp = 3
    with pytest.raises(TypeError, match=r"configs/defaults.py: train.warp has no role; write hyperparameter\(3\)"):
        fields.flatten(section)


def test_hyperparameters_have_names_of_their_own():
    paths = [path for path, field in settings.FIELDS.items() if field.role is Role.HYPERPARAMETER]
    assert sorted(hyperparameters.FIELDS.values()) == sorted(paths)
    assert all(isinstance(settings.FIELDS[path].default, float) for path in paths)


@pytest.mark.parametrize("path", settings.FIELDS)
def test_a_field_does_what_its_role_says(path):
    field = settings.FIELDS[path]
    before, after = changed(path)
    # A run that is resumed may have another value or not.
    assert (defining_fields(before.to_dict()) == defining_fields(after.to_dict())) == field.may_change
    # Trainings that differ in it share a compiled program, or not. `ema_decay` and `sparsity` add arrays to the state.
    shares = program_key(before) == program_key(after)
    if field.role in (Role.CONSTANT, Role.SHARED):
        assert shares == (field.role is Role.SHARED and field.may_change)
    else:
        assert shares == (path not in ("train.ema_decay", "prune.sparsity", "schedule.step_at", "transfer.unfreeze"))
    if field.role is Role.SHARED or path == "seed":
        with pytest.raises(UserError, match=f"{path}: cannot differ between the trainings of a population"):
            check_shared({path: other(path)})
    else:
        check_shared({path: other(path)})
    if field.runs_only:
        with pytest.raises(UserError, match=f"{path}: is for `plumbline train`, not for populations"):
            check_possible(after)


@pytest.mark.parametrize("path", [path for path, field in settings.FIELDS.items() if field.check])
def test_the_default_passes_its_check_and_an_impossible_value_does_not(path):
    config = defaults.get_config()
    settings.check(config)
    config.update_from_flattened_dict({path: "perhaps" if isinstance(settings.FIELDS[path].default, str) else -1})
    with pytest.raises(UserError, match=f"^{path}: "):
        settings.check(config)


def test_the_values_of_schedules_that_differ_share_a_program():
    config, other_config = defaults.get_config(), defaults.get_config()
    other_config.schedule.step_at = ("10 percent", "20 percent")
    other_config.train.ema_decay = config.train.ema_decay = 0.5
    other_config.train.ema_decay = 0.9
    assert program_key(config) == program_key(other_config)


def test_the_order_in_the_key_of_a_program_is_that_of_earlier_files():
    # Their files hold a hash of the key, by which a population finds the mode that it was trained in.
    names = list(json.loads(program_key(defaults.get_config())))
    assert names == [*sorted(set(names) - {"model.remat"}), "model.remat"]


def test_what_a_source_sets_are_inputs_and_pooling():
    kinds = {path: field.pretrained for path, field in settings.FIELDS.items() if field.pretrained}
    unset = ("data.image_size", "data.channels", "data.tokenizer", "model.bert.pooling", "model.gpt.pooling")
    assert kinds == dict.fromkeys(unset, Pretrained.IF_UNSET) | {"data.normalize": Pretrained.REPLACES}
