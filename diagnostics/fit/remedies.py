"""Config changes against overfitting and underfitting that suit the model and the data."""

import ml_collections

from data.features import Features
from diagnostics.finding import Remedy
from trainers.settings import fields

# Models with dropout, and models with residual branches.
_DROPOUT = ("mlp", "resnet", "convnext", "vit", "bert", "gpt")
_RESIDUAL = ("resnet", "convnext", "vit")
# Sizes of each model that are doubled or halved: units or channels.
_SIZES = {
    "mlp": ("hidden_sizes",),
    "resnet": ("width",),
    "convnext": ("widths",),
    "vit": ("width", "mlp_size"),
    "bert": ("width", "mlp_size"),
    "gpt": ("width", "mlp_size"),
}
# Smallest size that is proposed.
_LEAST_SIZE = 8
# Images of this many pixels a side and more are cropped; smaller ones are shifted by a pixel.
_LARGE_IMAGE = 28


def against_overfitting(config: ml_collections.ConfigDict, features: Features) -> tuple[Remedy, ...]:
    """Returns changes that regularise a model, the most promising first."""
    return (
        *_augmentation(config, features),
        *_early_stopping(config),
        *_more_regularisation(config, features),
        *_capacity(config, larger=False),
        *_pruning(config),
    )


def against_underfitting(config: ml_collections.ConfigDict, features: Features) -> tuple[Remedy, ...]:
    """Returns changes that let a model fit more, the most promising first."""
    return (
        *_capacity(config, larger=True),
        *_another_model(config, features),
        *longer(config),
        *_higher_rate(config),
        *lower_rate(config)[:1],
        *_less_regularisation(config),
    )


def longer(config: ml_collections.ConfigDict) -> tuple[Remedy, ...]:
    """Returns the remedy of twice the training."""
    amount, _, unit = config.train.duration.strip().partition(" ")
    return (Remedy(text="Train twice as long.", overrides={"train.duration": f"{2 * float(amount):g} {unit}"}),)


def lower_rate(config: ml_collections.ConfigDict) -> tuple[Remedy, ...]:
    """Returns a tenth of the learning rate, and gradient clipping if there is none."""
    rate = config.optimizer.learning_rate
    remedies = [Remedy(text="Lower the learning rate.", overrides={"optimizer.learning_rate": rate / 10})]
    if config.optimizer.clip_norm == 0:
        remedies.append(clip(1.0))
    return tuple(remedies)


def clip(norm: float) -> Remedy:
    """Returns the remedy of gradient clipping."""
    return Remedy(text="Clip large gradients.", overrides={"optimizer.clip_norm": float(f"{norm:.2g}")})


def _augmentation(config: ml_collections.ConfigDict, features: Features) -> list[Remedy]:
    """Proposes no mirror images: only the user knows whether they have the same class; those of digits do not."""
    augment, found = config.augment, []
    if features.kind == "image":
        if min(features.shape[:2]) >= _LARGE_IMAGE:
            if not augment.crop_padding and not augment.shift:
                padding = max(2, min(features.shape[:2]) // 8)
                found.append(Remedy(text="Crop images at random.", overrides={"augment.crop_padding": padding}))
        elif not augment.shift and not augment.crop_padding:
            found.append(Remedy(text="Shift images at random by a pixel.", overrides={"augment.shift": 1}))
    mixable = features.kind == "image" or (features.kind == "table" and not features.categories)
    if features.task == "classification" and mixable and not augment.mixup and not augment.cutmix:
        found.append(Remedy(text="Mix pairs of examples (mixup).", overrides={"augment.mixup": 0.2}))
    return found


def _early_stopping(config: ml_collections.ConfigDict) -> list[Remedy]:
    if config.train.patience or config.data.validation == "none":
        return []
    overrides = {"train.patience": "20 percent", "train.best_metric": "loss"}
    return [Remedy(text="Stop when the validation loss no longer falls.", overrides=overrides)]


def _more_regularisation(config: ml_collections.ConfigDict, features: Features) -> list[Remedy]:
    found, model, optimizer = [], config.model, config.optimizer
    if model.name in _DROPOUT and model.dropout < 0.5:
        rate = round(min(0.5, 2 * model.dropout), 3) or 0.2
        found.append(Remedy(text="Use more dropout.", overrides={"model.dropout": rate}))
    decoupled = optimizer.name not in ("sgd", "adam")
    decay = min(10 * optimizer.weight_decay, 1.0 if decoupled else 0.01) or (0.1 if decoupled else 1e-4)
    if decay > optimizer.weight_decay:
        found.append(Remedy(text="Use more weight decay.", overrides={"optimizer.weight_decay": float(f"{decay:.3g}")}))
    if model.name in _RESIDUAL and not model.stochastic_depth:
        found.append(Remedy(text="Use stochastic depth.", overrides={"model.stochastic_depth": 0.1}))
    if features.task == "classification" and not config.objective.label_smoothing:
        found.append(Remedy(text="Smooth the labels.", overrides={"objective.label_smoothing": 0.1}))
    return found


def _less_regularisation(config: ml_collections.ConfigDict) -> list[Remedy]:
    flat, overrides = fields(config), {}
    for field in ("model.dropout", "model.stochastic_depth", "objective.label_smoothing", "augment.mixup"):
        if flat[field]:
            overrides[field] = 0.0
    if flat["optimizer.weight_decay"]:
        overrides["optimizer.weight_decay"] = float(f"{flat['optimizer.weight_decay'] / 10:.3g}")
    return [Remedy(text="Regularise less.", overrides=overrides)] if overrides else []


def _higher_rate(config: ml_collections.ConfigDict) -> list[Remedy]:
    rate = float(f"{3 * config.optimizer.learning_rate:.3g}")
    return [Remedy(text="Raise the learning rate.", overrides={"optimizer.learning_rate": rate})]


def _another_model(config: ml_collections.ConfigDict, features: Features) -> list[Remedy]:
    if config.model.name != "linear":
        return []
    return [Remedy(text="Use a model with hidden layers.", overrides={"model.name": "mlp"})]


def _pruning(config: ml_collections.ConfigDict) -> list[Remedy]:
    if config.prune.sparsity:
        return []
    return [Remedy(text="Prune four of five weights.", overrides={"prune.sparsity": 0.8})]


def _capacity(config: ml_collections.ConfigDict, *, larger: bool) -> list[Remedy]:
    """Proposes twice or half the units, unless a pretrained source or a named variant fixes the sizes."""
    name = config.model.name
    if name not in _SIZES or config.transfer.source or config.model[name].get("variant", "custom") != "custom":
        return []
    overrides = {}
    for field in _SIZES[name]:
        value = config.model[name][field]
        sizes = value if isinstance(value, tuple) else (value,)
        changed = tuple(2 * size if larger else size // 2 for size in sizes)
        if (
            not changed
            or min(changed) < _LEAST_SIZE
            or any(size % config.model[name].get("heads", 1) for size in changed)
        ):
            return []
        overrides[f"model.{name}.{field}"] = changed if isinstance(value, tuple) else changed[0]
    text = "Double the width of the model." if larger else "Halve the width of the model."
    return [Remedy(text=text, overrides=overrides)]
