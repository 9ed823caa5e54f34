"""The preprocessing of the images that a source was trained on."""

from typing import Any

import numpy as np

from models.pretrained.weights import Weights
from plumbline import UserError

# Mean and deviation of each channel, by `data.normalize`.
_NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "signed": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def image_fields(weights: Weights) -> dict[str, Any]:
    """Returns `data.image_size`, `data.channels` and `data.normalize`, as far as the files of `transformers` have them.

    Raises:
      UserError: no `data.normalize` has this normalisation.
    """
    config, processor = weights.config, weights.preprocessor
    fields: dict[str, Any] = {"data.channels": config.get("num_channels", 3)}
    size = config.get("image_size") or _side(processor.get("crop_size")) or _side(processor.get("size"))
    if isinstance(size, int):
        fields["data.image_size"] = size
    if "image_mean" in processor and "image_std" in processor:
        if not processor.get("do_normalize", True):
            fields["data.normalize"] = "none"
        else:
            fields["data.normalize"] = normalization(weights.where, processor["image_mean"], processor["image_std"])
    return fields


def normalization(where: str, mean: Any, std: Any) -> str:
    """Finds the `data.normalize` with these means and deviations of the channels.

    Raises:
      UserError: there is none.
    """
    for name, (known_mean, known_std) in _NORMALIZATIONS.items():
        if np.shape(mean) == np.shape(std) == (3,) and np.allclose((mean, std), (known_mean, known_std), atol=1e-3):
            return name
    raise UserError(
        f"transfer.source: '{where}' normalises images by means {mean} and deviations {std}, which "
        f"no data.normalize has (it has {', '.join(_NORMALIZATIONS)}); name the model and its fields instead of "
        "model.name='pretrained'"
    )


def _side(size: Any) -> int | None:
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) else None
