"""Weights from elsewhere, read into our models, strictly and without pickle.

`architecture(source)` says which model a source holds, as config fields; `load(source, model)` gives that model's
parameters and a report of what came from where. In this order: `weights` opens files (`safetensors_files`, `npz_files`,
`orbax_checkpoints`, `hub`, `packages`), `families` recognises who made them (`huggingface`, `huggingface_texts`,
`timm_models`, `big_vision`, `plumbline_runs`), each of which gives a `mapping`, a list of rows; `engine` applies it,
`report` tells what was done.
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
      source: `config.transfer.source`, or weights that were opened already.
      model: to be filled; of arrays or, from `nnx.eval_shape`, of shapes. It is not changed.
      allow: `config.transfer.allow`.

    Returns:
      `{"params": ..., "model_state": ...}`, nested like `nnx.to_pure_dict(nnx.state(model, nnx.Param))` and that of
      `nnx.BatchStat`, of NumPy float32 arrays (which may be views with their axes swapped), less what stays fresh; and
      the report.

    Raises:
      UserError: the source is missing, damaged or of a kind that is not understood, or does not fit the model.
    """
    weights = source if isinstance(source, Weights) else open_weights(source)
    return engine.fit(families.recognise(weights).mapping(weights, model), weights, model, allow)


def architecture(source: str | Weights) -> dict[str, Any]:
    """The config fields that make the model that a source holds, and prepare its images or texts.

    Args:
      source: as for `load`.

    Returns:
      Values by field, `{"model.name": "vit", "model.vit.width": 768, ...}`; and, where the source says so,
      `data.image_size`, `data.channels` and `data.normalize`, or `data.tokenizer`, the path of its tokenizer.json.

    Raises:
      UserError: as `load`; or the source does not say enough, or asks for what the models here do not have.
    """
    weights = source if isinstance(source, Weights) else open_weights(source)
    return families.recognise(weights).architecture(weights)
