import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from plumbline import UserError
from trainers.durations import Clock
from trainers.step import schedules

CLOCK = Clock(num_examples=100, batch_size=10, total_steps=100)


def shares(**fields) -> np.ndarray:
    config = defaults.get_config().schedule
    config.update(fields)
    schedule, lengths = schedules.build(config), schedules.lengths(config, CLOCK)
    return np.array([float(schedule(jnp.float32(step), lengths)) for step in range(100)])


def truth(name: str, warmup: int) -> np.ndarray:
    step = np.arange(100)
    share = (step - warmup) / (100 - warmup)
    main = {
        "constant": np.ones(100),
        "cosine": 0.1 + 0.9 * (1 + np.cos(np.pi * share)) / 2,
        "linear": 1 - 0.9 * share,
        "step": np.where(step < 50, 1.0, np.where(step < 75, 0.5, 0.25)),
        "rsqrt": 1 / np.sqrt(1 + np.maximum(step - warmup, 0) / 20),
    }[name]
    return np.where(step < warmup, step / max(1, warmup), main)


@pytest.mark.parametrize("warmup", [0, 20])
@pytest.mark.parametrize("name", schedules.NAMES)
def test_each_schedule_follows_its_formula(name, warmup):
    # Steps 50 and 75 are named in three units: a schedule counts from the start of the training, not of its own part.
    fields = {"end": 0.1, "step_at": ("5 epochs", "75 percent"), "step_factor": 0.5, "rsqrt_timescale": "200 examples"}
    got = shares(name=name, warmup=f"{warmup} steps", **fields)
    np.testing.assert_allclose(got, truth(name, warmup), atol=1e-6)


@pytest.mark.parametrize("warmup", ["20 steps", "2 epochs", "200 examples", "20 percent"])
def test_the_warmup_takes_every_unit(warmup):
    np.testing.assert_allclose(shares(name="cosine", warmup=warmup, end=0.1), truth("cosine", 20), atol=1e-6)


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(UserError, match=r"schedule.name: .*did you mean 'cosine'"):
        shares(name="cosin")


def test_a_warmup_longer_than_the_training_is_an_error():
    with pytest.raises(UserError, match=r"schedule.warmup: '200 steps' is 200 steps, but the whole training has 100"):
        shares(warmup="200 steps")


def test_a_schedule_with_no_steps_down_is_constant():
    np.testing.assert_array_equal(shares(name="step", warmup="", step_at=()), np.ones(100))
