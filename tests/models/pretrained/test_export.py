"""Parameters written in the layout of others: read by ours to the bit, and by the reference libraries to rounding."""

import json
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from models import build, pretrained
from models.pretrained.export import About, export
from models.pretrained.weights import open_weights
from plumbline import UserError
from tests.conftest import CHECKOUT
from tests.models.pretrained.conftest import COMPILER_OPTIONS
from tests.models.pretrained.test_references import KINDS, RESIZED, TEXT_KINDS, source

EXPORTED = [name for name in KINDS if name != "hf_deit_distilled"]
REFERENCE_PYTHON = CHECKOUT / ".venv-references" / "bin" / "python"
CLASSES = tuple("abcdefg")
NUM_CLASSES = len(CLASSES)
VOCABULARY = 40


def size_of(name):
    """Of images: where positions can be resized, another one than the source's."""
    if name in RESIZED:
        return 20
    return 12 if "deit" in name else 40


class Made:
    """A model like a source, with another number of classes and numbers of its own."""

    def __init__(self, config, *, shape, categories=(), num_outputs=NUM_CLASSES):
        sizes = {"input_shape": shape, "categories": categories, "num_outputs": num_outputs}
        model = nnx.eval_shape(lambda: build(config.model, **sizes, key=jax.random.key(0)))
        self.model, generator = model, np.random.default_rng(0)
        self.graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat)

        def drawn(leaf):
            # Statistics and scales around 1, and none so large that differences are rounding.
            values = generator.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5
            return (values + (len(leaf.shape) == 1 and 1)).astype(np.float32)

        self.states = [jax.tree.map(drawn, nnx.to_pure_dict(each)) for each in states]
        self.states = [jax.tree.map(np.abs, state) if number else state for number, state in enumerate(self.states)]
        leaves = [leaf for state in self.states for leaf in jax.tree_util.tree_flatten_with_path(state)[0]]
        self.arrays = {"/".join(str(key.key) for key in path): array for path, array in leaves}

    def logits(self, images):
        call = jax.jit(lambda *trees: nnx.merge(self.graphdef, *trees)(images), compiler_options=COMPILER_OPTIONS)
        return call(*self.states)


@pytest.fixture
def make(config_of):
    def of(path, size, **changes):
        return Made(config_of(path, **changes), shape=(size, size, 3))

    return of


def about(size, names=CLASSES):
    return About(class_names=names, image_size=(size, size), mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize("name", EXPORTED)
def test_what_was_exported_is_read_again_to_the_bit(make, tmp_path, name):
    size = size_of(name)
    made = make(source(name), size)
    assert export(str(source(name)), made.model, made.arrays, about(size), tmp_path / "exported") == KINDS[name]
    start, report = pretrained.load(str(tmp_path / "exported"), made.model)
    assert not report.fresh
    assert not report.resized
    found = [leaf for kind in ("params", "model_state") for leaf in jax.tree.leaves(start[kind])]
    jax.tree.map(np.testing.assert_array_equal, found, jax.tree.leaves(made.states))
    assert axes_in(tmp_path / "exported") == axes_in(source(name).parent if name.startswith("npz") else source(name))


def axes_in(folder):
    """How many axes each tensor of a folder has, by name."""
    if (folder / "weights.npz").exists():
        with np.load(folder / "weights.npz") as archive:
            return {name: archive[name].ndim for name in archive.files}
    return {name: len(tensor.shape) for name, tensor in open_weights(str(folder)).tensors.items()}


def made_of_texts(config_of, name, num_outputs=NUM_CLASSES, **changes):
    return Made(config_of(source(name), **changes), shape=(12,), categories=(VOCABULARY,), num_outputs=num_outputs)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("hf_bert", {}),
        ("hf_bert_masked", {"model__bert__pooling": "tokens"}),
        ("hf_minilm", {"model__bert__pooling": "token", "model__bert__pooler": "tanh"}),
        ("hf_distilbert", {}),
        ("hf_distilbert_masked", {"model__bert__pooling": "tokens"}),
        ("hf_gpt2", {"model__gpt__pooling": "tokens"}),
        ("hf_gpt2_classification", {}),
    ],
)
def test_models_of_texts_are_read_again_to_the_bit(config_of, tmp_path, name, changes):
    each_token = "tokens" in changes.values()
    made = made_of_texts(config_of, name, VOCABULARY if each_token else len(CLASSES), **changes)
    if name == "hf_gpt2_classification":
        made.arrays["head/bias"][:] = 0
    labels = About(class_names=() if each_token else CLASSES)
    assert export(str(source(name)), made.model, made.arrays, labels, tmp_path / "exported") == TEXT_KINDS[name]
    start, report = pretrained.load(str(tmp_path / "exported"), made.model)
    assert not report.fresh
    jax.tree.map(np.testing.assert_array_equal, start["params"], made.states[0])
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert "problem_type" not in config
    # Products with the table of tokens are made anew, or they would be those of the source.
    written = load_file(tmp_path / "exported" / "model.safetensors")
    assert not [each for each in written if "lm_head" in each or "decoder" in each or "vocab_projector.weight" in each]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "hf_minilm",
            {},
            "reads the first token through a pooler, as model.bert.pooling='token' and model.bert.pooler=",
        ),
        ("hf_distilbert", {"model__bert__pooler": "tanh"}, "and model.bert.pooler='relu' do; train with these to"),
        ("hf_bert_masked", {"model__bert__pooling": "token", "model__bert__pooler": "none"}, "through a pooler"),
        (
            "hf_gpt2_classification",
            {},
            "the classifier has no bias, but the model has trained one; freeze '\\^head/bias'",
        ),
    ],
)
def test_a_classifier_of_texts_that_transformers_has_not_is_refused(config_of, tmp_path, name, changes, message):
    made = made_of_texts(config_of, name, **changes)
    with pytest.raises(UserError, match=message):
        export(str(source(name)), made.model, made.arrays, About(class_names=CLASSES), tmp_path / "exported")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("own", [False, True])
def test_the_tokenizer_is_that_of_the_run(config_of, tmp_path, own):
    original = tmp_path / "original"
    shutil.copytree(source("hf_bert"), original)
    (original / "tokenizer.json").write_text('{"of": "source"}')
    (original / "vocab.txt").write_text("the")
    made = made_of_texts(config_of, "hf_bert")
    content = '{"of": "run"}' if own else '{"of": "source"}'
    labels = About(class_names=CLASSES, tokenizer=content)
    export(str(original), made.model, made.arrays, labels, tmp_path / "exported")
    assert (tmp_path / "exported" / "tokenizer.json").read_text() == content
    assert (tmp_path / "exported" / "vocab.txt").exists() is not own


def test_files_beside_the_weights_say_what_was_trained(make, tmp_path):
    original = tmp_path / "original"
    shutil.copytree(source("hf_vit"), original)
    preprocessor = {
        "size": {"height": 12, "width": 12},
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (original / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (original / "tokenizer.json").write_text("{}")
    export(str(original), (made := make(original, 20)).model, made.arrays, about(20), tmp_path / "exported")
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert list(config["id2label"].items())[-1] == ("6", "g")
    assert config["label2id"]["b"] == 1
    assert (config["image_size"], config["dtype"]) == (20, "float32")
    assert config["architectures"] == ["ViTForImageClassification"]
    written = json.loads((tmp_path / "exported" / "preprocessor_config.json").read_text())
    assert written["size"] == {"height": 20, "width": 20}
    assert (written["image_std"], written["rescale_factor"]) == ([0.25] * 3, 1 / 255)
    assert (tmp_path / "exported" / "tokenizer.json").read_text() == "{}"


def test_a_config_of_timm_is_mended_as_well(make, tmp_path):
    made = make(source("timm_vit"), 20)
    export(str(source("timm_vit")), made.model, made.arrays, about(20), tmp_path / "exported")
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert (config["num_classes"], config["label_names"]) == (7, list(CLASSES))
    assert config["model_args"]["img_size"] == 20
    assert config["pretrained_cfg"]["input_size"] == [3, 20, 20]
    assert config["pretrained_cfg"]["std"] == [0.25] * 3


def test_a_trunk_without_a_head_gets_one_by_the_names_of_the_whole(make, save_tiny, tiny_tensors, tmp_path):
    trunk = {name.removeprefix("vit."): None for name in tiny_tensors} | dict.fromkeys(tiny_tensors)
    trunk |= {n.removeprefix("vit."): value for n, value in tiny_tensors.items() if not n.startswith("classifier")}
    folder = save_tiny(trunk, architectures=["ViTModel"])
    made = make(folder, 8)
    export(str(folder), made.model, made.arrays, about(8), tmp_path / "exported")
    written = load_file(tmp_path / "exported" / "model.safetensors")
    assert set(written) == set(tiny_tensors)
    np.testing.assert_array_equal(written["classifier.weight"], made.arrays["head/kernel"].T)
    assert "architectures" not in json.loads((tmp_path / "exported" / "config.json").read_text())


def test_what_no_model_here_needs_is_kept(make, save_tiny, tmp_path):
    pooler = np.full((8, 8), 0.5, np.float16)
    folder = save_tiny({"vit.pooler.dense.weight": pooler, "vit.embeddings.position_ids": np.arange(5)[None]})
    made = make(folder, 8)
    export(str(folder), made.model, made.arrays, about(8), tmp_path / "exported")
    written = load_file(tmp_path / "exported" / "model.safetensors")
    np.testing.assert_array_equal(written["vit.pooler.dense.weight"], pooler.astype(np.float32))
    np.testing.assert_array_equal(written["vit.embeddings.position_ids"], np.arange(5)[None])


@pytest.mark.parametrize(
    ("name", "size", "changes", "message"),
    [
        (
            "hf_deit_distilled",
            12,
            {},
            "become one, head/kernel, which cannot be taken apart again; name weights with a",
        ),
        ("hf_vit", 12, {"model__vit__width": 32}, r"has the shape .* does not fit; name weights of the same sizes"),
        ("hf_vit", 12, {"model__vit__depth": 3}, "does not fit; name weights of the same sizes"),
        ("hf_vit", 12, {"model__vit__layer_scale": 0.1}, "has no place for blocks/layer_scale1/scale, which the model"),
        ("hf_vit", 12, {"model__vit__norm_epsilon": 1e-6}, "model.vit.norm_epsilon: the weights were trained with"),
        ("hf_vit", 12, {"model__vit__pooling": "mean"}, "has class_token, which the model has not"),
    ],
)
def test_a_model_without_a_place_in_the_layout_is_refused_and_nothing_written(
    make, tmp_path, name, size, changes, message
):
    made = make(source(name), size, **changes)
    with pytest.raises(UserError, match=message) as error:
        export(str(source(name)), made.model, made.arrays, about(size), tmp_path / "exported")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_positions_that_the_layout_has_not_are_refused(make, tmp_path):
    with np.load(source("npz_augreg")) as archive:
        arrays = dict(archive)
    name = "Transformer/posembed_input/pos_embedding"
    np.savez(tmp_path / "like.npz", **arrays | {name: arrays[name][:, 1:]})
    made = make(tmp_path / "like.npz", 12)
    with pytest.raises(UserError, match="the class token has no position, but the model has trained one"):
        export(str(tmp_path / "like.npz"), made.model, made.arrays, about(12), tmp_path / "exported")
    made.arrays["positions"][0] = 0
    export(str(tmp_path / "like.npz"), made.model, made.arrays, about(12), tmp_path / "exported")


@pytest.mark.skipif(not REFERENCE_PYTHON.exists(), reason="no .venv-references; make test-references builds it")
def test_the_reference_libraries_answer_the_same_with_what_was_exported(make, tmp_path):
    expected = {}
    for name in EXPORTED:
        size = size_of(name)
        folder, made = tmp_path / name, make(source(name), size)
        folder.mkdir()
        export(str(source(name)), made.model, made.arrays, about(size), folder / "exported")
        images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
        np.save(folder / "images.npy", images)
        expected[name] = made.logits(jnp.asarray(images))
    script = CHECKOUT / "tests" / "references" / "read_exported.py"
    finished = subprocess.run([REFERENCE_PYTHON, script, tmp_path], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    for name, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / name / "logits.npy"), logits, rtol=1e-4, atol=1e-4, err_msg=name)
