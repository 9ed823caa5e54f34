"""Trainings that begin with what another run came to."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_iris

from configs import defaults
from data.pool import load_pool
from models import pretrained
from plumbline import UserError
from tests.conftest import IRIS
from trainers.populations.population import Member, train_population
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override

FIXTURES = pathlib.Path(__file__).parents[2] / "references" / "fixtures"
FIELDS = IRIS | {"population.mode": "loop", "population.lanes": 1}


def config_of(**changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return override(defaults.get_config(), FIELDS | changes)


def trained(workdir, **changes):
    return train(config_of(**changes), workdir, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run on three classes of iris flowers."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    trained(workdir)
    return workdir


def table_of(folder, classes):
    """A table with the same columns and the given number of classes, under other names."""
    rows = zip(*load_iris(return_X_y=True), strict=True)
    lines = [",".join([*map(str, row), classes[label]]) for row, label in rows if label < len(classes)]
    (folder / f"{classes}.csv").write_text("\n".join(["a,b,c,d,label", *lines]) + "\n")
    return {"data__source": f"csv:{folder / classes}.csv", "data__target": "label"}


@pytest.fixture
def two_classes(tmp_path):
    """A table with the same columns and two classes."""
    return table_of(tmp_path, "ab")


@pytest.mark.slow
def test_a_start_is_laid_over_fresh_values(make_training, assert_trees_equal):
    training = make_training(model__name="resnet", model__resnet__width=4, train__ema_decay=0.9)
    kernel = np.full((3, 3, 1, 4), 0.5, np.float32)
    start = {
        "params": {"stem": {"conv": {"kernel": kernel}}},
        "model_state": {"stem": {"norm": {"mean": np.ones(4, np.float32)}}},
    }
    fresh, values = training.state, training.state.hyperparameters
    state = jax.jit(training.init)(jnp.uint32(0), values, fresh.preprocessing, start)
    for tree in (state.params, state.ema):
        np.testing.assert_array_equal(tree["stem"]["conv"]["kernel"], kernel)
    np.testing.assert_array_equal(state.model_state["stem"]["norm"]["mean"], np.ones(4))
    np.testing.assert_array_equal(state.model_state["stem"]["norm"]["var"], np.ones(4))
    # Two programs draw the fresh values, and XLA may round them differently on some processors.
    assert_trees_equal(state.params["stages"], fresh.params["stages"], rtol=1e-6)
    assert_trees_equal(state.params["head"], fresh.params["head"], rtol=1e-6)


def test_a_run_begins_with_the_best_parameters_of_its_source(tmp_path, source, assert_trees_equal):
    # So slow that nothing moves.
    trained(tmp_path / "run", transfer__source=str(source), optimizer__learning_rate=1e-30)
    found = FinishedRun(tmp_path / "run", checkpoint="last").state.params
    assert_trees_equal(found, FinishedRun(source).state.params, atol=1e-20)


def test_another_number_of_classes_begins_with_a_new_head_and_the_rest_of_the_source(
    tmp_path, capsys, source, two_classes, assert_trees_equal
):
    trained(tmp_path / "run", transfer__source=str(source), optimizer__learning_rate=1e-30, **two_classes)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("transfer.source")]
    assert len(said) == 1
    assert said[0].startswith("transfer.source: Plumbline or Orbax checkpoint: 112 numbers in 4 parameters loaded")
    assert "fresh: head/bias, head/kernel" in said[0]
    table = " ".join((tmp_path / "run" / "transfer.txt").read_text(encoding="utf-8").split())
    assert f"from {source}, step " in table
    assert "head/kernel" in table
    found, expected = (FinishedRun(path, checkpoint="best").state.params for path in (tmp_path / "run", source))
    assert found["head"]["kernel"].shape == (8, 2)
    assert_trees_equal(found["hidden"], expected["hidden"], atol=1e-20)


def test_as_many_other_classes_begin_with_a_new_head(tmp_path, capsys, source):
    trained(tmp_path / "run", transfer__source=str(source), **table_of(tmp_path, "abc"))
    assert "112 numbers in 4 parameters loaded (float32); fresh: head/bias, head/kernel" in capsys.readouterr().err


def test_a_run_that_goes_on_or_answers_needs_no_source(tmp_path, source):
    copy, workdir = tmp_path / "source", tmp_path / "run"
    shutil.copytree(source, copy)
    whole = trained(workdir, transfer__source=str(copy))
    shutil.rmtree(copy)
    shutil.rmtree(workdir / "checkpoints" / "30")
    (workdir / "status.json").write_text(json.dumps({"status": "preempted", "step": 20, "reason": ""}))
    again = trained(workdir, transfer__source=str(copy))
    assert again["metrics"]["test"] == whole["metrics"]["test"]
    assert FinishedRun(workdir).evaluate("test")["accuracy"] == whole["metrics"]["test"]["accuracy"]


def test_a_member_that_begins_with_a_source_equals_its_run_alone(tmp_path, source, two_classes):
    config = config_of(transfer__source=str(source), **two_classes)
    pool = load_pool(config.data, seed=0)
    parts = pool.splits
    rows = {"train": parts["train"], "validation": parts["validation"], "held_out": parts["test"]}
    members = [Member(name=f"{seed}", overrides={}, seed=seed, **rows) for seed in (1, 0)]
    outcome = train_population(config, pool, members, devices=jax.devices()[:1], progress=False)["0"]
    summary = train(config, tmp_path / "run", devices=jax.devices()[:1])
    lines = [line for line in RunDirectory(tmp_path / "run").metrics() if line["split"] == "validation"]
    assert [entry["loss"] for entry in outcome.history] == [line["loss"] for line in lines]
    assert outcome.metrics == summary["metrics"]["test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer__source": "/no/such"}, "transfer.source: no such file or directory '/no/such'; give a run"),
        (
            {"model__mlp__hidden_sizes": (8, 9)},
            r"has the shape \(8,\), which cannot become hidden/1/bias of the shape \(9,\)",
        ),
        ({"model__mlp__hidden_sizes": (8, 8, 8)}, "lacks 'hidden/2/bias', 'hidden/2/kernel'; .*transfer.allow"),
        ({"model__mlp__hidden_sizes": (8,)}, "has 'hidden/1/bias', 'hidden/1/kernel', which the model does not have"),
        ({"transfer__allow": ("hiden",)}, "transfer.allow: 'hiden' matches no parameter"),
    ],
)
def test_a_source_that_does_not_fit_is_an_error_and_nothing_is_written(tmp_path, source, changes, message):
    with pytest.raises(UserError, match=message):
        trained(tmp_path / "run", **{"transfer__source": str(source), **changes})
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"transfer\.source: no weights in"):
        trained(tmp_path / "run", transfer__source=str(tmp_path))


@pytest.mark.slow
def test_what_the_source_may_lack_begins_anew(tmp_path, source):
    more = {"model__mlp__hidden_sizes": (8, 8, 8), "transfer__allow": ("hidden/2",)}
    trained(tmp_path / "run", transfer__source=str(source), optimizer__learning_rate=1e-30, **more)
    found = FinishedRun(tmp_path / "run").state.params
    expected = FinishedRun(source).state.params
    np.testing.assert_allclose(found["hidden"][1]["kernel"], expected["hidden"][1]["kernel"], atol=1e-20)
    assert np.abs(found["hidden"][2]["kernel"]).max() > 0


@pytest.fixture
def pictures(tmp_path):
    """A folder of small pictures of two classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name, low in (("dark", 0), ("light", 128)):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(low, low + 128, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


@pytest.mark.slow
def test_the_model_of_a_source_is_taken_over_and_fine_tuned(tmp_path, pictures):
    copy, workdir = tmp_path / "weights", tmp_path / "run"
    shutil.copytree(FIXTURES / "hf_vit", copy)
    fields = {
        "data__source": f"folder:{pictures}",
        "data__validation": "none",
        "model__name": "pretrained",
        "transfer__source": str(copy),
        "transfer__freeze": ("^embedding/",),
        "train__duration": "20 steps",
        "train__batch_size": 8,
    }
    trained(workdir, **fields)
    config, run = RunDirectory(workdir).config(), FinishedRun(workdir)
    expected = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    assert (config.model.name, config.model.vit.width) == ("vit", expected["hidden_size"])
    assert config.data.image_size == expected["image_size"]
    start, _ = pretrained.load(str(copy), run.program.model(run.program.params, run.program.model_state))
    np.testing.assert_array_equal(run.state.params["embedding"]["kernel"], start["params"]["embedding"]["kernel"])
    assert run.state.params["head"]["kernel"].shape == (expected["hidden_size"], 2)

    shutil.rmtree(copy)
    shutil.rmtree(workdir / "checkpoints" / "20")
    (workdir / "status.json").write_text(json.dumps({"status": "preempted", "step": 10, "reason": ""}))
    assert trained(workdir, **fields)["status"] == "done"


def test_the_model_of_a_run_is_taken_over_as_well(tmp_path, source, two_classes):
    fields = {"model__name": "pretrained", "model__mlp__hidden_sizes": (3,), "optimizer__learning_rate": 1e-30}
    trained(tmp_path / "run", transfer__source=str(source), **fields, **two_classes)
    config = RunDirectory(tmp_path / "run").config()
    assert (config.model.name, config.model.mlp.hidden_sizes) == ("mlp", (8, 8))
    found, expected = (FinishedRun(path).state.params["hidden"] for path in (tmp_path / "run", source))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-20), found, expected)


def test_a_run_without_a_checkpoint_is_no_source(tmp_path, source):
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").mkdir()
    with pytest.raises(
        UserError, match=r"^transfer\.source: '.*source' has no checkpoint; the run is done, and none was"
    ):
        trained(tmp_path / "run", transfer__source=str(copy))


def test_a_pretrained_model_without_a_source_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"model\.name: .pretrained. is the model of transfer\.source, which"):
        trained(tmp_path / "run", model__name="pretrained")
