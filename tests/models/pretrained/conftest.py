"""Models as a source describes them, filled from it."""

import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from configs.defaults import get_config
from models import build, pretrained
from tests.conftest import COMPILER_OPTIONS


def laid_over(fresh, start):
    """The nested dict `fresh` with what `start` holds in its place."""
    if not isinstance(fresh, dict):
        return start
    return {key: laid_over(value, start[key]) if key in start else value for key, value in fresh.items()}


@pytest.fixture
def config_of():
    """The default config with the fields that a source asks for, and others."""

    def make(source, **fields):
        config = get_config()
        config.update_from_flattened_dict(pretrained.architecture(str(source)))
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
        return config

    return make


@pytest.fixture
def fill_model(config_of):
    """Builds the model that a source describes, and loads it.

    Gives a function of inputs (and the name of a method) to what the model makes of them, and the report.
    """

    def make(source, *, allow=(), fields=None, **sizes):
        config = config_of(source, **(fields or {}))
        model = nnx.eval_shape(lambda: build(config.model, key=jax.random.key(0), **sizes))
        start, report = pretrained.load(str(source), model, allow=allow)
        graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
        # Compiling what draws initial values takes longer than all else: what is fresh is zero here.
        trees = [jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), nnx.to_pure_dict(each)) for each in states]
        filled = [laid_over(tree, start[kind]) for tree, kind in zip(trees, ("params", "model_state"), strict=True)]

        def run(inputs, method="__call__"):
            def call(*trees):
                return getattr(nnx.merge(graphdef, *trees), method)(inputs)

            return jax.jit(call, compiler_options=COMPILER_OPTIONS)(*filled)

        return run, report

    return make


@pytest.fixture
def fill(fill_model):
    """As `fill_model`, of a model of images."""

    def make(source, *, size, num_outputs, channels=3, allow=(), **fields):
        shape = (size, size, channels)
        return fill_model(source, allow=allow, fields=fields, input_shape=shape, categories=(), num_outputs=num_outputs)

    return make


@pytest.fixture
def fill_text(fill_model):
    """As `fill_model`, of a model of texts."""

    def make(source, *, length, vocabulary, num_outputs, allow=(), **fields):
        sizes = {"input_shape": (length,), "categories": (vocabulary,), "num_outputs": num_outputs}
        return fill_model(source, allow=allow, fields=fields, **sizes)

    return make


TINY = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "patch_size": 4,
    "image_size": 8,
    "layer_norm_eps": 1e-12,
}


@pytest.fixture
def tiny_tensors():
    """The tensors of a ViT of two blocks, by the names that transformers gives them."""
    generator = np.random.default_rng(0)
    shapes = {
        "vit.embeddings.cls_token": (1, 1, 8),
        "vit.embeddings.position_embeddings": (1, 5, 8),
        "vit.embeddings.patch_embeddings.projection.weight": (8, 3, 4, 4),
        "vit.embeddings.patch_embeddings.projection.bias": (8,),
        "classifier.weight": (3, 8),
        "classifier.bias": (3,),
    }
    dense = {
        "attention.attention.query": (8, 8),
        "attention.attention.key": (8, 8),
        "attention.attention.value": (8, 8),
        "attention.output.dense": (8, 8),
        "intermediate.dense": (12, 8),
        "output.dense": (8, 12),
    }
    for block in range(2):
        for layer, shape in dense.items():
            shapes[f"vit.encoder.layer.{block}.{layer}.weight"] = shape
            shapes[f"vit.encoder.layer.{block}.{layer}.bias"] = shape[:1]
        for layer in ("layernorm_before", "layernorm_after"):
            shapes |= {f"vit.encoder.layer.{block}.{layer}.{part}": (8,) for part in ("weight", "bias")}
    shapes |= {f"vit.layernorm.{part}": (8,) for part in ("weight", "bias")}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def save_tiny(tmp_path, tiny_tensors):
    """Saves that ViT with some tensors changed (None: left out) and some fields of config.json changed."""

    def save(changed=None, **fields):
        tensors = {name: value for name, value in (tiny_tensors | (changed or {})).items() if value is not None}
        save_file(tensors, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(TINY | fields))
        return tmp_path

    return save
