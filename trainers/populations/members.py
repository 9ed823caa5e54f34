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
from trainers.run.directory import compared
from trainers.step import hyperparameters

_NO_ROWS = np.zeros(0, np.int64)
# What all members have in common: the rows there are, and where and how they are trained.
_SHARED = ("data.", "mesh.", "parallel.", "execution.", "population.", "seed")
# But of the data, these are fitted on each member's own rows.
_FITTED = ("data.class_weights", "data.normalize")
# What a run does that a member of a population does not.
_OF_RUNS = {
    "transfer.cache_features": "leave it out",
    "transfer.check": "add a variant from scratch, {'transfer.source': ''}",
}
# Data of a compiled program, as hyperparameters are.
_TRACED = frozenset(hyperparameters.FIELDS.values()) | {
    "seed",
    "train.duration",
    "train.log_every",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.patience",
    "train.best_metric",
    "schedule.warmup",
    "schedule.rsqrt_timescale",
    "prune.sparsity",
    "prune.begin",
    "prune.end",
    "prune.every",
}
# But what is there or not makes another program, as the state is another one.
_THERE_OR_NOT = ("train.ema_decay", "prune.sparsity")


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
        if path.startswith(_SHARED) and path not in _FITTED:
            hint = "choose the seeds of the command instead" if path == "seed" else "train runs of their own for it"
            raise UserError(f"{path}: is the same for all trainings of a population; {hint}")


def check_possible(config: ml_collections.ConfigDict) -> None:
    """Checks that nothing is asked for that only runs of their own do.

    Raises:
      UserError: something is.
    """
    known = settings.fields(config)
    for field, instead in _OF_RUNS.items():
        if known[field]:
            raise UserError(f"{field}: is for experiments.train, not for populations; {instead}")


def program_key(config: ml_collections.ConfigDict) -> str:
    """The same for configs that one compiled program serves: all of a config that is no data of it."""
    flat = compared(config.to_dict())
    flat["model.remat"] = config.model.remat
    # Its entries are data, their number is not.
    flat["schedule.step_at"] = len(config.schedule.step_at)
    flat["transfer.unfreeze"] = [pattern for pattern, _ in config.transfer.unfreeze]
    flat |= {name: flat[name] != 0 for name in _THERE_OR_NOT}
    return json.dumps({n: v for n, v in flat.items() if n not in _TRACED.difference(_THERE_OR_NOT)}, default=list)
