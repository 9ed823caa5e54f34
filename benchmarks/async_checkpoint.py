"""async_checkpoint: for how long a save in the background holds up the loop, against a save that is waited for.

The state is that of AdamW over 100 million float32 parameters (with both moments 300 million numbers, 1.2 GB) in 100
matrices. A stand-in for a training step rewrites all of it in place, as a training does.

The loop is held up for as long as `Checkpoints.save` takes, and for as long as the step after it takes beyond a quiet
one: what a save leaves undone, that step would have to do. This is divided by the time until all is on disk, `save` and
`wait` together. The first save, which sets memory aside, is measured by neither. What the writing takes from the steps
beside it is left to the benchmark `checkpoints`.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import Result, side_by_side
from trainers.run.checkpoints import Checkpoint, Checkpoints
from trainers.step.state import TrainState

TARGET = 0.15
_MATRICES = 100
_WIDTH = 1000
_STEPS = 5
_ROUNDS = 5


def run(options: argparse.Namespace) -> list[Result]:
    """One result."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        saves = _Saves(folder)
        saves.waited_for()
        result = side_by_side(
            "async_checkpoint",
            saves.in_background,
            saves.waited_for,
            rounds=_ROUNDS,
            target=TARGET,
            at_least=False,
            divided=f"seconds, {_MATRICES * _WIDTH**2 / 1e6:.0f} million parameters with AdamW's moments: "
            "the loop held up by a save in the background / a save waited for",
            unit="s",
        )
        saves.close()
    return [result]


class _Saves:
    """A state that takes steps, and two ways to save it."""

    def __init__(self, folder: str):
        self._checkpoints = Checkpoints(folder)
        self._state = jax.jit(_first_state)()
        self._step = jax.jit(_step, donate_argnums=0)
        self._timed_step()

    def in_background(self) -> float:
        """Seconds for which the loop is held up."""
        quiet = statistics.median(self._timed_step() for _ in range(_STEPS))
        held_up = self._timed(self._save)
        held_up += self._timed_step() - quiet
        self._checkpoints.wait()
        return held_up

    def waited_for(self) -> float:
        """Seconds until all is on disk."""

        def save() -> None:
            self._save()
            self._checkpoints.wait()

        self._timed_step()
        return self._timed(save)

    def close(self) -> None:
        """Lets go of the folder."""
        self._checkpoints.close()

    def _timed_step(self) -> float:
        def step() -> None:
            self._state = jax.block_until_ready(self._step(self._state))

        return self._timed(step)

    def _save(self) -> None:
        self._checkpoints.save(
            Checkpoint(state=self._state, running={"loss": (jnp.float32(0), jnp.float32(0))}, best=None, fingerprint="")
        )

    def _timed(self, action: Callable[[], None]) -> float:
        began = time.perf_counter()
        action()
        return time.perf_counter() - began


def _first_state() -> TrainState:
    keys = jax.random.split(jax.random.key(0), _MATRICES)
    params = {f"matrix_{i}": jax.random.normal(key, (_WIDTH, _WIDTH)) for i, key in enumerate(keys)}
    moments = optax.tree.zeros_like(params)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        model_state={},
        opt_state=optax.ScaleByAdamState(count=jnp.int32(0), mu=jax.tree.map(jnp.copy, params), nu=moments),
        hyperparameters={},
        key=jax.random.key(0),
        ema={},
        preprocessing={},
        skipped=jnp.int32(0),
    )


def _step(state: TrainState) -> TrainState:
    def change(array: jax.Array) -> jax.Array:
        return array * 0.999 + 0.001

    opt_state = state.opt_state._replace(mu=jax.tree.map(change, state.opt_state.mu))
    opt_state = opt_state._replace(nu=jax.tree.map(change, state.opt_state.nu))
    return dataclasses.replace(
        state, step=state.step + 1, params=jax.tree.map(change, state.params), opt_state=opt_state
    )
