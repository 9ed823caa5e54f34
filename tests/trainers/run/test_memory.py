"""Resident memory of a long run."""

import gc

import jax
import psutil
import pytest

from configs import digits_linear
from trainers.run import steps
from trainers.run.loop import train

EVALUATIONS, CHECKPOINTS, WARM_UP = 1200, 60, 200
# One state is 0.9 MiB. TensorStore 0.1.84 itself keeps about 0.2 MiB for each save, of any size.
ALLOWED_BYTES = 20 * 2**20


@pytest.mark.slow
def test_memory_stays_flat_over_checkpoints_and_evaluations(tmp_path, monkeypatch):
    config = digits_linear.get_config()
    config.update_from_flattened_dict(
        {
            "model.name": "mlp",
            "model.mlp.hidden_sizes": (1024,),
            "train.duration": f"{EVALUATIONS} steps",
            "train.log_every": "20 steps",
            "train.evaluate_every": "1 steps",
            "train.checkpoint_every": f"{EVALUATIONS // CHECKPOINTS} steps",
            "train.tensorboard": False,
            "execution.mode": "loop",
        }
    )
    sizes, handle = {}, steps.handle_events

    def handle_and_measure(run, outputs, at):
        at = handle(run, outputs, at)
        if at.step % WARM_UP == 0:
            outputs.checkpoints.wait()
            gc.collect()
            sizes[at.step] = psutil.Process().memory_info().rss
        return at

    monkeypatch.setattr(steps, "handle_events", handle_and_measure)
    train(config, tmp_path, devices=jax.devices()[:1])
    assert set(sizes) == set(range(WARM_UP, EVALUATIONS + 1, WARM_UP))
    assert sizes[EVALUATIONS] - sizes[WARM_UP] < ALLOWED_BYTES, sizes
