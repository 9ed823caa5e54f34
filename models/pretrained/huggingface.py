"""Image models in the format of the `transformers` library, described by `config.json`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.pretrained.family import Family, pooling_fact, transformer_facts
from models.pretrained.images import image_fields
from models.pretrained.mapping import Row, Rows, average_heads, flatten_kernel, reshape, transpose_kernel
from models.pretrained.pytorch import batch_norm, conv, dense, norm
from models.pretrained.weights import Weights
from models.resnet import ARCHITECTURES, BasicBlock
from plumbline import UserError


def _vit_fields(weights: Weights) -> dict[str, Any]:
    return _transformer_fields(weights, mlp_size=get(weights, "intermediate_size"))


def _vit_rows(weights: Weights) -> Rows:
    return _transformer_rows(weights, "Hugging Face ViT", "vit.", _vit_block_rows(), _vit_fields(weights))


def _deit_fields(weights: Weights) -> dict[str, Any]:
    pooling = "token_and_distillation" if "cls_classifier.weight" in weights.tensors else "token"
    fields = _transformer_fields(weights, mlp_size=get(weights, "intermediate_size"))
    return fields | {"model.vit.distillation_token": True, "model.vit.pooling": pooling}


def _deit_rows(weights: Weights) -> Rows:
    rows = (
        *_vit_block_rows(),
        Row("embeddings.distillation_token", "distillation_token", reshape),
        # The reference averages the logits of both heads.
        Row(("cls_classifier.weight", "distillation_classifier.weight"), "head/kernel", average_heads),
        Row(("cls_classifier.bias", "distillation_classifier.bias"), "head/bias", average_heads),
    )
    return _transformer_rows(weights, "Hugging Face DeiT", "deit.", rows, _deit_fields(weights))


def _dinov2_fields(weights: Weights) -> dict[str, Any]:
    if weights.config.get("use_swiglu_ffn"):
        raise UserError(
            f"transfer.source: '{weights.where}' is a DINOv2 with SwiGLU layers (giant), which vit does not have; use "
            "the small, base or large one"
        )
    fields = _transformer_fields(weights, mlp_size=int(get(weights, "hidden_size") * get(weights, "mlp_ratio")))
    # The classifier of the reference reads both; the output of a trunk alone is the class token.
    pooling = "token_and_mean" if "classifier.weight" in weights.tensors else "token"
    return fields | {
        "model.vit.pooling": pooling,
        "model.vit.layer_scale": float(weights.config.get("layerscale_value", 1.0)) or 1.0,
    }


def _dinov2_rows(weights: Weights) -> Rows:
    rows = (
        *_attention_rows(),
        *norm("encoder.layer.{block}.norm1", "blocks/norm1"),
        *norm("encoder.layer.{block}.norm2", "blocks/norm2"),
        *dense("encoder.layer.{block}.mlp.fc1", "blocks/mlp/hidden"),
        *dense("encoder.layer.{block}.mlp.fc2", "blocks/mlp/out"),
        Row("encoder.layer.{block}.layer_scale1.lambda1", "blocks/layer_scale1/scale"),
        Row("encoder.layer.{block}.layer_scale2.lambda1", "blocks/layer_scale2/scale"),
    )
    made = _transformer_rows(weights, "Hugging Face DINOv2", "dinov2.", rows, _dinov2_fields(weights))
    return dataclasses.replace(made, new_head_facts={"pooling": ("model.vit.pooling", "token_and_mean")})


def _transformer_fields(weights: Weights, *, mlp_size: int) -> dict[str, Any]:
    """Returns the fields that all vision transformers share."""
    if weights.config.get("hidden_act", "gelu") != "gelu":
        raise UserError(
            f"transfer.source: '{weights.where}' asks for the activation '{weights.config['hidden_act']}'; vit has the "
            "exact 'gelu' only"
        )
    if not weights.config.get("qkv_bias", True):
        raise UserError(f"transfer.source: '{weights.where}' has no biases in its attention, but vit has them")
    return {
        "model.name": "vit",
        "model.vit.variant": "custom",
        "model.vit.patch_size": get(weights, "patch_size"),
        "model.vit.width": get(weights, "hidden_size"),
        "model.vit.depth": get(weights, "num_hidden_layers"),
        "model.vit.heads": get(weights, "num_attention_heads"),
        "model.vit.mlp_size": mlp_size,
        "model.vit.pooling": "token",
        "model.vit.positions": "learned",
        "model.vit.distillation_token": False,
        "model.vit.layer_scale": 0.0,
        "model.vit.norm_epsilon": get(weights, "layer_norm_eps"),
    }


def _transformer_rows(
    weights: Weights, source: str, prefix: str, rows: Sequence[Row], architecture: Mapping[str, Any]
) -> Rows:
    return Rows(
        source=source,
        prefix=prefix,
        rows=(
            Row("embeddings.cls_token", "class_token", reshape),
            Row("embeddings.position_embeddings", "positions"),
            Row("embeddings.patch_embeddings.projection.weight", "embedding/kernel", flatten_kernel),
            Row("embeddings.patch_embeddings.projection.bias", "embedding/bias"),
            *rows,
            *norm("layernorm", "norm"),
            *dense("classifier", "head"),
        ),
        unused=(r"pooler\..+", r"embeddings\.mask_token", r"embeddings\.position_ids"),
        resize="bicubic",
        facts=transformer_facts(architecture),
        head_facts=pooling_fact(architecture),
    )


def _vit_block_rows() -> tuple[Row, ...]:
    return (
        *_attention_rows(),
        *norm("encoder.layer.{block}.layernorm_before", "blocks/norm1"),
        *norm("encoder.layer.{block}.layernorm_after", "blocks/norm2"),
        *dense("encoder.layer.{block}.intermediate.dense", "blocks/mlp/hidden"),
        *dense("encoder.layer.{block}.output.dense", "blocks/mlp/out"),
    )


def _attention_rows() -> tuple[Row, ...]:
    named = (
        row
        for part in ("query", "key", "value")
        for row in dense(f"encoder.layer.{{block}}.attention.attention.{part}", f"blocks/attention/{part}")
    )
    return (*named, *dense("encoder.layer.{block}.attention.output.dense", "blocks/attention/out"))


def _resnet_fields(weights: Weights) -> dict[str, Any]:
    config = weights.config
    kind, depths = get(weights, "layer_type"), tuple(get(weights, "depths"))
    found = [
        depth
        for depth, (block, blocks) in ARCHITECTURES.items()
        if blocks == depths and (block is BasicBlock) == (kind == "basic")
    ]
    sizes, stem = get(weights, "hidden_sizes"), get(weights, "embedding_size")
    expansion = 1 if kind == "basic" else 4
    plain = list(sizes) == [expansion * stem * 2**stage for stage in range(4)]
    odd = config.get("downsample_in_first_stage") or config.get("downsample_in_bottleneck")
    if not found or not plain or odd or config.get("hidden_act", "relu") != "relu":
        known = ", ".join(f"ResNet-{depth}" for depth in ARCHITECTURES)
        raise UserError(
            f"transfer.source: '{weights.where}' is an unsupported ResNet ({kind}, depths {depths}, channels "
            f"{tuple(sizes)}); supported: {known} v1.5 of any width"
        )
    return {
        "model.name": "resnet",
        "model.resnet.depth": found[0],
        "model.resnet.width": stem,
        "model.resnet.norm": "batch",
        "model.resnet.stem": "large",
    }


def _resnet_rows(weights: Weights) -> Rows:
    basic = weights.config.get("layer_type") == "basic"
    block, target = "encoder.stages.{stage}.layers.{block}", "stages/{stage}/{block}"
    layers = [
        row
        for layer in range(2 if basic else 3)
        for row in (
            Row(f"{block}.layer.{layer}.convolution.weight", f"{target}/conv{layer + 1}/kernel", transpose_kernel),
            *batch_norm(f"{block}.layer.{layer}.normalization", f"{target}/norm{layer + 1}"),
        )
    ]
    return Rows(
        source="Hugging Face ResNet",
        prefix="resnet.",
        rows=(
            Row("embedder.embedder.convolution.weight", "stem/conv/kernel", transpose_kernel),
            *batch_norm("embedder.embedder.normalization", "stem/norm"),
            *layers,
            Row(f"{block}.shortcut.convolution.weight", f"{target}/shortcut/conv/kernel", transpose_kernel),
            *batch_norm(f"{block}.shortcut.normalization", f"{target}/shortcut/norm"),
            *dense("classifier.1", "head"),
        ),
        unused=(r".+\.num_batches_tracked",),
    )


def _convnext_fields(weights: Weights) -> dict[str, Any]:
    if weights.config.get("hidden_act", "gelu") != "gelu":
        raise UserError(
            f"transfer.source: '{weights.where}' asks for the activation '{weights.config['hidden_act']}'; convnext "
            "has the exact 'gelu' only"
        )
    return {
        "model.name": "convnext",
        "model.convnext.variant": "custom",
        "model.convnext.depths": tuple(get(weights, "depths")),
        "model.convnext.widths": tuple(get(weights, "hidden_sizes")),
        "model.convnext.patch_size": get(weights, "patch_size"),
        "model.convnext.layer_scale": float(weights.config.get("layer_scale_init_value", 1e-6)),
        "model.convnext.norm_epsilon": get(weights, "layer_norm_eps"),
    }


def _convnext_rows(weights: Weights) -> Rows:
    stage, target = "encoder.stages.{stage}", "stages/{stage}"
    block, block_target = f"{stage}.layers.{{block}}", f"{target}/blocks/{{block}}"
    return Rows(
        source="Hugging Face ConvNeXt",
        prefix="convnext.",
        rows=(
            *conv("embeddings.patch_embeddings", "stem"),
            *norm("embeddings.layernorm", "stem_norm"),
            *norm(f"{stage}.downsampling_layer.0", f"{target}/downsample_norm"),
            *conv(f"{stage}.downsampling_layer.1", f"{target}/downsample"),
            *conv(f"{block}.dwconv", f"{block_target}/conv"),
            *norm(f"{block}.layernorm", f"{block_target}/norm"),
            *dense(f"{block}.pwconv1", f"{block_target}/hidden"),
            *dense(f"{block}.pwconv2", f"{block_target}/out"),
            Row(f"{block}.layer_scale_parameter", f"{block_target}/layer_scale/scale"),
            *norm("layernorm", "norm"),
            *dense("classifier", "head"),
        ),
        facts={"norm.epsilon": ("model.convnext.norm_epsilon", get(weights, "layer_norm_eps"))},
    )


def get(weights: Weights, field: str) -> Any:
    """Returns a field of config.json.

    Raises:
      UserError: the field is missing.
    """
    if field not in weights.config:
        raise UserError(f"transfer.source: config.json next to '{weights.where}' has no '{field}'; get the whole file")
    return weights.config[field]


def _family(name: str, fields: Callable[[Weights], dict[str, Any]], rows: Callable[[Weights], Rows]) -> Family:
    return Family(name, lambda weights: fields(weights) | image_fields(weights), lambda weights, model: rows(weights))


# By `model_type` in config.json.
FAMILIES: dict[str, Family] = {
    "vit": _family("Hugging Face ViT", _vit_fields, _vit_rows),
    "deit": _family("Hugging Face DeiT", _deit_fields, _deit_rows),
    "dinov2": _family("Hugging Face DINOv2", _dinov2_fields, _dinov2_rows),
    "resnet": _family("Hugging Face ResNet", _resnet_fields, _resnet_rows),
    "convnext": _family("Hugging Face ConvNeXt", _convnext_fields, _convnext_rows),
}
