"""Our own models: in a run directory, whose config says what they are, or in a plain Orbax checkpoint."""

from collections.abc import Mapping
from typing import Any

from models.interface import Model
from models.pretrained.family import Family
from models.pretrained.mapping import Row, Rows
from models.pretrained.orbax_checkpoints import OrbaxWeights
from models.pretrained.weights import ArrayWeights, Weights
from plumbline import UserError

_IMAGES = ("image_size", "channels", "normalize")


def recognise(weights: Weights) -> Family | None:
    """The family, if an Orbax checkpoint held the weights; else None."""
    return FAMILY if isinstance(weights, (OrbaxWeights, ArrayWeights)) else None


def _fields(weights: Weights) -> dict[str, Any]:
    model = weights.config.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get(model.get("name")), Mapping):
        raise UserError(
            f"transfer.source: '{weights.where}' has no config.json that says which model it is; give the run "
            "directory, or name the model and its fields instead of model.name='pretrained'"
        )
    name, images = model["name"], weights.config.get("data", {})
    fields = {f"model.{name}.{field}": _as_given(value) for field, value in model[name].items()}
    sizes = {f"data.{field}": images[field] for field in _IMAGES if images.get(field)}
    return {"model.name": name} | fields | sizes


def _rows(weights: Weights, model: Model) -> Rows:
    section = weights.config.get("model", {})
    section = section.get(section.get("name"), {}) if isinstance(section, Mapping) else {}
    return Rows(
        source=FAMILY.name,
        rows=tuple(Row(name, name) for name in weights.tensors),
        resize="bicubic, antialiased",
        square=False,
        facts={
            attribute: (f"model.{name}.{field}", section[field])
            for (name, field), attribute in _FACTS.items()
            if field in section
            and weights.config["model"]["name"] == name
            and section.get("variant", "custom") == "custom"
        },
    )


def _as_given(value: Any) -> Any:
    """JSON has lists where configs have tuples."""
    return tuple(map(_as_given, value)) if isinstance(value, list) else value


# What no shape tells, by model and field: the attribute of the model that must have it.
_FACTS = {
    ("vit", "heads"): "sizes.heads",
    ("vit", "patch_size"): "patch_size",
    ("vit", "norm_epsilon"): "norm.epsilon",
    ("convnext", "norm_epsilon"): "norm.epsilon",
    ("mlp", "activation"): "activation",
}

FAMILY = Family("Plumbline or Orbax checkpoint", _fields, _rows)
