"""Statistics of batch norms for averaged parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits_resnet
from data import preprocessing
from plumbline import UserError
from trainers import settings
from trainers.populations.members import check_possible
from trainers.run import batch_statistics
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.run.run_state import Run

CONFIG = settings.override(
    digits_resnet.get_config(),
    {
        "data.examples_per_class": 20,
        "augment.shift": 0,
        "model.resnet.depth": 18,
        "model.resnet.width": 2,
        "model.resnet.norm": "batch",
        "model.dropout": 0.0,
        "model.stochastic_depth": 0.0,
        "train.duration": "6 steps",
        "train.evaluate_every": "3 steps",
        "train.batch_size": 32,
        "train.ema_decay": 0.5,
        "train.recompute_statistics": True,
        "train.tensorboard": False,
        "execution.mode": "loop",
    },
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The `Run` object, its summary, and what `plumbline evaluate` reads of it."""
    runs, recompute = [], batch_statistics.recompute

    def note(run, state):
        runs.append((run, state))
        return recompute(run, state)

    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_statistics, "recompute", note)
        summary = train(CONFIG, path, devices=jax.devices()[:1])
    ((run, before),) = runs
    return run, before, summary, FinishedRun(path)


@pytest.mark.slow
def test_the_statistics_are_those_of_the_averaged_parameters(finished):
    run, before, summary, saved = finished
    assert isinstance(run, Run)
    split = run.dataset.splits["train"]
    size = CONFIG.train.batch_size
    order = np.concatenate([_batches(run).read(step)["index"] for step in range(len(split) // size)])
    assert len(set(order.tolist())) == len(order)
    rows = np.flatnonzero(np.isin(split.rows, order))
    inputs = preprocessing.apply(before.preprocessing, run.training.program.features, jnp.asarray(split.read(rows)))
    stem = np.asarray(
        jax.lax.conv_general_dilated(
            inputs,
            before.params["stem"]["conv"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        np.float64,
    )
    statistics = saved.state.model_state["stem"]["norm"]
    np.testing.assert_allclose(statistics["mean"], stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], stem.var((0, 1, 2)), rtol=1e-4)
    # They are stored, and were used for the summary.
    assert summary["metrics"]["test"] == pytest.approx(saved.evaluate("test"), abs=1e-6)
    assert not np.allclose(before.model_state["stem"]["norm"]["mean"], statistics["mean"], rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, before.params, saved.state.params)


def test_it_is_for_single_runs_with_an_average():
    with pytest.raises(UserError, match=r"^train.recompute_statistics: is for averaged parameters"):
        settings.check(settings.override(CONFIG, {"train.ema_decay": 0.0}))
    with pytest.raises(UserError, match=r"^train.recompute_statistics: is for `plumbline train`"):
        check_possible(CONFIG)
    assert not settings.FIELDS["train.recompute_statistics"].default


def _batches(run):
    return batch_statistics.TrainBatches(
        run.dataset.splits["train"], batch_size=CONFIG.train.batch_size, seed=CONFIG.seed
    )
