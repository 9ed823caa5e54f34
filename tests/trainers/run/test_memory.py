"""Resident memory of a long run."""

import ctypes
import gc

import jax
import psutil
import pytest

from configs import digits_linear
from trainers.run import steps
from trainers.run.loop import train

EVALUATIONS, CHECKPOINTS, WARM_UP = 1400, 70, 400
# One state is 0.9 MiB. TensorStore 0.1.86 itself keeps up to 0.2 MiB for each save, of any size, and buffers settle.
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
        if at.step in (WARM_UP, EVALUATIONS):
            outputs.checkpoints.wait()
            gc.collect()
            # What the allocator keeps for later is no leak.
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            sizes[at.step] = psutil.Process().memory_info().rss
        return at

    monkeypatch.setattr(steps, "handle_events", handle_and_measure)
    train(config, tmp_path, devices=jax.devices()[:1])
    assert sizes[EVALUATIONS] - sizes[WARM_UP] < ALLOWED_BYTES, sizes
