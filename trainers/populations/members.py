"""The members of a population: what each trains on and with, what became of it, and which can share a program."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from plumbline import UserError
from trainers import settings

_NO_ROWS = np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One training of a population.

    Attributes:
      name: unique in its population.
      overrides: config path -> value, where it differs from the population's config.
      seed: `config.seed` of this training.
      train: (n,) int64, positions in the pool that it trains on.
      held_out: (m,) int64, positions that it is judged on; may be empty.
      validation: (v,) int64, positions that choose its best step, as the validation split of a single run does; if
        empty, the last step counts as the best.
    """

    name: str
    overrides: Mapping[str, Any]
    seed: int
    train: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray = dataclasses.field(default_factory=lambda: _NO_ROWS)

    def digest(self) -> str:
        """Of all that its training depends on, but the population's config and pool."""
        digest = hashlib.sha256(
            json.dumps([sorted(self.overrides.items()), self.seed], default=lambda number: number.item()).encode()
        )
        for rows in (self.train, self.held_out, self.validation):
            digest.update(len(rows).to_bytes(8, "little") + np.ascontiguousarray(rows, np.int64).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(kw_only=True, eq=False)
class Outcome:
    """What became of a member.

    Attributes:
      name: the member's.
      status: "done", "diverged", or "paused": stopped where it was asked to.
      step: steps taken.
      total_steps: of its whole training.
      best_step: of the parameters that `metrics` are of.
      metrics: on the rows held out, as `Objective.metrics` names them; empty for a diverged member.
      history: the overall metrics at each evaluation and the `step`: on the validation rows, or else those held out.
      parameters: how many numbers the model's parameters hold.
      predictions: (m, outputs) probabilities or values for the rows held out, if they were asked for.
    """

    name: str
    status: str
    step: int
    total_steps: int
    best_step: int
    metrics: dict[str, float]
    history: list[dict[str, float]]
    parameters: int
    predictions: np.ndarray | None = None


def check_shared(overrides: Mapping[str, Any]) -> None:
    """Checks that only fields are overridden which members may differ in.

    Raises:
      UserError: one is the same for all members.
    """
    for path in overrides:
        if path in settings.FIELDS and settings.FIELDS[path].instead:
            raise UserError(f"{path}: is the same for all trainings of a population; {settings.FIELDS[path].instead}")


def check_possible(config: ml_collections.ConfigDict) -> None:
    """Checks that nothing is asked for that only runs of their own do.

    Raises:
      UserError: something is.
    """
    values = settings.fields(config)
    for path, field in settings.FIELDS.items():
        if field.runs_only and values[path] != field.default:
            raise UserError(f"{path}: is for experiments.train, not for populations; {field.runs_only}")


def program_key(config: ml_collections.ConfigDict) -> str:
    """The same for configs that one compiled program serves: all of a config that is no data of it."""
    parts = {
        path: settings.FIELDS[path].program if path in settings.FIELDS else lambda value: value
        for path in settings.used_fields(config)
    }
    values = settings.fields(config)
    return json.dumps({path: part(values[path]) for path, part in parts.items() if part is not None}, default=list)
