"""Pretrained weights of other libraries for the models here. Loading is strict and never uses pickle.

`architecture(source)` returns the config fields of the model in a source. `load(source, model)` returns parameters
and a report of their origin. The steps: `weights` opens files (`safetensors_files`, `npz_files`,
`orbax_checkpoints`, `hub`, `packages`), `families` recognises their library (`huggingface`, `huggingface_texts`,
`timm_models`, `big_vision`, `plumbline_runs`), each of which gives a `mapping`, a list of rows; `engine` applies it,
and `report` lists what was loaded.
"""

from collections.abc import Sequence
from typing import Any

from models.interface import Model
from models.pretrained import engine, families
from models.pretrained.engine import Start, is_head
from models.pretrained.report import Report
from models.pretrained.weights import Weights, open_weights

__all__ = ["Report", "Start", "architecture", "is_head", "load"]


def load(source: str | Weights, model: Model, *, allow: Sequence[str] = ()) -> tuple[Start, Report]:
    """Reads the parameters of a model, and the statistics of its norms, from a source.

    Args:
      source: `config.transfer.source`, or opened weights.
      model: model with arrays or, from `nnx.eval_shape`, with shapes. It is not changed.
      allow: `config.transfer.allow`.

    Returns:
      `{"params": ..., "model_state": ...}`, nested like `nnx.to_pure_dict(nnx.state(model, nnx.Param))` and that of
      `nnx.BatchStat`, of NumPy float32 arrays (possibly transposed views), without parameters that are not loaded; and
      the report.

    Raises:
      UserError: the source is missing, damaged or not supported, or does not fit the model.
    """
    weights = source if isinstance(source, Weights) else open_weights(source)
    return engine.fit(families.recognise(weights).mapping(weights, model), weights, model, allow)


def architecture(source: str | Weights) -> dict[str, Any]:
    """Returns the config fields of the model in a source, and of the preprocessing of its images or texts.

    Args:
      source: as for `load`.

    Returns:
      Values by field, `{"model.name": "vit", "model.vit.width": 768, ...}`; and, if the source has them,
      `data.image_size`, `data.channels` and `data.normalize`, or `data.tokenizer`, the path of its tokenizer.json.

    Raises:
      UserError: as `load`, or the source lacks information or has features that the models here do not have.
    """
    weights = source if isinstance(source, Weights) else open_weights(source)
    return families.recognise(weights).architecture(weights)
