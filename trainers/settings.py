"""What a config must hold before anything is done with it, beyond the types that it is locked to."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import ml_collections
import numpy as np

import models
from data import Features
from plumbline import UserError, unknown_name

_Check = tuple[Callable[[float], bool], str]
_SHARE: _Check = (lambda value: 0 <= value < 1, "at least 0 and less than 1")
_NOT_NEGATIVE: _Check = (lambda value: value >= 0, "at least 0")
_POSITIVE: _Check = (lambda value: value > 0, "more than 0")
_AT_LEAST_ONE: _Check = (lambda value: value >= 1, "at least 1")

_CHECKS: dict[str, _Check] = {
    "seed": (lambda value: 0 <= value < 2**32, "at least 0 and less than 2**32"),
    "data.cache_limit_gib": _NOT_NEGATIVE,
    "data.examples_per_class": _NOT_NEGATIVE,
    "data.max_corrupt": _NOT_NEGATIVE,
    "data.num_classes": _NOT_NEGATIVE,
    "data.num_examples": _NOT_NEGATIVE,
    "data.text_length": _AT_LEAST_ONE,
    "data.text_stride": _NOT_NEGATIVE,
    "augment.crop_padding": _NOT_NEGATIVE,
    "augment.shift": _NOT_NEGATIVE,
    "augment.color": _SHARE,
    "augment.mixup": _NOT_NEGATIVE,
    "augment.cutmix": _NOT_NEGATIVE,
    "model.dropout": _SHARE,
    "model.stochastic_depth": _SHARE,
    "objective.label_smoothing": _SHARE,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.momentum": _SHARE,
    "optimizer.b1": _SHARE,
    "optimizer.b2": _SHARE,
    "optimizer.clip_norm": _NOT_NEGATIVE,
    "prune.sparsity": _SHARE,
    "transfer.layer_decay": (lambda value: 0 <= value <= 1, "at least 0 and at most 1"),
    "transfer.head_learning_rate": _NOT_NEGATIVE,
    "transfer.lora.rank": _AT_LEAST_ONE,
    "transfer.lora.alpha": _POSITIVE,
    "train.batch_size": _AT_LEAST_ONE,
    "train.accumulation_steps": _AT_LEAST_ONE,
    "train.ema_decay": _SHARE,
    "train.keep_checkpoints": _AT_LEAST_ONE,
    "train.max_skipped": _AT_LEAST_ONE,
    "train.profile.start": _NOT_NEGATIVE,
    "train.profile.steps": _NOT_NEGATIVE,
    "parallel.fsdp_min_size": _AT_LEAST_ONE,
    "execution.scan_steps": _AT_LEAST_ONE,
    "population.lanes": _NOT_NEGATIVE,
    "evaluation.batch_size": _NOT_NEGATIVE,
    "evaluation.calibration_bins": _AT_LEAST_ONE,
}

_ON_DIVERGENCE = ("stop", "rollback")
_PRUNING_SCOPES = ("global", "layer")


def fields(config: Mapping[str, Any] | ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Every field of a config, which may be a plain dict, by its path; sections are none."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        is_section = isinstance(value, (Mapping, ml_collections.ConfigDict))
        flat |= fields(value, f"{prefix}{name}.") if is_section else {prefix + name: value}
    return flat


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
            raise UserError(f"{path}: {value!r} is no {type(old).__name__}; give one, such as {old!r}")
        typed[path] = value
    changed.update_from_flattened_dict(typed)
    return changed


def check(config: ml_collections.ConfigDict) -> None:
    """Checks that numbers lie where they make sense, and choices are among those there are.

    Raises:
      UserError: one is not.
    """
    for field, (holds, wanted) in _CHECKS.items():
        value = attrgetter(field)(config)
        if not holds(value):
            raise UserError(f"{field}: {value} given; it must be {wanted}")
    if config.train.on_divergence not in _ON_DIVERGENCE:
        raise unknown_name("train.on_divergence", config.train.on_divergence, _ON_DIVERGENCE)
    if config.prune.scope not in _PRUNING_SCOPES:
        raise unknown_name("prune.scope", config.prune.scope, _PRUNING_SCOPES)
    for pair in config.transfer.unfreeze:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise UserError(f"transfer.unfreeze: {pair!r} is no pair of a pattern and a duration, as ('.', '1 epochs')")
    if config.transfer.check and not config.transfer.source:
        raise UserError("transfer.check: compares with a training from scratch, but transfer.source is not given")
    if config.train.patience and config.data.validation == "none":
        raise UserError("train.patience: there is no validation split to watch; set data.validation, or patience to ''")


def check_task(config: ml_collections.ConfigDict, features: Features) -> None:
    """Checks that what the config asks for can be done with such examples.

    Raises:
      UserError: it cannot.
    """
    if features.task != "classification":
        if config.objective.label_smoothing:
            raise UserError(f"objective.label_smoothing: is for classification, but the data are for {features.task}")
        if config.data.class_weights != "none":
            raise UserError(f"data.class_weights: are for classification, but the data are for {features.task}")
    _check_model(config, features)
    if features.kind != "image":
        for field in ("crop_padding", "flip", "shift", "color", "cutmix"):
            if config.augment[field]:
                what = "holds texts" if features.kind == "text" else "is a table"
                raise UserError(f"augment.{field}: is for images, but '{config.data.source}' {what}")
    if features.kind == "text" and config.augment.mixup:
        raise UserError("augment.mixup: cannot mix texts; leave it at 0")
    if features.categories and config.augment.mixup:
        raise UserError("augment.mixup: cannot mix categories; leave the categorical columns out, or mixup at 0")


def _check_model(config: ml_collections.ConfigDict, features: Features) -> None:
    """Checks that a model of texts meets texts, and is asked for what it can answer and does not see."""
    name, source = config.model.name, config.data.source
    family = models.REGISTRY.get(name)
    if family is None:
        return
    if features.kind == "text" and not family.reads_text:
        of_texts = " or ".join(sorted(known for known, other in models.REGISTRY.items() if other.reads_text))
        raise UserError(f"model.name: '{name}' reads no texts, but '{source}' holds some; choose {of_texts}")
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
