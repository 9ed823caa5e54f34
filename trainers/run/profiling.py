"""A trace of some steps, for TensorBoard and Perfetto."""

import os
import pathlib
from collections.abc import Callable

import jax
import ml_collections

from plumbline import UserError


def check(config: ml_collections.ConfigDict, total_steps: int) -> None:
    """Checks that the steps to trace are part of the training.

    Args:
      config: the `train.profile` section.
      total_steps: of the training.

    Raises:
      UserError: they are not.
    """
    if config.steps and config.start >= total_steps:
        raise UserError(f"train.profile.start: {config.start} is not reached in {total_steps} steps; lower it")


class Profile:
    """Traces the steps of `train.profile`. Each process writes into a folder of its own and waits for no other process.

    Args:
      config: the `train.profile` section.
      folder: of TensorBoard; also gets the trace as `perfetto_trace.json.gz`.
      step: where the run begins or resumes; steps before it are not traced again.
    """

    def __init__(self, config: ml_collections.ConfigDict, folder: str | os.PathLike, step: int):
        many = jax.process_count() > 1
        self._folder = pathlib.Path(folder) / (f"process_{jax.process_index()}" if many else "")
        self._wanted = config.steps > 0 and step < config.start + config.steps
        self._start, self._steps, self._until = config.start, config.steps, None

    def step(self, step: int, drain: Callable[[], None]) -> None:
        """Begins or ends the trace if it is due.

        Args:
          step: steps taken.
          drain: waits for the steps in flight, so that the trace holds exactly the requested steps.
        """
        if self._wanted and step >= self._start:
            drain()
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._wanted, self._until = False, step + self._steps
        elif self._until is not None and step >= self._until:
            drain()
            self.close()

    def close(self) -> None:
        """Ends and writes the trace, if one is running."""
        if self._until is not None:
            self._until = None
            jax.profiler.stop_trace()
