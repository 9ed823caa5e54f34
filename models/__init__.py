"""Flax NNX modules, chosen by name.

`build(config.model, ...)` makes any model of the registry. Each family has its own file: `linear`, `mlp`, `resnet`,
`convnext`, `vit`, `bert`, `gpt`; the last three share `transformer`, the last two `texts`. To add one, write a subclass
of `Model` whose constructor takes the common arguments of `models/interface.py` and its own config fields, and give it
a line in `models/registry.py`. `models.pretrained` brings weights from elsewhere into them.
"""

from models.interface import Model
from models.registry import REGISTRY, build

__all__ = ["REGISTRY", "Model", "build"]
