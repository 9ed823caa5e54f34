"""A run saved on eight devices resumes on fewer, or on another mesh: same arrays, same batches."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import digits_mlp
from data import load
from data.batches import TrainBatches
from trainers.run import resume
from trainers.run.directory import RunDirectory
from trainers.run.loop import train


def config_of(data=-1, fsdp=1, tensor=1, **fields):
    config = digits_mlp.get_config()
    config.update_from_flattened_dict(
        {
            "model.mlp.hidden_sizes": (32, 32),
            "model.dropout": 0.1,
            "augment.shift": 1,
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.05,
            "train.batch_size": 64,
            "train.duration": "20 steps",
            "train.log_every": "1 steps",
            "train.evaluate_every": "10 steps",
            "train.checkpoint_every": "10 steps",
            "train.tensorboard": False,
            "parallel.fsdp_min_size": 64,
            "mesh.data": data,
            "mesh.fsdp": fsdp,
            "mesh.tensor": tensor,
            **fields,
        }
    )
    return config


def losses(workdir):
    return np.array([line["loss"] for line in RunDirectory(workdir).metrics() if line["split"] == "train"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run over eight devices, finished, and what it was after step 10."""
    whole, half = (tmp_path_factory.mktemp("elastic") / name for name in ("whole", "half"))
    train(config_of(data=1, fsdp=8), whole)
    shutil.copytree(whole, half)
    shutil.rmtree(half / "checkpoints" / "20")
    (half / "status.json").unlink()
    (half / "summary.json").unlink()
    return whole, half


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "mesh"),
    [
        (8, {"fsdp": 1}),
        (8, {"fsdp": 2, "tensor": 2}),
        (4, {"fsdp": 4}),
        (4, {"fsdp": 1, "tensor": 4}),
        (2, {"fsdp": 2}),
        (1, {}),
        (8, {"parallel.mode": "pmap"}),
    ],
)
def test_a_run_goes_on_over_other_devices_as_it_would_have(saved, tmp_path, monkeypatch, devices, mesh):
    whole, half = saved
    shutil.copytree(half, tmp_path / "run")
    restored, batches = {}, []
    start_from, read = resume.start_from, TrainBatches.read

    def remember_state(*arguments):
        at = start_from(*arguments)
        restored.update(jax.device_get(at.state.params["hidden"]))
        return at

    def remember_batch(self, step, count=None):
        batch = read(self, step, count)
        batches.append((step, batch["index"].copy()))
        return batch

    monkeypatch.setattr(resume, "start_from", remember_state)
    monkeypatch.setattr(TrainBatches, "read", remember_batch)
    summary = train(config_of(**mesh), tmp_path / "run", devices=jax.devices()[:devices])
    assert summary["step"] == 20
    assert len(summary["devices"]) == devices
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole), rtol=0, atol=1e-5)
    # What was restored is what one device restores, to the bit; the batches are those that come next.
    assert [step for step, _ in batches] == list(range(10, 20))
    for layer, reference in saved_parameters(half)["hidden"].items():
        jax.tree.map(np.testing.assert_array_equal, restored[int(layer)], dict(reference))
    expected = load(config_of().data, seed=0).splits["train"]
    for step, index in batches:
        again = TrainBatches(expected, batch_size=64, seed=0)
        np.testing.assert_array_equal(read(again, step)["index"], index)


def saved_parameters(half):
    """The parameters of the checkpoint, read by Orbax alone."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        metadata = reader.metadata(half / "checkpoints" / "10" / "state").item_metadata
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one), dict(metadata))
        return reader.restore(half / "checkpoints" / "10" / "state", target)["params"]


def test_the_summary_names_the_mesh_it_ended_on(saved):
    summary = json.loads((saved[0] / "summary.json").read_text())
    assert summary["mesh"] == {"data": 1, "fsdp": 8, "tensor": 1}
    assert summary["processes"] == 1
