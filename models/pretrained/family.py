"""The description of an architecture of another library."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from models.interface import Model
from models.pretrained.mapping import Rows
from models.pretrained.weights import Weights


@dataclasses.dataclass(frozen=True)
class Family:
    """One type of weights.

    Attributes:
      name: name in messages and in the report.
      architecture: returns the config fields of the weights; see `models.pretrained.architecture`.
      mapping: returns the mapping from the weights to a model.
    """

    name: str
    architecture: Callable[[Weights], dict[str, Any]]
    mapping: Callable[[Weights, Model], Rows]


def transformer_facts(architecture: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Returns the facts about a vision transformer that shapes do not show, for `Rows.facts`."""
    attributes = {
        "sizes.heads": "model.vit.heads",
        "patch_size": "model.vit.patch_size",
        "norm.epsilon": "model.vit.norm_epsilon",
    }
    return {name: (field, architecture[field]) for name, field in attributes.items() if field in architecture}


def pooling_fact(architecture: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Returns the pooling of a vision transformer, for `Rows.head_facts`."""
    return {"pooling": ("model.vit.pooling", architecture["model.vit.pooling"])}
