"""The members of a population: their rows and overrides, their outcomes, and which of them can share a program."""

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

# Field of a config.
_LAST_IN_KEY = "model.remat"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One training of a population.

    Attributes:
      name: unique in its population.
      overrides: config path -> value, where it differs from the population's config.
      seed: `config.seed` of this training.
      train: (n,) int64, positions in the pool that it trains on.
      held_out: (m,) int64, positions of the rows for its final metrics; may be empty.
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
        """A hash of everything its training depends on, except the config and pool of the population."""
        digest = hashlib.sha256(
            json.dumps([sorted(self.overrides.items()), self.seed], default=lambda number: number.item()).encode()
        )
        for rows in (self.train, self.held_out, self.validation):
            digest.update(len(rows).to_bytes(8, "little") + np.ascontiguousarray(rows, np.int64).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(kw_only=True, eq=False)
class Outcome:
    """The result of a member.

    Attributes:
      name: the member's.
      status: "done", "diverged" or "paused".
      step: steps taken.
      total_steps: of its whole training.
      best_step: step of the parameters that `metrics` belong to.
      metrics: on the held-out rows, as `Objective.metrics` names them; empty for a diverged member.
      history: the overall metrics and the `step` of each evaluation, on the validation rows or else the held-out rows.
      parameters: how many numbers the model's parameters hold.
      predictions: (m, outputs) probabilities or values for the held-out rows, if they were requested.
      training: at each evaluation `step`, the means of `loss`, `gradient_norm` and `learning_rate` over the steps since
        the last one, and how many updates were `skipped` in them; as a run logs them if `train.log_every` equals
        `train.evaluate_every`.
      dead_units: share of the units of each rectified layer that are zero for all of (at most 2,000 of) its training
        rows at its last step, if they were requested; see `trainers.step.dead_units`.
      rollback: `step` it went back to after diverging, and number of `batches` it skipped from there; None if it did
        not diverge, or ended when it did.
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
    training: list[dict[str, float]] = dataclasses.field(default_factory=list)
    dead_units: dict[str, float] | None = None
    rollback: dict[str, int] | None = None


def check_shared(overrides: Mapping[str, Any]) -> None:
    """Checks that members may differ in the fields that are overridden.

    Raises:
      UserError: a field is the same for all members.
    """
    for path in overrides:
        if path in settings.FIELDS and settings.FIELDS[path].instead:
            instead = settings.FIELDS[path].instead
            raise UserError(f"{path}: cannot differ between the trainings of a population; {instead}")


def check_possible(config: ml_collections.ConfigDict) -> None:
    """Checks that a config asks for nothing that only a single run can do.

    Raises:
      UserError: it does.
    """
    values = settings.fields(config)
    for path, field in settings.FIELDS.items():
        if field.runs_only and values[path] != field.default:
            raise UserError(f"{path}: is for `plumbline train`, not for populations; {field.runs_only}")


def program_key(config: ml_collections.ConfigDict) -> str:
    """A key that is equal for configs which can share a compiled program: all of a config that is not data of it."""
    values, parts = settings.used_fields(config), {}
    # Files of populations hold a hash of the key, so the order counts.
    for path in sorted(values, key=lambda path: path == _LAST_IN_KEY):
        part = settings.FIELDS[path].program if path in settings.FIELDS else lambda value: value
        if part is not None:
            parts[path] = part(values[path])
    return json.dumps(parts, default=list)
