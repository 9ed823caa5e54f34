import jax
import jax.numpy as jnp
import numpy as np
import pytest

import data
from data.split import ArrayReader, Split
from plumbline import UserError
from trainers.devices.mesh import data_mesh
from trainers.devices.sharding import state_shardings
from trainers.run.evaluation import evaluation_batch_size, make_evaluate, overall
from trainers.run.inference import FinishedRun


def split_of(training, count):
    return Split(
        labels=training.labels[:count],
        groups=None,
        weights=np.linspace(0.5, 1.5, count, dtype=np.float32),
        rows=np.arange(count),
        reader=ArrayReader(training.inputs, np.arange(count)),
    )


def evaluate_on(devices, training):
    mesh = data_mesh(jax.devices()[:devices])
    shardings = state_shardings(training.program, mesh, training.state).inference()
    return make_evaluate(training.program, mesh, shardings, batch_size=evaluation_batch_size(training.config))


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [8, 64, 104, 256])
def test_metrics_do_not_depend_on_batches_or_devices(make_training, devices, batch_size):
    training = make_training(evaluation__batch_size=batch_size)
    split = split_of(training, 103)
    state = jax.tree.map(lambda leaf: leaf + jnp.full_like(leaf, 0.01), training.state.inference())
    got = evaluate_on(devices, training)(state, split)

    # The truth, without batches: all examples at once, each once.
    model = training.program.model(state.params, state.model_state)
    mean, std = (np.asarray(state.preprocessing[name]) for name in ("mean", "std"))
    inputs = (training.inputs[:103] / np.float32(255) - mean) / std
    logits = np.asarray(model(jnp.asarray(inputs)))
    accuracy = np.average(logits.argmax(-1) == split.labels, weights=split.weights)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss = np.average(-log_p[np.arange(103), split.labels], weights=split.weights)
    assert got["accuracy"] == pytest.approx(accuracy, rel=1e-6)
    assert got["loss"] == pytest.approx(loss, rel=1e-5)


def test_an_evaluation_batch_that_cannot_be_shared_out_is_an_error(make_training):
    with pytest.raises(UserError, match=r"evaluation.batch_size: 12 is not divisible over 8 parts .* multiple of 8"):
        evaluate_on(8, make_training(evaluation__batch_size=12))


def test_overall_leaves_classes_and_groups_out():
    assert overall({"accuracy": 1.0, "accuracy/class/3": 0.5}) == {"accuracy": 1.0}


def test_what_a_run_embeds_is_what_its_head_reads(quick_run):
    run = FinishedRun(quick_run)
    split = data.load(run.config.data, seed=run.config.seed).splits["test"]
    model = run.program.model(run.state.params, run.state.model_state)
    probabilities = jax.nn.softmax(model.apply_head(jnp.asarray(run.embed(split))))
    answers = [list(answer["probabilities"].values()) for answer in run.predict_split("test")]
    np.testing.assert_allclose(probabilities, answers, atol=1e-5)
