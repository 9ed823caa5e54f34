"""Models of texts written back in the names and layout of what they were read from."""

import json
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from configs import defaults
from models import build, pretrained
from models.pretrained.export import About, export
from plumbline import UserError
from trainers.settings import override
from trainers.step.optimizers import paths_and_leaves
from trainers.step.state import overlay

FIXTURES = pathlib.Path(__file__).parents[2] / "references" / "fixtures"


def read(name, num_outputs):
    """A model with the weights of a fixture, and its parameters by path."""
    fields = {n: v for n, v in pretrained.architecture(str(FIXTURES / name)).items() if n.startswith("model.")}
    options = override(defaults.get_config(), fields).model
    model = build(options, input_shape=(9,), categories=(40,), num_outputs=num_outputs, key=jax.random.key(0))
    start, _ = pretrained.load(str(FIXTURES / name), model)
    params = overlay(nnx.to_pure_dict(nnx.state(model, nnx.Param)), start["params"])
    return model, {path: np.asarray(leaf) for path, leaf in paths_and_leaves(params)}


@pytest.mark.parametrize(
    ("name", "num_outputs"),
    [
        ("hf_bert", 5),
        ("hf_bert_masked", 40),
        ("hf_distilbert", 5),
        ("hf_distilbert_masked", 40),
        ("hf_gpt2", 40),
        ("hf_gpt2_classification", 5),
    ],
)
def test_every_tensor_is_written_as_it_was(name, num_outputs, tmp_path):
    about = About(class_names=tuple("abcde") if num_outputs == 5 else None, tokenizer="{}")
    export(str(FIXTURES / name), *read(name, num_outputs), about, tmp_path / "exported")
    written, original = (load_file(folder / "model.safetensors") for folder in (tmp_path / "exported", FIXTURES / name))
    assert written.keys() == original.keys()
    for tensor, values in original.items():
        np.testing.assert_array_equal(written[tensor], values.astype(np.float32), err_msg=tensor)
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert config["id2label"]["0"] == ("a" if num_outputs == 5 else "LABEL_0")
    assert "problem_type" not in config
    assert (tmp_path / "exported" / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["hf_minilm", "hf_distilbert_bare"])
def test_a_head_that_the_library_has_not_is_left_out(name, tmp_path):
    """Its classifier reads the first token; that of a sentence encoder reads the mean of all."""
    model, arrays = read(name, 3)
    description = export(str(FIXTURES / name), model, arrays, About(class_names=tuple("abc")), tmp_path / "exported")
    assert ", without the head: the head of this layout has model.bert.pooling='token', not 'mean'" in description
    assert (
        load_file(tmp_path / "exported" / "model.safetensors").keys()
        == load_file(FIXTURES / name / "model.safetensors").keys()
    )


def test_a_bias_that_the_layout_has_no_place_for_is_refused(tmp_path):
    model, arrays = read("hf_gpt2_classification", 5)
    arrays["head/bias"] = np.ones(5, np.float32)
    with pytest.raises(UserError, match=r"has no tensor for head/bias of the model; freeze it in training"):
        export(
            str(FIXTURES / "hf_gpt2_classification"), model, arrays, About(class_names=tuple("abcde")), tmp_path / "no"
        )
    assert not list(tmp_path.iterdir())
