"""Models of Plumbline: in a run directory, whose config describes them, or in a plain Orbax checkpoint."""

import re
from collections.abc import Mapping
from typing import Any

from flax import nnx

from models.interface import Model
from models.pretrained.family import Family
from models.pretrained.mapping import Row, Rows
from models.pretrained.orbax_checkpoints import OrbaxWeights
from models.pretrained.weights import ArrayWeights, Weights
from plumbline import UserError

_IMAGES = ("image_size", "channels", "normalize")


def recognise(weights: Weights) -> Family | None:
    """Returns the family if the weights are from an Orbax checkpoint, else None."""
    return FAMILY if isinstance(weights, (OrbaxWeights, ArrayWeights)) else None


def _fields(weights: Weights) -> dict[str, Any]:
    model = weights.config.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get(model.get("name")), Mapping):
        raise UserError(
            f"transfer.source: '{weights.where}' has no config.json that describes the model; give the run "
            "directory, or name the model and its fields instead of model.name='pretrained'"
        )
    name, data = model["name"], weights.config.get("data", {})
    fields = {f"model.{name}.{field}": _to_tuples(value) for field, value in model[name].items()}
    sizes = {f"data.{field}": data[field] for field in _IMAGES if data.get(field)}
    if f"model.{name}.max_length" in fields:
        # 0 means the length of the texts.
        fields[f"model.{name}.max_length"] = fields[f"model.{name}.max_length"] or data.get("text_length", 0)
        sizes = {"data.tokenizer": weights.tokenizer} if weights.tokenizer else {}
    return {"model.name": name} | fields | sizes


def _rows(weights: Weights, model: Model) -> Rows:
    section = weights.config.get("model", {})
    section = section.get(section.get("name"), {}) if isinstance(section, Mapping) else {}
    unused = _find_other_head(weights, model)
    return Rows(
        source=FAMILY.name,
        rows=tuple(Row(name, name) for name in weights.tensors if name not in unused),
        unused=tuple(re.escape(name) for name in unused),
        resize="bicubic, antialiased" if hasattr(model, "grid") else "",
        square=False,
        facts={
            attribute: (f"model.{name}.{field}", section[field])
            for (name, field), attribute in _FACTS.items()
            if field in section
            and weights.config["model"]["name"] == name
            and section.get("variant", "custom") == "custom"
        },
    )


def _find_other_head(weights: Weights, model: Model) -> set[str]:
    """Returns the tensors of the head of the source, if it predicts tokens and the model does not, or the reverse."""
    own = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    parts = [{name for name in names if name.startswith("head/")} for names in (weights.tensors, own)]
    others = parts[0] if model.reads_text and parts[0] != parts[1] else set()
    return others | {name for name in weights.tensors if name.startswith("pooler/") and name not in own}


def _to_tuples(value: Any) -> Any:
    """Converts lists of JSON to tuples, as in configs."""
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value


# Attributes of a model that shapes do not show, by model and config field.
_FACTS = {
    ("vit", "heads"): "sizes.heads",
    ("vit", "patch_size"): "patch_size",
    ("vit", "norm_epsilon"): "norm.epsilon",
    ("convnext", "norm_epsilon"): "norm.epsilon",
    ("mlp", "activation"): "activation",
    ("bert", "heads"): "sizes.heads",
    ("bert", "activation"): "activation",
    ("bert", "norm_epsilon"): "embedding_norm.epsilon",
    ("gpt", "heads"): "sizes.heads",
    ("gpt", "activation"): "activation",
    ("gpt", "norm_epsilon"): "norm.epsilon",
}

FAMILY = Family("Plumbline or Orbax checkpoint", _fields, _rows)
