"""Models of texts written in the layout of others."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from configs.defaults import get_config
from models import build, pretrained
from models.pretrained import engine
from models.pretrained.export import About, export
from plumbline import UserError
from tests.models.pretrained.test_references import TEXT_KINDS, source

CLASSES = tuple("abcdefg")
CLASSIFIERS = ("hf_bert", "hf_minilm", "hf_distilbert", "hf_gpt2", "hf_gpt2_classification")


def made(folder, *, language=False, **fields):
    """The model of a source and parameters of its own, of which a head's bias is zero."""
    config, name = get_config(), folder.name
    config.update_from_flattened_dict(pretrained.architecture(str(folder)))
    config.update_from_flattened_dict({field.replace("__", "."): value for field, value in fields.items()})
    if name == "hf_minilm":
        # Its library has no classifier of the mean.
        config.model.bert.pooling = "token"
    section = config.model[config.model.name]
    sizes = {"input_shape": (9,), "categories": (section.vocabulary,)}
    outputs = section.vocabulary if language else len(CLASSES)
    model = nnx.eval_shape(lambda: build(config.model, **sizes, num_outputs=outputs, key=jax.random.key(0)))
    generator = np.random.default_rng(0)
    shapes = {path: target.shape for path, target in engine.find_targets(model).items()}
    arrays = {path: generator.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
    if name.startswith("hf_gpt2") and not language:
        arrays["head/bias"][:] = 0
    return model, arrays


def written(folder, tmp_path, *, language=False, tokenizer="", **fields):
    """Tensors and config.json of what is exported."""
    model, arrays = made(folder, language=language, **fields)
    about = About(class_names=() if language else CLASSES, tokenizer=tokenizer)
    assert export(str(folder), model, arrays, about, tmp_path / "exported") == TEXT_KINDS[folder.name]
    start, _ = pretrained.load(str(tmp_path / "exported"), model)
    for keys, values in jax.tree_util.tree_flatten_with_path(start["params"])[0]:
        np.testing.assert_array_equal(values, arrays["/".join(str(key.key) for key in keys)])
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    return load_file(tmp_path / "exported" / "model.safetensors"), config


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_that_was_exported_is_read_again_to_the_bit(tmp_path, name):
    tensors, config = written(source(name), tmp_path)
    assert config["id2label"]["6"] == "g"
    # A head of another kind is named in config.json no more.
    assert all(each.endswith("Classification") for each in config.get("architectures", ()))
    heads = {each for each in tensors if "classifier" in each or "score" in each}
    gpt2, distilbert = {"score.weight"}, {"pre_classifier.weight", "pre_classifier.bias"}
    bert = {"classifier.weight", "classifier.bias"}
    assert heads == (gpt2 if "gpt2" in name else bert | distilbert if "distil" in name else bert)


@pytest.mark.parametrize(
    ("name", "trained", "copy"),
    [
        ("hf_gpt2", "transformer.wte.weight", "lm_head.weight"),
        ("hf_bert_masked", "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("hf_bert_masked", "cls.predictions.bias", "cls.predictions.decoder.bias"),
        ("hf_distilbert_masked", "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
    ],
)
def test_what_repeats_the_table_of_tokens_is_not_left_as_it_was(tmp_path, name, trained, copy):
    folder = tmp_path / name
    shutil.copytree(source(name), folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {copy: tensors[trained].copy()}, folder / "model.safetensors")
    exported, config = written(folder, tmp_path, language=True)
    assert copy not in exported
    original = json.loads((folder / "config.json").read_text())
    assert {n: config.get(n) for n in ("architectures", "id2label", "problem_type")} == {
        n: original.get(n) for n in ("architectures", "id2label", "problem_type")
    }


@pytest.mark.parametrize("name", ["hf_gpt2", "hf_gpt2_classification"])
def test_a_bias_that_the_layout_has_not_is_refused_once_it_was_trained(tmp_path, name):
    model, arrays = made(source(name))
    arrays["head/bias"][0] = 1
    with pytest.raises(UserError, match=r"the head has no bias, but the model has trained one; freeze '\^head/bias\$'"):
        export(str(source(name)), model, arrays, About(class_names=CLASSES), tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_the_tokenizer_is_the_one_that_texts_were_read_by(tmp_path):
    folder = tmp_path / "hf_bert"
    shutil.copytree(source("hf_bert"), folder)
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).write_text("theirs")
    for number, (content, found) in enumerate(
        {"theirs": {"tokenizer.json", "vocab.txt"}, "ours": {"tokenizer.json"}}.items()
    ):
        (tmp_path / str(number)).mkdir()
        written(folder, tmp_path / str(number), tokenizer=content)
        exported = tmp_path / str(number) / "exported"
        assert (exported / "tokenizer.json").read_text() == content
        assert {path.name for path in exported.iterdir()} - {"config.json", "model.safetensors"} == found
