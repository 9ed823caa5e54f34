"""Plain Orbax checkpoints as sources."""

import gc

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from configs.defaults import get_config
from models import build, pretrained
from plumbline import UserError

VIT = {"patch_size": 4, "width": 8, "depth": 2, "heads": 2, "mlp_size": 12}


def make(name, shape, num_outputs=3, seed=0, **fields):
    options = get_config().model
    options.name = name
    options[name].update(fields)
    return build(options, input_shape=shape, categories=(), num_outputs=num_outputs, key=jax.random.key(seed))


def trees(model):
    return {
        "params": nnx.to_pure_dict(nnx.state(model, nnx.Param)),
        "model_state": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
    }


def save(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_the_newest_of_numbered_checkpoints_is_taken(tmp_path):
    for step in (5, 20):
        save(tmp_path / str(step) / "default", trees(make("linear", (4,), seed=step)))
    start, report = pretrained.load(str(tmp_path), make("linear", (4,)))
    assert_equal(start["params"], trees(make("linear", (4,), seed=20))["params"])
    assert report.source == str(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("with_statistics", [True, False])
def test_a_plain_checkpoint_gives_parameters_and_statistics(tmp_path, with_statistics):
    saved = trees(make("resnet", (8, 8, 3), width=4, seed=1))
    save(tmp_path / "plain", saved if with_statistics else saved["params"])
    model = nnx.eval_shape(lambda: make("resnet", (8, 8, 3), width=4))
    if with_statistics:
        start, _ = pretrained.load(str(tmp_path / "plain"), model)
        assert_equal(start, saved)
    else:
        with pytest.raises(UserError, match="lacks 'stages/0/0/norm1/mean'"):
            pretrained.load(str(tmp_path / "plain"), model)
        start, report = pretrained.load(str(tmp_path / "plain"), model, allow=["/(mean|var)$"])
        assert_equal(start["params"], saved["params"])
        assert {each.path.split("/")[-1] for each in report.fresh} == {"mean", "var"}


def test_a_transformer_for_another_image_size_gets_resized_positions(tmp_path):
    save(tmp_path / "plain", trees(make("vit", (8, 8, 3), **VIT))["params"])
    start, report = pretrained.load(str(tmp_path / "plain"), nnx.eval_shape(lambda: make("vit", (12, 16, 3), **VIT)))
    assert start["params"]["positions"].shape == (1 + 3 * 4, 8)
    assert [each.resized for each in report.resized] == ["2x2 to 3x4 patches (bicubic, antialiased)"]


def test_a_grid_that_is_not_square_comes_back_as_it_was(tmp_path):
    saved = trees(make("vit", (4, 16, 3), **VIT))["params"]
    save(tmp_path / "plain", saved)
    start, report = pretrained.load(str(tmp_path / "plain"), nnx.eval_shape(lambda: make("vit", (4, 16, 3), **VIT)))
    assert_equal(start["params"], saved)
    assert not report.resized


def test_bfloat16_comes_out_as_float32(tmp_path):
    saved = trees(make("linear", (4,)))["params"]
    half = jax.tree.map(lambda leaf: (leaf + 0.3).astype("bfloat16"), saved)
    save(tmp_path / "plain", half)
    start, report = pretrained.load(str(tmp_path / "plain"), make("linear", (4,)))
    assert {each.dtype for each in report.loaded} == {"bfloat16"}
    assert_equal(start["params"], jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), half))


def test_checkpoints_of_a_run_are_not_taken_for_plain_ones(quick_run):
    with pytest.raises(UserError, match="checkpoints' is inside a run directory; give the run directory"):
        pretrained.load(str(quick_run / "checkpoints"), make("linear", (4,)))


# What Orbax leaves half done is collected here, rather than in a later test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kept", [0, 50])
def test_a_damaged_checkpoint_is_refused(tmp_path, caplog, kept):
    save(tmp_path / "plain", trees(make("linear", (4,)))["params"])
    for file in (tmp_path / "plain").rglob("*"):
        if file.is_file() and "METADATA" not in file.name:
            file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="cannot read the checkpoint") as error:
        pretrained.load(str(tmp_path / "plain"), make("linear", (4,)))
    assert "\n" not in str(error.value)
    assert not caplog.records
    del error
    gc.collect()


def test_a_plain_checkpoint_does_not_say_which_model_it_is(tmp_path):
    save(tmp_path / "plain", trees(make("linear", (4,)))["params"])
    with pytest.raises(UserError, match="describes the model; give the run directory, or name the model"):
        pretrained.architecture(str(tmp_path / "plain"))
