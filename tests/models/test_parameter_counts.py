"""Sizes published elsewhere: torchvision for residual networks, timm for the others (224 px, 1000 classes).

Those of texts are of transformers, without a head: BERT and MiniLM with the pooler, DistilBERT and GPT-2.
"""

import jax
import pytest
from flax import nnx

IMAGENET = {"input_shape": (224, 224, 3), "num_outputs": 1000}


def count_parameters(make):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(make), nnx.Param)))


@pytest.mark.parametrize(
    ("depth", "published"),
    # The first is ResNet-18 without the second block of each stage.
    [(10, 5_418_792), (18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)],
)
def test_resnets_have_the_parameters_of_torchvision(make_model, depth, published):
    assert count_parameters(lambda: make_model("resnet", depth=depth, **IMAGENET)) == published


@pytest.mark.parametrize(
    ("variant", "patch_size", "published"),
    [
        ("Ti", 16, 5_717_416),
        ("S", 16, 22_050_664),
        ("B", 16, 86_567_656),
        ("L", 16, 304_326_632),
        ("H", 14, 632_045_800),
    ],
)
def test_vision_transformers_have_the_parameters_of_timm(make_model, variant, patch_size, published):
    def make():
        return make_model("vit", variant=variant, patch_size=patch_size, **IMAGENET)

    assert count_parameters(make) == published


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "published"), [("T", 28_589_128), ("S", 50_223_688), ("B", 88_591_464), ("L", 197_767_336)]
)
def test_convnexts_have_the_parameters_of_timm(make_model, variant, published):
    assert count_parameters(lambda: make_model("convnext", variant=variant, **IMAGENET)) == published


BASE = {"width": 768, "depth": 12, "heads": 12, "mlp_size": 3072}


@pytest.mark.parametrize(
    ("name", "fields", "published"),
    [
        ("bert", BASE | {"vocabulary": 30522, "max_length": 512, "segments": 2}, 109_482_240),
        (
            "bert",
            {"width": 384, "depth": 6, "heads": 12, "mlp_size": 1536}
            | {"vocabulary": 30522, "max_length": 512, "segments": 2},
            22_713_216,
        ),
        ("bert", BASE | {"depth": 6, "vocabulary": 30522, "max_length": 512, "pooler": "none"}, 66_362_880),
        ("gpt", BASE | {"vocabulary": 50257, "max_length": 1024}, 124_439_808),
    ],
)
def test_models_of_texts_have_the_parameters_of_transformers(make_model, name, fields, published):
    pooling = "token" if name == "bert" else "last"
    sizes = {"input_shape": (128,), "categories": (fields["vocabulary"],), "num_outputs": 3, "pooling": pooling}
    head = 3 * fields["width"] + 3
    assert count_parameters(lambda: make_model(name, **sizes, **fields)) == published + head
