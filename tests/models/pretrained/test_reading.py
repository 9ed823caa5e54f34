"""Types come out right, memory stays small, and the report says what was done."""

import io
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.console import Console
from safetensors.numpy import save_file

from configs.defaults import get_config
from models import build, pretrained
from models.pretrained.weights import open_weights

CHECKOUT = pathlib.Path(__file__).parent.parent.parent.parent


def abstract_vit(size=8, **fields):
    model = get_config().model
    model.name = "vit"
    model.vit.update({"patch_size": 4, "width": 8, "depth": 2, "heads": 2, "mlp_size": 12, "norm_epsilon": 1e-12})
    model.vit.update(fields)
    return nnx.eval_shape(
        lambda: build(model, input_shape=(size, size, 3), categories=(), num_outputs=3, key=jax.random.key(0))
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "float32"])
def test_every_type_of_safetensors_comes_out_as_float32(save_tiny, tiny_tensors, dtype):
    tensors = {name: value.astype(jnp.dtype(dtype)) for name, value in tiny_tensors.items()}
    start, report = pretrained.load(str(save_tiny(tensors)), abstract_vit())
    assert {each.dtype for each in report.loaded} == {dtype}
    assert {leaf.dtype for leaf in jax.tree.leaves(start)} == {np.dtype(np.float32)}
    for part in ("query", "key", "value"):
        for block in range(2):
            written = tensors[f"vit.encoder.layer.{block}.attention.attention.{part}.weight"]
            loaded = start["params"]["blocks"]["attention"][part]["kernel"][block]
            np.testing.assert_array_equal(loaded, written.astype(np.float32).T)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_type_of_an_archive_comes_out_as_float32(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(jnp.dtype(dtype))
    # Where JAX's types are saved by NumPy, it keeps their bytes only.
    np.savez(tmp_path / "a.npz", x=values)
    weights = open_weights(str(tmp_path / "a.npz"))
    assert weights.tensors["x"].dtype == dtype
    np.testing.assert_array_equal(weights.read("x"), values.astype(np.float32))


def test_scalars_and_empty_tensors_are_read(tmp_path):
    save_file({"x": np.full((), 3, np.float32), "y": np.zeros((0, 4), np.float32)}, tmp_path / "a.safetensors")
    weights = open_weights(str(tmp_path / "a.safetensors"))
    assert weights.read("x") == 3
    assert weights.read("y").shape == (0, 4)


MEASURE = """
import pathlib, sys, jax
from flax import nnx
from configs.defaults import get_config
from models import build, pretrained

def most_memory():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

config = get_config()
config.update_from_flattened_dict(pretrained.architecture(sys.argv[1]))
make = lambda: build(config.model, input_shape=(64, 64, 3), categories=(), num_outputs=3, key=jax.random.key(0))
model = nnx.eval_shape(make)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = most_memory()
start, _ = pretrained.load(sys.argv[1], model)
print(most_memory() - before, sum(leaf.nbytes for leaf in jax.tree.leaves(start)))
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_stays_below_13_tenths_of_the_parameters(tmp_path, dtype):
    width, depth = 384, 8
    config = {"hidden_size": width, "num_hidden_layers": depth, "intermediate_size": 4 * width}
    write_vit(tmp_path, width, depth, 257, dtype, config)
    words = [sys.executable, "-c", MEASURE, str(tmp_path)]
    measured = subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    peak, parameters = map(int, measured.split())
    assert parameters > 4 * depth * 12 * width**2
    assert parameters < peak < 1.3 * parameters


def write_vit(folder, width, depth, tokens, dtype, config):
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, tokens, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 4, 4),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
        "classifier.weight": (3, width),
        "classifier.bias": (3,),
    }
    layers = dict.fromkeys(
        ["attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"],
        (width, width),
    )
    layers |= {"intermediate.dense": (4 * width, width), "output.dense": (width, 4 * width)}
    layers |= {"layernorm_before": (width,), "layernorm_after": (width,)}
    for block in range(depth):
        for layer, shape in layers.items():
            shapes |= {f"encoder.layer.{block}.{layer}.weight": shape, f"encoder.layer.{block}.{layer}.bias": shape[:1]}
    tensors = {name: np.ones(shape, jnp.dtype(dtype)) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    fixed = {"model_type": "vit", "num_attention_heads": 2, "patch_size": 4, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config | fixed))


def test_what_a_head_was_pooled_from_is_unused_and_named(save_tiny):
    pooler = {"pooler.dense.weight": np.zeros((8, 8), np.float32), "pooler.dense.bias": np.zeros(8, np.float32)}
    _, report = pretrained.load(
        str(save_tiny({f"vit.{name}": value for name, value in pooler.items()})), abstract_vit()
    )
    assert sorted(each.name for each in report.unused) == ["vit.pooler.dense.bias", "vit.pooler.dense.weight"]


def test_the_trunk_alone_gives_all_but_the_head(save_tiny, tiny_tensors):
    trunk = dict.fromkeys(tiny_tensors) | {name.removeprefix("vit."): value for name, value in tiny_tensors.items()}
    head = {"classifier.weight": None, "classifier.bias": None}
    start, report = pretrained.load(str(save_tiny(trunk | head)), abstract_vit())
    assert [each.path for each in report.fresh] == ["head/bias", "head/kernel"]
    assert "head" not in start["params"]


def test_the_report_is_a_line_and_a_table(save_tiny):
    changed = {"classifier.weight": np.zeros((9, 8), np.float32), "classifier.bias": np.zeros(9, np.float32)}
    _, report = pretrained.load(str(save_tiny(changed)), abstract_vit(16))
    assert report.summary() == (
        "Hugging Face ViT: 1,616 numbers in 22 parameters loaded (float32); positions resized 2x2 to 4x4 patches "
        "(bicubic); fresh: head/bias, head/kernel; unused: classifier.weight, classifier.bias"
    )
    text = io.StringIO()
    Console(file=text, width=200).print(report.table())
    lines = text.getvalue().splitlines()
    for words in (
        ["resized", "positions", "17 x 8", "vit.embeddings.position_embeddings", "2x2 to 4x4 patches (bicubic)"],
        ["loaded", "blocks/mlp/hidden/kernel", "2 x 8 x 12", "encoder.layer.{block}.intermediate.dense.weight"],
        ["fresh", "head/kernel", "8 x 3", "new: its head is of another shape"],
        ["unused", "9 x 8", "classifier.weight", "of another head"],
    ):
        assert any(all(word in line for word in words) for line in lines), words


def test_what_a_source_says_of_images_becomes_config_fields(save_tiny):
    folder = save_tiny()
    about = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    fields = pretrained.architecture(str(folder))
    assert {name: fields[name] for name in fields if name.startswith("data.")} == {
        "data.channels": 3,
        "data.image_size": 8,
        "data.normalize": "imagenet",
    }


def test_usual_sizes_tell_the_heads_of_a_timm_file(tmp_path):
    tensors = {
        "blocks.0.attn.qkv.weight": (1, 1),
        "blocks.0.mlp.fc1.weight": (768, 1),
        "cls_token": (1, 1, 192),
        "pos_embed": (1, 197, 192),
        "patch_embed.proj.weight": (192, 3, 16, 16),
        **{f"blocks.{block}.norm1.weight": (192,) for block in range(12)},
    }
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, tmp_path / "a.safetensors")
    fields = pretrained.architecture(str(tmp_path / "a.safetensors"))
    assert fields["model.vit.heads"] == 3
    assert fields["data.image_size"] == 224


def test_the_home_is_expanded_in_the_path_of_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "weights.npz", kernel=np.zeros(3, np.float32))
    assert set(open_weights("~/weights.npz").tensors) == {"kernel"}
