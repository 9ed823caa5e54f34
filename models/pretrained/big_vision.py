"""Vision transformers as `vision_transformer` (AugReg) and `big_vision` save them, in `.npz` files.

Both use the tanh approximation of gelu. `timm`, whose outputs are the reference here, uses the exact one.
"""

import math
import re
from typing import Any

from models.interface import Model
from models.pretrained.family import Family, pooling_fact, transformer_facts
from models.pretrained.mapping import Row, Rows, reshape
from models.pretrained.weights import Weights

# Possible prefixes of names, in files of different age.
_PREFIXES = ("", "params/", "opt/target/", "params/img/")
_PATCHES = "embedding/kernel"
_NORM_EPSILON = 1e-6


def recognise(weights: Weights) -> Family | None:
    """Returns the family if the names match, else None."""
    return FAMILY if any(f"{prefix}{_PATCHES}" in weights.tensors for prefix in _PREFIXES) else None


def _prefix(weights: Weights) -> str:
    return next(prefix for prefix in _PREFIXES if f"{prefix}{_PATCHES}" in weights.tensors)


def _fields(weights: Weights) -> dict[str, Any]:
    prefix = _prefix(weights)
    shapes = {name.removeprefix(prefix): tensor.shape for name, tensor in weights.tensors.items()}
    patch_size, _, channels, width = shapes[_PATCHES]
    hidden = next(shape for name, shape in shapes.items() if re.search(r"MlpBlock_\d/Dense_0/kernel$", name))
    query = next(shape for name, shape in shapes.items() if name.endswith("/query/kernel"))
    numbers = [int(m[1]) for name in shapes if (m := re.match(r"Transformer/encoderblock_(\d+)/", name))]
    tokens = next((shape[-2] for name, shape in shapes.items() if name.endswith("pos_embedding")), 0)
    sizes = {"data.image_size": math.isqrt(tokens) * patch_size} if tokens else {}
    return sizes | {
        "model.name": "vit",
        "model.vit.variant": "custom",
        "model.vit.patch_size": patch_size,
        "model.vit.width": width,
        # Blocks that were trained in a scan are stacked in the file.
        "model.vit.depth": max(numbers) + 1 if numbers else hidden[0],
        "model.vit.heads": query[-2],
        "model.vit.mlp_size": hidden[-1],
        "model.vit.pooling": "token" if "cls" in shapes else "mean",
        "model.vit.positions": "learned" if tokens else "sincos2d",
        "model.vit.distillation_token": False,
        "model.vit.layer_scale": 0.0,
        "model.vit.norm_epsilon": _NORM_EPSILON,
        "data.channels": channels,
        "data.normalize": "signed",
    }


def _rows(weights: Weights, model: Model) -> Rows:
    prefix = _prefix(weights)
    rows = [
        Row("cls", "class_token", reshape),
        Row("pos_embedding", "positions"),
        Row("Transformer/posembed_input/pos_embedding", "positions"),
        Row(_PATCHES, "embedding/kernel", reshape),
        Row("embedding/bias", "embedding/bias"),
        Row("Transformer/encoder_norm/scale", "norm/scale"),
        Row("Transformer/encoder_norm/bias", "norm/bias"),
    ]
    # Some files have a layer before the head ("pre_logits"), which the models here do not have.
    deep_head = f"{prefix}pre_logits/kernel" in weights.tensors
    if not deep_head:
        rows += _pair("head", "head", "kernel")
    stacked = f"{prefix}Transformer/encoderblock/LayerNorm_0/scale" in weights.tensors
    block = "Transformer/encoderblock" if stacked else "Transformer/encoderblock_{block}"
    # AugReg numbers all layers of a block consecutively, big_vision numbers each type separately.
    augreg = any(name.endswith("/LayerNorm_2/scale") for name in weights.tensors)
    attention = f"{block}/MultiHeadDotProductAttention_{1 if augreg else 0}"
    mlp = f"{block}/MlpBlock_{3 if augreg else 0}"
    rows += _pair(f"{block}/LayerNorm_0", "blocks/norm1", "scale")
    rows += _pair(f"{block}/LayerNorm_{2 if augreg else 1}", "blocks/norm2", "scale")
    for part in ("query", "key", "value", "out"):
        rows += _pair(f"{attention}/{part}", f"blocks/attention/{part}", "kernel")
    rows += _pair(f"{mlp}/Dense_0", "blocks/mlp/hidden", "kernel")
    rows += _pair(f"{mlp}/Dense_1", "blocks/mlp/out", "kernel")
    return Rows(
        source=FAMILY.name,
        prefix=prefix,
        rows=tuple(rows),
        # Optimizer state and counters in files of a training.
        unused=(r"(opt|opt/state|state|extra|chrono)/.*", r"step", *((r"(pre_logits|head)/.+",) if deep_head else ())),
        resize="bilinear",
        facts=transformer_facts(_fields(weights)),
        head_facts=pooling_fact(_fields(weights)),
    )


def _pair(name: str, target: str, weight: str) -> tuple[Row, Row]:
    return Row(f"{name}/{weight}", f"{target}/{weight}", reshape), Row(f"{name}/bias", f"{target}/bias", reshape)


FAMILY = Family("AugReg or big_vision ViT", _fields, _rows)
