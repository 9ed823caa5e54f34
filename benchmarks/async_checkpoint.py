"""async_checkpoint: how long a background save blocks the training loop, relative to a synchronous save.

The state is that of AdamW with 100 million float32 parameters (300 million numbers with both moments, 1.2 GB) in 100
matrices. A stand-in for a training step rewrites all of it in place, as training does.

The blocking time is the duration of `Checkpoints.save` plus the extra duration of the next step over an undisturbed
step, because work that a save leaves undone delays that step. It is divided by the time until all data are on disk,
`save` and `wait` together. The first save, which allocates memory, is not measured. The benchmark `checkpoints`
measures how much the background writing slows other steps.
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

from benchmarks.measure import Result, compare
from trainers.run.checkpoints import Checkpoint, Checkpoints
from trainers.step.state import TrainState

TARGET = 0.15
_MATRICES = 100
_WIDTH = 1000
_STEPS = 5
_ROUNDS = 5


def run(options: argparse.Namespace) -> list[Result]:
    """Returns one result."""
    del options
    with tempfile.TemporaryDirectory() as folder:
        saves = _Saves(folder)
        saves.save_synchronously()
        result = compare(
            "async_checkpoint",
            saves.save_in_background,
            saves.save_synchronously,
            rounds=_ROUNDS,
            target=TARGET,
            at_least=False,
            comparison=f"seconds, {_MATRICES * _WIDTH**2 / 1e6:.0f} million parameters with AdamW's moments: "
            "the loop blocked by a background save / a synchronous save",
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

    def save_in_background(self) -> float:
        """Seconds for which a background save blocks the loop."""
        quiet = statistics.median(self._timed_step() for _ in range(_STEPS))
        blocked = self._timed(self._save)
        blocked += self._timed_step() - quiet
        self._checkpoints.wait()
        return blocked

    def save_synchronously(self) -> float:
        """Seconds until a synchronous save is on disk."""

        def save() -> None:
            self._save()
            self._checkpoints.wait()

        self._timed_step()
        return self._timed(save)

    def close(self) -> None:
        """Closes the checkpoint folder."""
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
