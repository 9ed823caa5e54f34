"""Trainings with a source and from scratch on further seeds, to tell the two ways to train from chance."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from data.pool import Pool, load_pool
from diagnostics.scores import Score, by_row
from plumbline import UserError
from trainers.populations.members import Member, Outcome, check_possible
from trainers.populations.population import Population
from trainers.run.directory import RunDirectory
from trainers.run.inference import FinishedRun
from trainers.settings import FIELDS, override

# Fields that only runs have, and that change no result.
_RUNS_ONLY = {path: field.default for path, field in FIELDS.items() if field.runs_only and path.startswith("transfer.")}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Repetitions:
    """The scores of trainings on further seeds; of each row, whether it is right, or its squared error.

    Attributes:
      transfer: (R, n) of trainings with the source, on the rows of the test split.
      scratch: (R, n) of trainings from scratch with the same seeds.
      seeds: (R,) of them; without those of which a training diverged.
      missing: why there are none although there should be; "" if there are.
    """

    transfer: np.ndarray
    scratch: np.ndarray
    seeds: tuple[int, ...]
    missing: str = ""


def none(count: int, missing: str = "") -> Repetitions:
    """Returns no repetitions.

    Args:
      count: number n of test rows.
      missing: why.
    """
    empty = np.zeros((0, count))
    return Repetitions(transfer=empty, scratch=empty, seeds=(), missing=missing)


def train(
    config: ml_collections.ConfigDict, run: FinishedRun, directory: RunDirectory, scratch: Mapping[str, Any], count: int
) -> Repetitions:
    """Trains with the source and from scratch on the seeds after that of the run, as one population.

    The rows are those of the run: its seed splits the data and draws examples for all of them.

    Args:
      config: of the run.
      run: that is repeated.
      directory: of the run; the population is saved in `repetitions`, so that it can resume.
      scratch: overrides of a training from scratch.
      count: number n of test rows.

    Raises:
      UserError: a training cannot be repeated, such as for want of the source.
      Preempted: a signal to stop has come.
    """
    seeds = tuple(range(config.seed + 1, config.seed + config.transfer.check_seeds))
    if not seeds:
        return none(count)
    metric = run.program.objective.best_metric
    # Other metrics cannot be computed from predictions of rows.
    if run.features.task == "language" or metric != Score(run.features.task).name:
        return none(count, f"repetitions are judged by accuracy or squared errors, not by {metric}")
    shared = override(config, _RUNS_ONLY)
    try:
        check_possible(shared)
        pool = load_pool(config.data, seed=config.seed)
    except UserError as error:
        return none(count, str(error))
    # The fields of transfer that only runs have are among those from scratch.
    scratch = {path: value for path, value in scratch.items() if path not in _RUNS_ONLY}
    both = ("transfer", {}), ("scratch", scratch)
    members = [_member(pool, seed, name, own) for seed in seeds for name, own in both]
    population = Population(shared, pool, directory=directory.repetitions)
    return _gather(pool, seeds, population.train(members, predict=True))


def _member(pool: Pool, seed: int, name: str, overrides: Mapping[str, Any]) -> Member:
    return Member(
        name=f"{name}, seed {seed}",
        overrides=overrides,
        seed=seed,
        train=pool.splits["train"],
        held_out=pool.splits["test"],
        validation=pool.splits.get("validation", np.zeros(0, np.int64)),
    )


def _gather(pool: Pool, seeds: tuple[int, ...], outcomes: Mapping[str, Outcome]) -> Repetitions:
    def finished(seed: int) -> bool:
        return all(outcomes[f"{name}, seed {seed}"].predictions is not None for name in ("transfer", "scratch"))

    def score(name: str) -> np.ndarray:
        labels = pool.labels[pool.splits["test"]]
        found = [outcomes[f"{name}, seed {seed}"].predictions for seed in kept]
        return by_row(np.stack(found), labels, pool.features.task)

    kept = tuple(seed for seed in seeds if finished(seed))
    if not kept:
        return none(len(pool.splits["test"]), "all repetitions diverged")
    return Repetitions(transfer=score("transfer"), scratch=score("scratch"), seeds=kept)
