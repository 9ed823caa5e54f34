"""What is known of an architecture from elsewhere."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from models.interface import Model
from models.pretrained.mapping import Rows
from models.pretrained.weights import Weights


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of weights.

    Attributes:
      name: for messages and the report.
      architecture: the config fields of such weights; see `models.pretrained.architecture`.
      mapping: how such weights become those of a model.
    """

    name: str
    architecture: Callable[[Weights], dict[str, Any]]
    mapping: Callable[[Weights, Model], Rows]


def transformer_facts(architecture: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """What a vision transformer's shapes do not tell, of the fields that are given, for `Rows.facts`."""
    attributes = {
        "sizes.heads": "model.vit.heads",
        "patch_size": "model.vit.patch_size",
        "norm.epsilon": "model.vit.norm_epsilon",
    }
    return {name: (field, architecture[field]) for name, field in attributes.items() if field in architecture}


def pooling_fact(architecture: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """What the head of a vision transformer reads, for `Rows.head_facts`."""
    return {"pooling": ("model.vit.pooling", architecture["model.vit.pooling"])}
