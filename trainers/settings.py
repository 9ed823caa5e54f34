"""Checks of a config before it is used, beyond the types of its fields; `configs.defaults` describes the fields."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import ml_collections
import numpy as np

import models
from configs.defaults import FIELDS, get_config
from data import Features
from plumbline import UserError, unknown_name

# Types of fields in words, for messages.
_WORDS = {
    bool: "True or False",
    float: "a number",
    int: "a whole number",
    str: "a text",
    tuple: "a tuple",
}


def fields(config: Mapping[str, Any] | ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The values of a config, which may be a plain dict, by path; sections are left out."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        is_section = isinstance(value, (Mapping, ml_collections.ConfigDict))
        flat |= fields(value, f"{prefix}{name}.") if is_section else {prefix + name: value}
    return flat


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config, a plain dict, with the defaults of the fields and sections that it lacks.

    The config of a run lacks the fields that were added to `configs/defaults.py` after the run.
    """
    return _fill(config, get_config().to_dict())


def override(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Returns a copy of the config with other values. An int may stand for a float, and a list for a tuple.

    Args:
      config: the whole config.
      overrides: config path -> value.

    Raises:
      UserError: a path is no field, or a value is of another type.
    """
    changed = config.copy_and_resolve_references()
    known, typed = fields(changed), {}
    for path, value in overrides.items():
        if path not in known:
            raise unknown_name("overrides", path, known)
        old, value = known[path], value.item() if isinstance(value, np.generic) else value
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(old, tuple) and isinstance(value, list):
            value = tuple(value)
        if type(value) is not type(old):
            raise UserError(
                f"{path}: {value!r} is not {_WORDS.get(type(old), type(old).__name__)}; give one, such as {old!r}"
            )
        typed[path] = value
    changed.update_from_flattened_dict(typed)
    return changed


def used_fields(config: Mapping[str, Any] | ml_collections.ConfigDict) -> dict[str, Any]:
    """As `fields`, without the sections of models that the config does not use."""
    name, sections = config["model"]["name"], (Mapping, ml_collections.ConfigDict)
    unused = [f"model.{n}." for n, value in config["model"].items() if isinstance(value, sections) and n != name]
    return {path: value for path, value in fields(config).items() if not path.startswith(tuple(unused))}


def check(config: ml_collections.ConfigDict) -> None:
    """Checks the value of each field, and that fields agree with each other where that needs no data.

    Raises:
      UserError: a value is not possible.
    """
    for path, field in FIELDS.items():
        value = attrgetter(path)(config)
        if field.check is None or field.check.holds(value):
            continue
        if field.check.choices:
            raise unknown_name(path, value, field.check.choices)
        raise UserError(f"{path}: {value} given; it must be {field.check.wanted}")
    for pair in config.transfer.unfreeze:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise UserError(
                f"transfer.unfreeze: {pair!r} is not a pair of a pattern and a duration, such as ('.', '1 epoch')"
            )
    if config.transfer.check and not config.transfer.source:
        raise UserError("transfer.check: compares with a training from scratch, but transfer.source is not given")
    if config.train.recompute_statistics and not config.train.ema_decay:
        raise UserError("train.recompute_statistics: is for averaged parameters; set train.ema_decay, or leave it out")
    if config.train.patience and config.data.validation == "none":
        raise UserError("train.patience: needs a validation split; set data.validation, or set patience to ''")


def check_task(config: ml_collections.ConfigDict, features: Features) -> None:
    """Checks that the config fits the data.

    Args:
      config: the whole config.
      features: of an example of the data.

    Raises:
      UserError: a field is for another kind of data, or for another task.
    """
    if features.task != "classification":
        if config.objective.label_smoothing:
            raise UserError(f"objective.label_smoothing: is for classification, but the data are for {features.task}")
        if config.data.class_weights != "none":
            raise UserError(f"data.class_weights: are for classification, but the data are for {features.task}")
    _check_model(config, features)
    if features.kind != "image":
        for path in (path for path, field in FIELDS.items() if field.images):
            if attrgetter(path)(config):
                what = "holds texts" if features.kind == "text" else "is a table"
                raise UserError(f"{path}: is for images, but '{config.data.source}' {what}")
    if features.kind == "text" and config.augment.mixup:
        raise UserError("augment.mixup: cannot mix texts; leave it at 0")
    if features.categories and config.augment.mixup:
        raise UserError("augment.mixup: cannot mix categories; leave the categorical columns out, or set mixup to 0")


def _fill(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **values}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(filled[name], Mapping):
            filled[name] = _fill(filled[name], default)
    return filled


def _check_model(config: ml_collections.ConfigDict, features: Features) -> None:
    """Checks that text models get texts, and that the objective fits the model's outputs."""
    name, source = config.model.name, config.data.source
    family = models.REGISTRY.get(name)
    if family is None:
        return
    if features.kind == "text" and not family.reads_text:
        text_models = " or ".join(sorted(known for known, other in models.REGISTRY.items() if other.reads_text))
        raise UserError(f"model.name: '{name}' reads no texts, but '{source}' holds some; choose {text_models}")
    if features.kind != "text":
        if family.reads_text:
            raise UserError(f"model.name: '{name}' reads texts, but '{source}' holds none; choose another model")
        return
    pooling, objective = config.model[name].pooling, config.objective.name
    if pooling and (pooling == "tokens") != (features.task == "language"):
        wanted = "'tokens'" if features.task == "language" else "another than 'tokens'"
        raise UserError(f"model.{name}.pooling: '{pooling}' given, but {features.task} takes {wanted}; leave it empty")
    if features.task == "language" and objective in ("auto", "next_token") and not family.causal:
        raise UserError(
            f"objective.name: '{objective}' asks for the next token, which '{name}' sees; choose 'masked_token', or a "
            "model that reads from left to right"
        )
