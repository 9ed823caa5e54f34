"""Text models in the format of the `transformers` library: BERT, DistilBERT and GPT-2.

A directory has a trunk, and possibly a head that classifies texts or predicts tokens. The head is loaded if the model
has the same type of head, else it is ignored.
"""

from typing import Any

from models.bert import Bert
from models.interface import Model
from models.pretrained.family import Family
from models.pretrained.huggingface import get
from models.pretrained.mapping import Row, Rows, transpose
from models.pretrained.pytorch import dense, norm
from models.pretrained.weights import Weights
from plumbline import UserError

# Names of activations in `transformers` -> names here.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
# Endings of the names of supported classes.
_HEADS = ("Model", "ForSequenceClassification", "ForMaskedLM", "ForPreTraining", "LMHeadModel")
# Pooling in 1_Pooling/config.json of a sentence encoder -> pooling here.
_POOLINGS = {"pooling_mode_mean_tokens": "", "pooling_mode_cls_token": "token"}


def _bert_fields(weights: Weights) -> dict[str, Any]:
    config = weights.config
    _check(
        weights,
        (config.get("position_embedding_type", "absolute") == "absolute", "relative positions"),
        (not config.get("is_decoder"), "attention to earlier tokens only"),
        (config.get("tie_word_embeddings", True), "an output table of its own"),
    )
    classifies = "classifier.weight" in weights.tensors
    has_pooler = any(name.endswith("pooler.dense.weight") for name in weights.tensors)
    pooling = "token" if classifies else _sentence_pooling(weights)
    # A sentence encoder uses the token without a pooler.
    pooler = "tanh" if has_pooler and (classifies or not pooling) else "none"
    return _text_fields(weights) | {
        "model.name": "bert",
        "model.bert.vocabulary": get(weights, "vocab_size"),
        "model.bert.max_length": get(weights, "max_position_embeddings"),
        "model.bert.width": get(weights, "hidden_size"),
        "model.bert.depth": get(weights, "num_hidden_layers"),
        "model.bert.heads": get(weights, "num_attention_heads"),
        "model.bert.mlp_size": get(weights, "intermediate_size"),
        "model.bert.segments": get(weights, "type_vocab_size"),
        "model.bert.activation": _activation(weights, "hidden_act"),
        "model.bert.norm_epsilon": get(weights, "layer_norm_eps"),
        "model.bert.pooling": pooling,
        "model.bert.pooler": pooler,
    }


def _bert_rows(weights: Weights, model: Model) -> Rows:
    layer = "encoder.layer.{block}"
    attention = [
        row
        for part in ("query", "key", "value")
        for row in dense(f"{layer}.attention.self.{part}", f"blocks/attention/{part}")
    ]
    rows = (
        Row("embeddings.word_embeddings.weight", "embedding/embedding"),
        Row("embeddings.position_embeddings.weight", "positions"),
        Row("embeddings.token_type_embeddings.weight", "segments"),
        *_old_norm("embeddings.LayerNorm", "embedding_norm"),
        *attention,
        *dense(f"{layer}.attention.output.dense", "blocks/attention/out"),
        *_old_norm(f"{layer}.attention.output.LayerNorm", "blocks/norm1"),
        *dense(f"{layer}.intermediate.dense", "blocks/mlp/hidden"),
        *dense(f"{layer}.output.dense", "blocks/mlp/out"),
        *_old_norm(f"{layer}.output.LayerNorm", "blocks/norm2"),
    )
    heads = {
        "classifier": dense("classifier", "head"),
        "pooler": dense("pooler.dense", "pooler"),
        "tokens": (
            *dense("cls.predictions.transform.dense", "head/transform"),
            *_old_norm("cls.predictions.transform.LayerNorm", "head/norm"),
            Row("cls.predictions.bias", "head/bias"),
        ),
    }
    unused = (r"embeddings\.position_ids", r"cls\.seq_relationship\..+")
    tied, fields = (r"cls\.predictions\.decoder\.(weight|bias)",), _bert_fields(weights)
    return _encoder_rows(weights, model, "Hugging Face BERT", "bert.", rows, heads, unused, tied, fields)


def _distilbert_fields(weights: Weights) -> dict[str, Any]:
    _check(weights, (weights.config.get("tie_word_embeddings", True), "an output table of its own"))
    classifies = "classifier.weight" in weights.tensors
    pooling = "token" if classifies else _sentence_pooling(weights)
    return _text_fields(weights) | {
        "model.name": "bert",
        "model.bert.vocabulary": get(weights, "vocab_size"),
        "model.bert.max_length": get(weights, "max_position_embeddings"),
        "model.bert.width": get(weights, "dim"),
        "model.bert.depth": get(weights, "n_layers"),
        "model.bert.heads": get(weights, "n_heads"),
        "model.bert.mlp_size": get(weights, "hidden_dim"),
        "model.bert.segments": 0,
        "model.bert.activation": _activation(weights, "activation"),
        # Fixed in the library, not part of config.json.
        "model.bert.norm_epsilon": 1e-12,
        "model.bert.pooling": pooling,
        "model.bert.pooler": "relu" if classifies else "none",
    }


def _distilbert_rows(weights: Weights, model: Model) -> Rows:
    layer = "transformer.layer.{block}"
    attention = [
        row
        for part, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out"))
        for row in dense(f"{layer}.attention.{part}_lin", f"blocks/attention/{ours}")
    ]
    rows = (
        Row("embeddings.word_embeddings.weight", "embedding/embedding"),
        Row("embeddings.position_embeddings.weight", "positions"),
        *norm("embeddings.LayerNorm", "embedding_norm"),
        *attention,
        *norm(f"{layer}.sa_layer_norm", "blocks/norm1"),
        *dense(f"{layer}.ffn.lin1", "blocks/mlp/hidden"),
        *dense(f"{layer}.ffn.lin2", "blocks/mlp/out"),
        *norm(f"{layer}.output_layer_norm", "blocks/norm2"),
    )
    heads = {
        "classifier": dense("classifier", "head"),
        "pooler": dense("pre_classifier", "pooler"),
        "tokens": (
            *dense("vocab_transform", "head/transform"),
            *norm("vocab_layer_norm", "head/norm"),
            Row("vocab_projector.bias", "head/bias"),
        ),
    }
    tied, fields = (r"vocab_projector\.weight",), _distilbert_fields(weights)
    return _encoder_rows(weights, model, "Hugging Face DistilBERT", "distilbert.", rows, heads, (), tied, fields)


def _encoder_rows(
    weights: Weights,
    model: Model,
    source: str,
    prefix: str,
    rows: tuple[Row, ...],
    heads: dict[str, tuple[Row, ...]],
    unused: tuple[str, ...],
    tied: tuple[str, ...],
    fields: dict[str, Any],
) -> Rows:
    """Returns the rows of the trunk and of the model's own head. Tensors of other heads are ignored."""
    kept = {
        "classifier": not model.predicts_tokens,
        "pooler": getattr(model, "pooler", None) is not None,
        "tokens": model.predicts_tokens,
    }
    facts = {
        "sizes.heads": "model.bert.heads",
        "activation": "model.bert.activation",
        "embedding_norm.epsilon": "model.bert.norm_epsilon",
    }
    if kept["pooler"] and fields["model.bert.pooler"] != "none":
        facts["pooler_activation"] = "model.bert.pooler"
    # Classifiers of the library read the first token, through a layer with this activation.
    new_head_facts = {
        "pooling": ("model.bert.pooling", "token"),
        "pooler_activation": ("model.bert.pooler", "tanh" if prefix == "bert." else "relu"),
    }
    read_by_classifier = {"pooling": "model.bert.pooling"} if fields["model.bert.pooling"] else {}
    if not isinstance(model, Bert):
        kept = dict.fromkeys(kept, True)
    return Rows(
        source=source,
        prefix=prefix,
        rows=(*rows, *(row for name, own in heads.items() if kept[name] for row in own)),
        unused=(*unused, *(_escape_name(row) for name, own in heads.items() if not kept[name] for row in own)),
        tied=tied,
        resize="",
        facts={attribute: (field, fields[field]) for attribute, field in facts.items()},
        head_facts={} if model.predicts_tokens else {n: (f, fields[f]) for n, f in read_by_classifier.items()},
        new_head_facts={} if model.predicts_tokens else new_head_facts,
    )


def _gpt2_fields(weights: Weights) -> dict[str, Any]:
    config = weights.config
    _check(
        weights,
        (config.get("scale_attn_weights", True), "attention that is not scaled"),
        (not config.get("scale_attn_by_inverse_layer_idx"), "attention scaled by the number of the layer"),
        (not config.get("add_cross_attention"), "cross attention"),
        (config.get("tie_word_embeddings", True), "an output table of its own"),
    )
    width = get(weights, "n_embd")
    return _text_fields(weights) | {
        "model.name": "gpt",
        "model.gpt.vocabulary": get(weights, "vocab_size"),
        "model.gpt.max_length": get(weights, "n_positions"),
        "model.gpt.width": width,
        "model.gpt.depth": get(weights, "n_layer"),
        "model.gpt.heads": get(weights, "n_head"),
        "model.gpt.mlp_size": config.get("n_inner") or 4 * width,
        "model.gpt.activation": _activation(weights, "activation_function"),
        "model.gpt.norm_epsilon": get(weights, "layer_norm_epsilon"),
        "model.gpt.pooling": "last" if "score.weight" in weights.tensors else "",
    }


def _gpt2_rows(weights: Weights, model: Model) -> Rows:
    fields, block = _gpt2_fields(weights), "h.{block}"
    facts = {
        "sizes.heads": "model.gpt.heads",
        "activation": "model.gpt.activation",
        "norm.epsilon": "model.gpt.norm_epsilon",
    }
    parts = [f"blocks/attention/{part}" for part in ("query", "key", "value")]
    score = (Row("score.weight", "head/kernel", transpose),)  # Without a bias.
    return Rows(
        source="Hugging Face GPT-2",
        prefix="transformer.",
        rows=(
            Row("wte.weight", "embedding/embedding"),
            Row("wpe.weight", "positions"),
            *norm(f"{block}.ln_1", "blocks/norm1"),
            # Its dense layers have kernels (in, out), like those here.
            Row(f"{block}.attn.c_attn.weight", tuple(f"{part}/kernel" for part in parts), axis=1),
            Row(f"{block}.attn.c_attn.bias", tuple(f"{part}/bias" for part in parts)),
            *_same(f"{block}.attn.c_proj", "blocks/attention/out"),
            *norm(f"{block}.ln_2", "blocks/norm2"),
            *_same(f"{block}.mlp.c_fc", "blocks/mlp/hidden"),
            *_same(f"{block}.mlp.c_proj", "blocks/mlp/out"),
            *norm("ln_f", "norm"),
            *(() if model.predicts_tokens else score),
        ),
        unused=(
            r"h\.\d+\.attn\.(bias|masked_bias)",
            *(map(_escape_name, score) if model.predicts_tokens else ()),
        ),
        tied=(r"lm_head\.weight",),
        resize="",
        facts={attribute: (field, fields[field]) for attribute, field in facts.items()},
        head_facts={"pooling": ("model.gpt.pooling", "last")},
        new_head_facts={} if model.predicts_tokens else {"pooling": ("model.gpt.pooling", "last")},
    )


def _text_fields(weights: Weights) -> dict[str, Any]:
    """Checks that the head is supported, and returns the tokenizer next to the weights."""
    for name in weights.config.get("architectures") or ():
        if not name.endswith(_HEADS):
            raise UserError(
                f"transfer.source: '{weights.where}' is a {name}, whose head is not supported; supported are names "
                f"that end with {', '.join(_HEADS)}"
            )
    return {"data.tokenizer": weights.tokenizer} if weights.tokenizer else {}


def _activation(weights: Weights, field: str) -> str:
    name = weights.config.get(field, "gelu_new" if field == "activation_function" else "gelu")
    if name not in _ACTIVATIONS:
        raise UserError(
            f"transfer.source: '{weights.where}' asks for the activation '{name}'; models of text have "
            f"{', '.join(_ACTIVATIONS)} only"
        )
    return _ACTIVATIONS[name]


def _sentence_pooling(weights: Weights) -> str:
    """Returns the pooling in 1_Pooling/config.json; "" without one."""
    chosen = [name for name, value in weights.sentence_pooling.items() if name.startswith("pooling_mode") and value]
    if not chosen:
        return ""
    if len(chosen) > 1 or chosen[0] not in _POOLINGS:
        raise UserError(
            f"transfer.source: '{weights.where}' pools tokens by {' and '.join(chosen)}; bert has "
            f"{', '.join(_POOLINGS)}; name the model and its fields instead of model.name='pretrained'"
        )
    return _POOLINGS[chosen[0]]


def _check(weights: Weights, *facts: tuple[Any, str]) -> None:
    for holds, what in facts:
        if not holds:
            raise UserError(f"transfer.source: '{weights.where}' has {what}, which is not supported")


def _old_norm(name: str, target: str) -> tuple[Row, ...]:
    """Returns the rows of a layer norm, including its names in early files."""
    return *norm(name, target), Row(f"{name}.gamma", f"{target}/scale"), Row(f"{name}.beta", f"{target}/bias")


def _same(name: str, target: str) -> tuple[Row, ...]:
    return Row(f"{name}.weight", f"{target}/kernel"), Row(f"{name}.bias", f"{target}/bias")


def _escape_name(row: Row) -> str:
    """Returns a regular expression for the name of a row without fields."""
    return row.names[0].replace(".", r"\.")


# By `model_type` in config.json.
FAMILIES: dict[str, Family] = {
    "bert": Family("Hugging Face BERT", _bert_fields, _bert_rows),
    "distilbert": Family("Hugging Face DistilBERT", _distilbert_fields, _distilbert_rows),
    "gpt2": Family("Hugging Face GPT-2", _gpt2_fields, _gpt2_rows),
}
