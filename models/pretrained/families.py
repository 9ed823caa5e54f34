"""Supported architectures, and recognition of the architecture of a source."""

from models.pretrained import big_vision, huggingface, huggingface_texts, plumbline_runs, timm_models
from models.pretrained.family import Family
from models.pretrained.weights import Weights
from plumbline import UserError

# By `model_type` in config.json.
_BY_TYPE = huggingface.FAMILIES | huggingface_texts.FAMILIES


def recognise(weights: Weights) -> Family:
    """Finds the family of weights by `model_type` in config.json, else by the names of the tensors.

    Raises:
      UserError: the architecture is not supported.
    """
    if family := plumbline_runs.recognise(weights):
        return family
    kind = weights.config.get("model_type")
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    family = None if kind else timm_models.recognise(weights) or big_vision.recognise(weights)
    if family is None:
        alone = "" if weights.config else ", and no config.json next to it"
        says = f"is of the type '{kind}'" if kind else f"has tensors of an unknown architecture{alone}"
        raise UserError(f"transfer.source: '{weights.where}' {says}; supported: {', '.join(supported_names())}")
    return family


def supported_names() -> list[str]:
    """Returns the names of all families."""
    known = [*_BY_TYPE.values(), *timm_models.FAMILIES.values(), big_vision.FAMILY, plumbline_runs.FAMILY]
    return [family.name for family in known]
