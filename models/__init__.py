"""Models as Flax NNX modules, selected by name.

`build(config.model, ...)` builds any model of the registry. Each family has its own module: `linear`, `mlp`, `resnet`,
`convnext`, `vit`, `bert`, `gpt`; the last three share `transformer`, the last two `texts`. To add one, write a subclass
of `Model` whose constructor takes the common arguments of `models/interface.py` and its own config fields, and add it
to `models/registry.py`. `models.pretrained` loads weights from other sources into them.

`as_function(model)` gives a model in inference as a pure function of its parameters.
"""

from models.functional import as_function
from models.interface import Model
from models.registry import REGISTRY, build

__all__ = ["REGISTRY", "Model", "as_function", "build"]
