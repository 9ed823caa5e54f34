"""Models in the format of `timm`, recognised by tensor names; `config.json`, if present, gives the rest.

Residual networks of torchvision have the same names.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from models.pretrained.family import Family, pooling_fact, transformer_facts
from models.pretrained.images import normalization
from models.pretrained.mapping import Row, Rows, average_heads, flatten_kernel, reshape, transpose, transpose_kernel
from models.pretrained.pytorch import batch_norm, conv, dense, norm
from models.pretrained.weights import Weights
from models.resnet import ARCHITECTURES, BasicBlock
from models.vit import VARIANTS, Sizes
from plumbline import UserError

_NORM_EPSILON = 1e-6
_PARTS = ("query", "key", "value")


def recognise(weights: Weights) -> Family | None:
    """Returns the family by tensor names; None if there is none."""
    for name, family in FAMILIES.items():
        if name in weights.tensors:
            return family
    return None


def _vit_fields(weights: Weights) -> dict[str, Any]:
    sizes = _vit_sizes(weights)
    if sizes.heads == 0:
        raise UserError(
            f"transfer.source: '{weights.where}' does not give its number of attention heads; put config.json (with "
            '"model_args": {"num_heads": N}) next to it, or name the model and its fields instead of '
            "model.name='pretrained'"
        )
    return _vit_facts(weights) | {
        "model.name": "vit",
        "model.vit.variant": "custom",
        "model.vit.width": sizes.width,
        "model.vit.depth": sizes.depth,
        "model.vit.heads": sizes.heads,
        "model.vit.mlp_size": sizes.mlp_size,
        "model.vit.positions": "learned",
        "model.vit.distillation_token": "dist_token" in weights.tensors,
        "model.vit.layer_scale": 1e-5 if "blocks.0.ls1.gamma" in weights.tensors else 0.0,
    }


def _vit_facts(weights: Weights) -> dict[str, Any]:
    """Returns fields that shapes do not show."""
    pooling = "token" if "cls_token" in weights.tensors else "mean"
    if "head_dist.weight" in weights.tensors:
        pooling = "token_and_distillation"
    fields = {
        "model.vit.patch_size": weights.tensors["patch_embed.proj.weight"].shape[-1],
        "model.vit.pooling": pooling,
        "model.vit.norm_epsilon": _NORM_EPSILON,
    }
    heads = _vit_sizes(weights).heads
    return fields | ({"model.vit.heads": heads} if heads else {})


def _vit_sizes(weights: Weights) -> Sizes:
    """Returns the sizes, with 0 heads if neither config.json nor a standard size gives their number."""
    width = weights.tensors["patch_embed.proj.weight"].shape[0]
    mlp_size = weights.tensors["blocks.0.mlp.fc1.weight"].shape[0]
    depth = _count(weights, r"blocks\.(\d+)\.norm1\.weight")
    heads = (weights.config.get("model_args") or {}).get("num_heads", 0)
    for usual in VARIANTS.values():
        if not heads and usual == Sizes(width, depth, usual.heads, mlp_size):
            heads = usual.heads
    return Sizes(width, depth, heads, mlp_size)


def _vit_rows(weights: Weights) -> Rows:
    heads = dense("head", "head")
    if "head_dist.weight" in weights.tensors:
        heads = (
            Row(("head.weight", "head_dist.weight"), "head/kernel", average_heads),
            Row(("head.bias", "head_dist.bias"), "head/bias", average_heads),
        )
    qkv = "blocks.{block}.attn.qkv"
    return Rows(
        source="timm ViT",
        rows=(
            Row("cls_token", "class_token", reshape),
            Row("dist_token", "distillation_token", reshape),
            Row("pos_embed", "positions"),
            Row("patch_embed.proj.weight", "embedding/kernel", flatten_kernel),
            Row("patch_embed.proj.bias", "embedding/bias"),
            *norm("blocks.{block}.norm1", "blocks/norm1"),
            Row(f"{qkv}.weight", tuple(f"blocks/attention/{part}/kernel" for part in _PARTS), transpose),
            Row(f"{qkv}.bias", tuple(f"blocks/attention/{part}/bias" for part in _PARTS)),
            *dense("blocks.{block}.attn.proj", "blocks/attention/out"),
            Row("blocks.{block}.ls1.gamma", "blocks/layer_scale1/scale"),
            *norm("blocks.{block}.norm2", "blocks/norm2"),
            *dense("blocks.{block}.mlp.fc1", "blocks/mlp/hidden"),
            *dense("blocks.{block}.mlp.fc2", "blocks/mlp/out"),
            Row("blocks.{block}.ls2.gamma", "blocks/layer_scale2/scale"),
            *norm("norm", "norm"),
            *heads,
        ),
        resize="bicubic, antialiased",
        facts=transformer_facts(_vit_facts(weights)),
        head_facts=pooling_fact(_vit_facts(weights)),
    )


def _resnet_fields(weights: Weights) -> dict[str, Any]:
    blocks = tuple(_count(weights, rf"layer{stage}\.(\d+)\.conv1\.weight") for stage in range(1, 5))
    basic = "layer1.0.conv3.weight" not in weights.tensors
    for depth, (block, usual) in ARCHITECTURES.items():
        if usual == blocks and (block is BasicBlock) == basic:
            return {
                "model.name": "resnet",
                "model.resnet.depth": depth,
                "model.resnet.width": weights.tensors["conv1.weight"].shape[0],
                "model.resnet.norm": "batch",
                "model.resnet.stem": "large",
            }
    known = ", ".join(f"ResNet-{depth}" for depth in ARCHITECTURES)
    raise UserError(
        f"transfer.source: '{weights.where}' is a ResNet of {blocks} blocks, which is not supported; supported: {known}"
    )


def _resnet_rows(weights: Weights) -> Rows:
    rows = [
        Row("conv1.weight", "stem/conv/kernel", transpose_kernel),
        *batch_norm("bn1", "stem/norm"),
        *dense("fc", "head"),
    ]
    for stage in range(4):
        name, target = f"layer{stage + 1}.{{block}}", f"stages/{stage}/{{block}}"
        for layer in (1, 2, 3):
            rows.append(Row(f"{name}.conv{layer}.weight", f"{target}/conv{layer}/kernel", transpose_kernel))
            rows += batch_norm(f"{name}.bn{layer}", f"{target}/norm{layer}")
        rows.append(Row(f"{name}.downsample.0.weight", f"{target}/shortcut/conv/kernel", transpose_kernel))
        rows += batch_norm(f"{name}.downsample.1", f"{target}/shortcut/norm")
    return Rows(source="timm ResNet", rows=tuple(rows), unused=(r".+\.num_batches_tracked",))


def _convnext_fields(weights: Weights) -> dict[str, Any]:
    first = (f"stages.{stage}.blocks.0.conv_dw.weight" for stage in range(4))
    return {
        "model.name": "convnext",
        "model.convnext.variant": "custom",
        "model.convnext.depths": tuple(
            _count(weights, rf"stages\.{stage}\.blocks\.(\d+)\.conv_dw\.weight") for stage in range(4)
        ),
        "model.convnext.widths": tuple(weights.tensors[name].shape[0] for name in first if name in weights.tensors),
        "model.convnext.patch_size": weights.tensors["stem.0.weight"].shape[-1],
        "model.convnext.layer_scale": 1e-6 if "stages.0.blocks.0.gamma" in weights.tensors else 0.0,
        "model.convnext.norm_epsilon": _NORM_EPSILON,
    }


def _convnext_rows(weights: Weights) -> Rows:
    stage, target = "stages.{stage}", "stages/{stage}"
    block, block_target = f"{stage}.blocks.{{block}}", f"{target}/blocks/{{block}}"
    return Rows(
        source="timm ConvNeXt",
        rows=(
            *conv("stem.0", "stem"),
            *norm("stem.1", "stem_norm"),
            *norm(f"{stage}.downsample.0", f"{target}/downsample_norm"),
            *conv(f"{stage}.downsample.1", f"{target}/downsample"),
            *conv(f"{block}.conv_dw", f"{block_target}/conv"),
            *norm(f"{block}.norm", f"{block_target}/norm"),
            *dense(f"{block}.mlp.fc1", f"{block_target}/hidden"),
            *dense(f"{block}.mlp.fc2", f"{block_target}/out"),
            Row(f"{block}.gamma", f"{block_target}/layer_scale/scale"),
            *norm("head.norm", "norm"),
            *dense("head.fc", "head"),
        ),
        facts={"norm.epsilon": ("model.convnext.norm_epsilon", _NORM_EPSILON)},
    )


def _image_fields(weights: Weights) -> dict[str, Any]:
    """Returns the fields in `pretrained_cfg`; without it the image size from the number of positions."""
    about = weights.config.get("pretrained_cfg") or {}
    fields: dict[str, Any] = {"data.channels": 3}
    if "input_size" in about:
        fields |= {"data.channels": about["input_size"][0], "data.image_size": about["input_size"][-1]}
    elif "pos_embed" in weights.tensors:
        # At most two tokens before the patches do not change the rounded square root.
        side = math.isqrt(weights.tensors["pos_embed"].shape[1])
        fields["data.image_size"] = side * weights.tensors["patch_embed.proj.weight"].shape[-1]
    if "mean" in about and "std" in about:
        fields["data.normalize"] = normalization(weights.where, about["mean"], about["std"])
    return fields


def _count(weights: Weights, expression: str) -> int:
    """Counts the numbers, from 0 on, in the group of the regular expression."""
    numbers = [int(match[1]) for name in weights.tensors if (match := re.fullmatch(expression, name))]
    return max(numbers, default=-1) + 1


def _family(name: str, fields: Callable[[Weights], dict[str, Any]], rows: Callable[[Weights], Rows]) -> Family:
    return Family(name, lambda weights: fields(weights) | _image_fields(weights), lambda weights, model: rows(weights))


# By the name of a tensor that only this family has.
FAMILIES: dict[str, Family] = {
    "blocks.0.attn.qkv.weight": _family("timm ViT", _vit_fields, _vit_rows),
    "layer1.0.conv1.weight": _family("timm ResNet", _resnet_fields, _resnet_rows),
    "stages.0.blocks.0.conv_dw.weight": _family("timm ConvNeXt", _convnext_fields, _convnext_rows),
}
